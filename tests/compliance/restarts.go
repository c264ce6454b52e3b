package compliance

import (
	"slices"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func restartCases() []Case {
	return []Case{
		{"RestartKeepsRevision", "a restart gives every instance a new life of the same revision", restartKeeps},
		{"RestartOnceByBaseline", "repeated with its baseline, a restart restarts no instance twice", restartOnce},
		{"RestartRevivesTheDead", "a restart starts what has failed", restartFailed},
	}
}

func (r *run) restart(id string) {
	r.Helper()
	if err := r.d.Restart(r.command().on(r.timed()), id); err != nil {
		r.Fatalf("restart %s: %v", id, explain(err))
	}
}

func restartKeeps(r *run) {
	s := r.replicas(r.h.Workloads.Sleeper("web", 1), 2)
	r.deploy(s)
	before := r.status(s.ID())
	if len(before.Instances) != 2 {
		r.Fatalf("want two instances, got %+v", before)
	}
	r.restart(s.ID())
	after := r.wantPhase(s.ID(), drivers.PhaseRunning)
	if after.Revision != before.Revision || len(after.Instances) != 2 {
		r.Fatalf("want two instances of %s, got %+v", before.Revision, after)
	}
	for i, in := range after.Instances {
		if in.StartedAt == before.Instances[i].StartedAt {
			r.Errorf("want instance %d restarted, it still lives since %s", i, in.StartedAt)
		}
	}
}

func restartOnce(r *run) {
	s := r.replicas(r.h.Workloads.Sleeper("web", 1), 2)
	r.deploy(s)
	cmd := r.command()
	cmd.Baseline = r.status(s.ID()).Marks()
	if err := r.d.Restart(cmd.on(r.timed()), s.ID()); err != nil {
		r.Fatalf("restart: %v", explain(err))
	}
	first := r.status(s.ID()).Marks()
	if len(first) != 2 {
		r.Fatalf("want two instances, got %+v", first)
	}
	for _, m := range first {
		if slices.Contains(cmd.Baseline, m) {
			r.Errorf("want every instance restarted, %+v was not", m)
		}
	}
	if err := r.d.Restart(cmd.on(r.timed()), s.ID()); err != nil {
		r.Fatalf("restart again: %v", explain(err))
	}
	if again := r.status(s.ID()).Marks(); !slices.Equal(first, again) {
		r.Errorf("want none restarted twice, got %+v, then %+v", first, again)
	}
	// A worker that died half-way: one instance has its new life, the other not.
	half := r.command()
	half.Baseline = []drivers.InstanceMark{first[1]}
	if err := r.d.Restart(half.on(r.timed()), s.ID()); err != nil {
		r.Fatalf("restart of one: %v", explain(err))
	}
	last := r.status(s.ID()).Marks()
	if len(last) != 2 || last[0] != first[0] || last[1] == first[1] {
		r.Errorf("want instance 1 alone restarted, got %+v, then %+v", first, last)
	}
}

func restartFailed(r *run) {
	s := r.h.Workloads.Exits("web", r.later(), 5)
	s.Restart.Policy = drivers.RestartNo
	s = r.spec(s)
	r.deploy(s)
	failed := r.one(r.wantPhase(s.ID(), drivers.PhaseFailed))
	r.restart(s.ID())
	if now := r.instance(s.ID()); now.StartedAt == failed.StartedAt {
		r.Errorf("want a new life, got %+v", now)
	}
}
