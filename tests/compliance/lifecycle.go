package compliance

import (
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func lifecycleCases() []Case {
	return []Case{
		{"DeployRunsAndDestroyRemoves", "a deployed workload runs and a destroyed one leaves nothing", deployAndDestroy},
		{"StatusSaysWhatRuns", "the status identifies the workload, its command and its instances", statusSaysWhatRuns},
		{"DeployTwiceChangesNothing", "deploying what runs restarts nothing, for the same command and for a newer one", deployTwice},
		{"DestroyIsIdempotent", "destroying what is not there is no error", destroyIdempotent},
		{"UnknownWorkloadIsNotFound", "every reading method and restart say ErrNotFound", unknownWorkload},
		{"MalformedIDIsRefused", "an ID that is none is ErrInvalidSpec", malformedID},
		{"RestartedWorkerSeesEverything", "a fresh driver adopts what another one made", restartedWorker},
		{"CloseLeavesWorkloads", "closing a driver touches no workload", closeLeaves},
		{"UnsupportedIsRefused", "a field the backend cannot honour is refused with its path and nothing is made", unsupported},
		{"InterfacesAreDeclared", "optional interfaces are there exactly when declared", interfaces},
		{"ProgressIsReported", "a deploy reports its steps", progress},
	}
}

func deployAndDestroy(r *run) {
	if err := r.d.Ping(r.timed()); err != nil {
		r.Fatalf("ping: %v", err)
	}
	s := r.spec(r.h.Workloads.Sleeper("web", 1))
	st := r.deploy(s)
	if st.Phase != drivers.PhaseRunning || st.Ready != 1 || st.Desired != 1 {
		r.Errorf("want running 1/1, got %+v", st)
	}
	r.wantPhase(s.ID(), drivers.PhaseRunning)
	r.destroy(s.ID())
	r.wantGone(s.ID())
	r.wantNothingLeft()
}

func statusSaysWhatRuns(r *run) {
	s := r.spec(r.h.Workloads.Sleeper("web", 1))
	before := time.Now()
	cmd := r.command()
	st, err := r.d.Deploy(cmd.on(r.timed()), s)
	if err != nil || st == nil {
		r.Fatalf("deploy: %+v, %v", st, err)
	}
	for _, st := range []*drivers.WorkloadStatus{st, r.status(s.ID())} {
		if st.ID != s.ID() || st.Namespace != r.ns || st.Name != "web" || st.Backend != r.d.Backend() || st.Node != r.h.Node {
			r.Errorf("want the workload's identity, got %+v", st)
		}
		if st.Sequence != cmd.Sequence || st.CommandID != cmd.ID {
			r.Errorf("want command %d %s, got %d %s", cmd.Sequence, cmd.ID, st.Sequence, st.CommandID)
		}
		if st.Image != s.Image || st.ImageID == "" || st.Revision == "" {
			r.Errorf("want image and revision, got %+v", st)
		}
		if st.Revision != s.Revision(st.ImageID) {
			r.Errorf("want revision %s, got %s", s.Revision(st.ImageID), st.Revision)
		}
		if st.ObservedAt.Before(before.Add(-time.Minute)) || len(st.Instances) != 1 {
			r.Errorf("want one instance, observed now, got %+v", st)
			continue
		}
		in := st.Instances[0]
		if in.Instance != 0 || in.ID == "" || in.Revision != st.Revision || in.ExitCode != nil || in.Phase != drivers.PhaseRunning {
			r.Errorf("want instance 0 running, got %+v", in)
		}
		if _, err := time.Parse(time.RFC3339Nano, in.StartedAt); err != nil {
			r.Errorf("startedAt: %v", err)
		}
	}
}

func deployTwice(r *run) {
	s := r.spec(r.h.Workloads.Sleeper("web", 1))
	cmd := r.command()
	if _, err := r.d.Deploy(cmd.on(r.timed()), s); err != nil {
		r.Fatalf("deploy: %v", explain(err))
	}
	first := r.instance(s.ID())
	if _, err := r.d.Deploy(cmd.on(r.timed()), s); err != nil {
		r.Errorf("deploy again: %v", explain(err))
	}
	r.deploy(s)
	again := r.instance(s.ID())
	if again.ID != first.ID || again.StartedAt != first.StartedAt || again.Restarts != first.Restarts {
		r.Errorf("want the same life of the same instance, got %+v, then %+v", first, again)
	}
}

func destroyIdempotent(r *run) {
	r.destroy(r.id("never-was"))
	s := r.spec(r.h.Workloads.Sleeper("web", 1))
	r.deploy(s)
	cmd := r.command()
	for range 2 {
		if err := r.d.Destroy(cmd.on(r.timed()), s.ID()); err != nil {
			r.Errorf("destroy: %v", err)
		}
	}
	r.wantGone(s.ID())
}

func unknownWorkload(r *run) {
	id := r.id("never-was")
	_, err := r.d.GetStatus(r.timed(), id)
	r.wantClass("get status", err, drivers.ErrNotFound)
	r.wantClass("restart", r.d.Restart(r.command().on(r.timed()), id), drivers.ErrNotFound)
	_, err = r.d.StreamLogs(r.timed(), id, nil)
	r.wantClass("stream logs", err, drivers.ErrNotFound)
	if l, ok := r.d.(drivers.LogReader); ok {
		err := l.ReadLogs(r.timed(), id, nil, func(drivers.LogLine) error { return nil })
		r.wantClass("read logs", err, drivers.ErrNotFound)
	}
	if s, ok := r.d.(drivers.StatsReader); ok {
		_, err := s.ReadStats(r.timed(), id)
		r.wantClass("read stats", err, drivers.ErrNotFound)
	}
}

func malformedID(r *run) {
	for _, id := range []string{"", "web", "a/b/c/d", "UPPER/web", "../web", "shop/", "shop/web;rm"} {
		_, err := r.d.GetStatus(r.timed(), id)
		r.wantClass("get status of "+id, err, drivers.ErrInvalidSpec)
		r.wantClass("destroy "+id, r.d.Destroy(r.timed(), id), drivers.ErrInvalidSpec)
		r.wantClass("restart "+id, r.d.Restart(r.timed(), id), drivers.ErrInvalidSpec)
		_, err = r.d.StreamLogs(r.timed(), id, nil)
		r.wantClass("stream logs of "+id, err, drivers.ErrInvalidSpec)
	}
}

func restartedWorker(r *run) {
	s := r.spec(r.h.Workloads.Prints("web", "hello"))
	r.deploy(s)
	first := r.instance(s.ID())
	r.d = r.open()
	second := r.instance(s.ID())
	if second.ID != first.ID || second.StartedAt != first.StartedAt {
		r.Errorf("want %+v, got %+v", first, second)
	}
	r.wantLines(s.ID(), nil, "hello")
	r.deploy(s)
	if third := r.instance(s.ID()); third.ID != first.ID || third.StartedAt != first.StartedAt {
		r.Errorf("want that a deploy by a fresh driver changes nothing, got %+v, then %+v", first, third)
	}
	r.destroy(s.ID())
	r.wantNothingLeft()
}

func closeLeaves(r *run) {
	s := r.spec(r.h.Workloads.Sleeper("web", 1))
	r.deploy(s)
	first := r.instance(s.ID())
	c, ok := r.d.(drivers.Closer)
	if !ok {
		r.Fatalf("the driver of %s cannot be closed", r.d.Backend())
	}
	if err := c.Close(); err != nil {
		r.Errorf("close: %v", err)
	}
	r.d = r.open()
	if again := r.instance(s.ID()); again.ID != first.ID || again.StartedAt != first.StartedAt || again.Phase != drivers.PhaseRunning {
		r.Errorf("want %+v, got %+v", first, again)
	}
}

func unsupported(r *run) {
	for path, set := range r.h.Features.Refused {
		s := r.h.Workloads.Sleeper("web", 1)
		set(s)
		s = r.spec(s)
		_, err := r.tryDeploy(s)
		r.wantField("deploy with "+path, err, drivers.ErrUnsupported, path)
		if c, ok := r.d.(drivers.SpecChecker); ok {
			r.wantField("check "+path, c.CheckSpec(s), drivers.ErrUnsupported, path)
		}
	}
	r.wantNothingLeft()
}

func interfaces(r *run) {
	f := r.h.Features
	check := func(name string, declared, is bool) {
		if declared != is {
			r.Errorf("%s: declared %t, implemented %t", name, declared, is)
		}
	}
	_, is := r.d.(drivers.Watcher)
	check("Watcher", f.Watch, is)
	_, is = r.d.(drivers.LogReader)
	check("LogReader", f.Logs, is)
	_, is = r.d.(drivers.StatsReader)
	check("StatsReader", f.Stats, is)
	_, is = r.d.(drivers.ImageManager)
	check("ImageManager", f.Images, is)
	_, is = r.d.(drivers.SpecChecker)
	check("SpecChecker", f.SpecCheck, is)
	id, is := r.d.(drivers.Identifier)
	check("Identifier", f.Identity, is)
	if !is {
		return
	}
	one, err := id.EngineInfo(r.timed())
	if err != nil || one == nil || one.ID == "" {
		r.Fatalf("want an engine with an ID, got %+v, %v", one, err)
	}
	two, err := r.open().(drivers.Identifier).EngineInfo(r.timed())
	if err != nil || two.ID != one.ID {
		r.Errorf("want engine %s for a second driver, got %+v, %v", one.ID, two, err)
	}
}

func progress(r *run) {
	s := r.spec(r.h.Workloads.Sleeper("web", 1))
	cmd := r.command()
	if _, err := r.d.Deploy(cmd.on(r.timed()), s); err != nil {
		r.Fatalf("deploy: %v", explain(err))
	}
	for _, phase := range []drivers.Phase{drivers.PhaseCreating, drivers.PhaseStarting} {
		if !cmd.reported(phase) {
			r.Errorf("want a report of %q, got %+v", phase, cmd.steps)
		}
	}
}
