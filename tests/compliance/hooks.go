package compliance

import (
	"github.com/kranix-io/kranix-runtime/drivers"
)

func hookCases() []Case {
	return []Case{
		{"HookRunsOnce", "the pre-deploy hook runs once for a command, however often it is repeated", hookOnce},
		{"HookFailureTouchesNothing", "a hook that fails fails the deploy; what ran is not touched", hookFails},
		{"FirstHookFailureLeavesNothing", "a hook that fails on the first deploy leaves nothing", firstHookFails},
	}
}

func hookOnce(r *run) {
	s := r.spec(r.h.Workloads.WithHook(r.h.Workloads.Counts("web", 1), 0))
	cmd := r.command()
	for range 2 {
		if _, err := r.d.Deploy(cmd.on(r.timed()), s); err != nil {
			r.Fatalf("deploy: %v", explain(err))
		}
	}
	if !cmd.reported(drivers.PhaseHook) {
		r.Errorf("want the hook reported, got %+v", cmd.steps)
	}
	// One append of the hook, one of the start.
	r.wantLines(s.ID(), nil, "starts=2")
	if in := r.status(s.ID()).Instances; len(in) != 1 {
		r.Errorf("want the hook's container not shown as an instance, got %+v", in)
	}
}

func hookFails(r *run) {
	good := r.deploy(r.spec(r.h.Workloads.Counts("web", 1)))
	old := r.instance(good.ID)
	_, err := r.tryDeploy(r.spec(r.h.Workloads.WithHook(r.h.Workloads.Counts("web", 2), 9)))
	if fault := r.wantRollout("deploy", err, "HookFailed"); fault.ExitCode != 9 {
		r.Errorf("want exit code 9, got %+v", fault)
	}
	if now := r.instance(good.ID); now.ID != old.ID || now.StartedAt != old.StartedAt {
		r.Errorf("want the old instance untouched, got %+v, then %+v", old, now)
	}
}

func firstHookFails(r *run) {
	s := r.spec(r.h.Workloads.WithHook(r.h.Workloads.Counts("web", 1), 9))
	_, err := r.tryDeploy(s)
	r.wantRollout("deploy", err, "HookFailed")
	r.wantGone(s.ID())
	r.wantNothingLeft()
}
