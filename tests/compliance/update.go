package compliance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func updateCases() []Case {
	return []Case{
		{"UpdateStartFirst", "the new revision is up before the old one goes", updateStartFirst},
		{"UpdateStopFirst", "the old revision is gone before the new one runs", updateStopFirst},
		{"StartFirstRefusedForFixedPort", "start-first with a fixed host port is refused at update.order", startFirstFixedPort},
		{"BrokenUpdateRollsBack", "a new revision that crashes is replaced by the old one, which never stopped (start-first)", brokenUpdate},
		{"BrokenUpdateRollsBackStopFirst", "the same where the old one had been stopped", brokenUpdateStopFirst},
		{"UnhealthyUpdateRollsBack", "a new revision that never gets healthy is rolled back with the check's output", unhealthyUpdate},
		{"FirstDeployFailingLeavesNothing", "a first deploy that fails removes what it made and shows the last lines", firstDeployFails},
		{"RollbackGoesToGoodRevision", "a rollback skips a revision that was never good", rollbackToGood},
		{"RollbackCanBeOff", "without rollback the error says so and nothing is put back", rollbackOff},
	}
}

// lives watches which revisions of a workload run while f works.
func (r *run) lives(id string, f func()) (samples [][]string) {
	ctx, cancel := context.WithCancel(r.timed())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			st, err := r.d.GetStatus(ctx, id)
			if err != nil {
				continue
			}
			var running []string
			for _, in := range st.Instances {
				if in.Phase == drivers.PhaseRunning || in.Phase == drivers.PhaseHealthy {
					running = append(running, in.Revision)
				}
			}
			samples = append(samples, running)
			select {
			case <-time.After(2 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	f()
	cancel()
	wg.Wait()
	return samples
}

func updateStartFirst(r *run) {
	r.deploy(r.spec(r.h.Workloads.Sleeper("web", 1)))
	s := r.h.Workloads.Sleeper("web", 2)
	s.Update.Order = drivers.StartFirst
	s.Update.Monitor = drivers.DurationPtr(max(r.h.Timeouts.Monitor, 300*time.Millisecond))
	spec := r.spec(s)
	old := r.instance(spec.ID())
	both := false
	for _, running := range r.lives(spec.ID(), func() { r.deploy(spec) }) {
		both = both || len(running) == 2
		if len(running) == 0 {
			r.Errorf("want one revision running at any time, there was a moment without")
			break
		}
	}
	if !both {
		r.Errorf("want both revisions side by side during the monitor window")
	}
	if now := r.instance(spec.ID()); now.Revision == old.Revision || now.ID == old.ID {
		r.Errorf("want the new revision only, got %+v", now)
	}
}

func updateStopFirst(r *run) {
	r.deploy(r.spec(r.h.Workloads.Sleeper("web", 1)))
	s := r.h.Workloads.Sleeper("web", 2)
	s.Update.Order = drivers.StopFirst
	s.Update.Monitor = drivers.DurationPtr(max(r.h.Timeouts.Monitor, 300*time.Millisecond))
	spec := r.spec(s)
	old := r.instance(spec.ID())
	for _, running := range r.lives(spec.ID(), func() { r.deploy(spec) }) {
		if len(running) > 1 {
			r.Errorf("want one revision running at a time, got %v", running)
			break
		}
	}
	if now := r.instance(spec.ID()); now.Revision == old.Revision || now.Phase != drivers.PhaseRunning {
		r.Errorf("want the new revision running, got %+v", now)
	}
}

func startFirstFixedPort(r *run) {
	s := r.h.Workloads.Sleeper("web", 1)
	s.Namespace = r.ns
	s.Ports = []drivers.Port{{ContainerPort: 80, HostPort: 18080}}
	s.Update.Order = drivers.StartFirst
	s = s.WithDefaults()
	err := s.Validate()
	if err == nil {
		// Then it is the driver's to refuse.
		_, err = r.tryDeploy(s)
	}
	r.wantField("start-first with a fixed port", err, drivers.ErrInvalidSpec, "update.order")
	if err != nil && !strings.Contains(err.Error(), "18080") {
		r.Errorf("want the reason, port 18080, got %v", err)
	}
}

func brokenUpdate(r *run) { r.brokenUpdate(drivers.StartFirst) }

func brokenUpdateStopFirst(r *run) { r.brokenUpdate(drivers.StopFirst) }

func (r *run) brokenUpdate(order string) {
	good := r.deploy(r.spec(r.h.Workloads.Sleeper("web", 1)))
	old := r.instance(good.ID)
	s := r.h.Workloads.PrintsAndExits("web", 3, "cannot open configuration")
	s.Update.Order = order
	s = r.spec(s)
	cmd := r.command()
	cmd.GoodRevision = good.Revision
	st, err := r.d.Deploy(cmd.on(r.timed()), s)
	if err == nil {
		r.Fatalf("want the update refused, got %+v", st)
	}
	fault := r.wantRollout("broken update", err, "Crashed")
	if !fault.RolledBack || fault.RollbackError != "" || fault.ExitCode != 3 || fault.Instance != 0 {
		r.Errorf("want rolled back, exit code 3 of instance 0, got %+v", fault)
	}
	if !slices.Contains(fault.LastLogs, "cannot open configuration") {
		r.Errorf("want the instance's last lines, got %q", fault.LastLogs)
	}
	if !cmd.reported(drivers.PhaseRollingBack) || !cmd.reported(drivers.PhaseRolledBack) {
		r.Errorf("want the rollback reported, got %+v", cmd.steps)
	}
	back := r.wantPhase(good.ID, drivers.PhaseRunning)
	if len(back.Instances) != 1 || back.Revision != good.Revision {
		r.Fatalf("want revision %s alone, got %+v", good.Revision, back)
	}
	now := r.one(back)
	if order == drivers.StartFirst && (now.ID != old.ID || now.StartedAt != old.StartedAt) {
		r.Errorf("want the old instance untouched, got %+v, then %+v", old, now)
	}
}

func unhealthyUpdate(r *run) {
	good := r.deploy(r.spec(r.h.Workloads.Becomes("web", "exec", 0)))
	s := r.spec(r.h.Workloads.Becomes("web", "exec", -1))
	_, err := r.tryDeploy(s)
	fault := r.wantRollout("unhealthy update", err, "Unhealthy")
	if !fault.RolledBack || fault.HealthOutput == "" {
		r.Errorf("want rolled back with the check's output, got %+v", fault)
	}
	if st := r.wantPhase(good.ID, drivers.PhaseHealthy); st.Revision != good.Revision {
		r.Errorf("want revision %s, got %+v", good.Revision, st)
	}
}

func firstDeployFails(r *run) {
	s := r.h.Workloads.PrintsAndExits("web", 7, "no such table")
	s.Volumes = []drivers.Volume{{Source: "data", Target: "/data"}}
	s.Networks = []drivers.Network{{Name: "back"}}
	s = r.spec(s)
	_, err := r.tryDeploy(s)
	fault := r.wantRollout("first deploy", err, "Crashed")
	if fault.RolledBack || fault.ExitCode != 7 || !slices.Contains(fault.LastLogs, "no such table") {
		r.Errorf("want exit code 7, the last lines and nothing to roll back to, got %+v", fault)
	}
	r.wantGone(s.ID())
	r.wantNothingLeft()
}

func rollbackToGood(r *run) {
	good := r.deploy(r.spec(r.h.Workloads.Sleeper("web", 1)))
	// The second revision is interrupted before it is decided, as by a shutdown.
	half := r.spec(r.h.Workloads.Becomes("web", "exec", time.Hour))
	r.interrupt(half, context.Canceled)
	cmd := r.command()
	cmd.GoodRevision = good.Revision
	_, err := r.d.Deploy(cmd.on(r.timed()), r.spec(r.h.Workloads.PrintsAndExits("web", 3)))
	fault := r.wantRollout("third revision", err, "Crashed")
	if !fault.RolledBack {
		r.Errorf("want rolled back, got %+v", fault)
	}
	r.eventually("the good revision runs alone", func() error {
		st := r.status(good.ID)
		if len(st.Instances) != 1 || st.Instances[0].Revision != good.Revision || st.Phase != drivers.PhaseRunning {
			return fmt.Errorf("got %s %+v", st.Phase, st.Instances)
		}
		return nil
	})
}

func rollbackOff(r *run) {
	good := r.deploy(r.spec(r.h.Workloads.Sleeper("web", 1)))
	s := r.h.Workloads.PrintsAndExits("web", 3)
	s.Update.Order = drivers.StopFirst
	off := false
	s.Update.Rollback = &off
	_, err := r.tryDeploy(r.spec(s))
	if fault := r.wantRollout("update without rollback", err, "Crashed"); fault.RolledBack {
		r.Errorf("want nothing rolled back, got %+v", fault)
	}
	st, err := r.d.GetStatus(r.timed(), good.ID)
	if err != nil && !errors.Is(err, drivers.ErrNotFound) {
		r.Fatalf("get status: %v", err)
	}
	if err == nil {
		for _, in := range st.Instances {
			if in.Revision == good.Revision && in.Phase == drivers.PhaseRunning {
				r.Errorf("want the old revision left stopped, got %+v", in)
			}
		}
	}
}

// wantField wants an error of a class that names the field at path.
func (r *run) wantField(what string, err, class error, path string) {
	r.Helper()
	r.wantClass(what, err, class)
	var faults *drivers.FieldErrors
	if !errors.As(err, &faults) {
		r.Errorf("%s: want *drivers.FieldErrors, got %v", what, err)
		return
	}
	if !slices.ContainsFunc(faults.Fields, func(f drivers.FieldError) bool { return f.Path == path }) {
		r.Errorf("%s: want the path %s, got %v", what, path, err)
	}
}
