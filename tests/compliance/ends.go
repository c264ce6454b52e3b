package compliance

import (
	"fmt"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func endCases() []Case {
	return []Case{
		{"ExitCodeIsReported", "an instance that ends with an error and stays down is failed, with its code", exitCode},
		{"JobCompletes", "a job that ends with 0 is a success, and deploying it again does not run it again", jobCompletes},
		{"CrashLoopIsCounted", "an instance that crashes and is brought back counts its restarts", crashLoop},
		{"AttemptsAreBounded", "on-failure gives up after its attempts", attempts},
		{"OutOfMemoryIsTold", "an OOM kill is told from a crash", outOfMemory},
		{"StopGraceIsKept", "what ignores its stop signal is killed when the grace is over, not before", grace},
	}
}

// later is a time after the monitor window, when a deploy has been decided.
func (r *run) later() time.Duration { return r.h.Timeouts.Monitor + 700*time.Millisecond }

func exitCode(r *run) {
	s := r.h.Workloads.Exits("job", r.later(), 5)
	s.Restart.Policy = drivers.RestartNo
	s = r.spec(s)
	r.deploy(s)
	st := r.wantPhase(s.ID(), drivers.PhaseFailed)
	in := r.one(st)
	if in.ExitCode == nil || *in.ExitCode != 5 || in.OOMKilled || in.FinishedAt == "" || in.Phase != drivers.PhaseFailed {
		r.Errorf("want exit code 5, got %+v", in)
	}
	if st.Ready != 0 {
		r.Errorf("want none ready, got %+v", st)
	}
}

func jobCompletes(r *run) {
	s := r.h.Workloads.Exits("job", 0, 0)
	s.Restart.Policy = drivers.RestartNo
	s = r.spec(s)
	cmd := r.command()
	if _, err := r.d.Deploy(cmd.on(r.timed()), s); err != nil {
		r.Fatalf("deploy: %v", explain(err))
	}
	r.wantPhase(s.ID(), drivers.PhaseCompleted)
	first := r.instance(s.ID())
	if first.ExitCode == nil || *first.ExitCode != 0 {
		r.Errorf("want exit code 0, got %+v", first)
	}
	for _, again := range []*command{cmd, r.command()} {
		if _, err := r.d.Deploy(again.on(r.timed()), s); err != nil {
			r.Fatalf("deploy again: %v", explain(err))
		}
		if now := r.instance(s.ID()); now.ID != first.ID || now.StartedAt != first.StartedAt {
			r.Fatalf("want the job not run again by command %d, got %+v, then %+v", again.Sequence, first, now)
		}
	}
}

func crashLoop(r *run) {
	s := r.spec(r.h.Workloads.Exits("web", r.later(), 4))
	r.deploy(s)
	r.eventually("a restart is counted", func() error {
		if in := r.instance(s.ID()); in.Restarts < 1 {
			return fmt.Errorf("got %+v", in)
		}
		return nil
	})
}

func attempts(r *run) {
	s := r.h.Workloads.Exits("web", r.later(), 4)
	s.Restart = drivers.RestartPolicy{Policy: drivers.RestartOnFailure, Attempts: 1}
	s = r.spec(s)
	r.deploy(s)
	st := r.wantPhase(s.ID(), drivers.PhaseFailed)
	if in := r.one(st); in.Restarts != 1 || in.ExitCode == nil || *in.ExitCode != 4 {
		r.Errorf("want failed with code 4 after one restart, got %+v", in)
	}
}

func outOfMemory(r *run) {
	s := r.h.Workloads.OutOfMemory("web", r.later())
	s.Restart.Policy = drivers.RestartNo
	if !r.h.Features.OOM {
		_, err := r.tryDeploy(r.spec(s))
		r.wantField("memory limit", err, drivers.ErrUnsupported, "resources.memory")
		return
	}
	s = r.spec(s)
	r.deploy(s)
	st := r.wantPhase(s.ID(), drivers.PhaseFailed)
	if in := r.one(st); !in.OOMKilled {
		r.Errorf("want an OOM kill, got %+v", in)
	}
	// A rollout that fails for it says so too.
	now := r.h.Workloads.OutOfMemory("other", 0)
	now.Restart.Policy = drivers.RestartNo
	now.Update.Monitor = drivers.DurationPtr(r.h.Timeouts.Step / 2)
	_, err := r.tryDeploy(r.spec(now))
	r.wantRollout("deploy out of memory", err, "OOMKilled")
}

func grace(r *run) {
	s := r.h.Workloads.IgnoresTerm("web")
	const grace = time.Second
	s.Stop.Grace = drivers.DurationPtr(grace)
	s = r.spec(s)
	r.deploy(s)
	began := time.Now()
	r.destroy(s.ID())
	if took := time.Since(began); took < grace || took > grace+r.h.Timeouts.Slack {
		r.Errorf("want the whole grace of %s and at most %s more, took %s", grace, r.h.Timeouts.Slack, took)
	}
	// What does as it is asked is not waited for.
	quick := r.h.Workloads.Sleeper("quick", 1)
	quick.Stop.Grace = drivers.DurationPtr(r.h.Timeouts.Slack * 3)
	quick = r.spec(quick)
	r.deploy(quick)
	began = time.Now()
	r.destroy(quick.ID())
	if took := time.Since(began); took > r.h.Timeouts.Slack {
		r.Errorf("want a quick stop, took %s", took)
	}
}
