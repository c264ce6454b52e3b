package compliance

import (
	"strings"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func healthCases() []Case {
	return []Case{
		{"HealthExec", "a deploy waits until the command check passes", func(r *run) { r.healthy("exec") }},
		{"HealthHTTP", "a deploy waits until the HTTP check passes", func(r *run) { r.healthy("http") }},
		{"HealthTCP", "a deploy waits until the TCP check passes", func(r *run) { r.healthy("tcp") }},
		{"NeverHealthyFails", "a workload that never gets healthy fails its deploy and leaves nothing", neverHealthy},
		{"DeadlineFails", "a deploy that is not decided by its deadline fails as DeadlineExceeded and leaves nothing", deadline},
	}
}

func (r *run) healthy(kind string) {
	const after = 700 * time.Millisecond
	s := r.spec(r.h.Workloads.Becomes("web", kind, after))
	began := time.Now()
	st := r.deploy(s)
	if took := time.Since(began); took < after {
		r.Errorf("want the deploy to wait %s for the check, took %s", after, took)
	}
	if st.Phase != drivers.PhaseHealthy || st.Ready != 1 || r.one(st).Phase != drivers.PhaseHealthy {
		r.Errorf("want healthy, got %+v", st)
	}
}

func neverHealthy(r *run) {
	s := r.spec(r.h.Workloads.Becomes("web", "exec", -1))
	_, err := r.tryDeploy(s)
	if fault := r.wantRollout("deploy", err, "Unhealthy"); strings.TrimSpace(fault.HealthOutput) == "" || len(fault.HealthOutput) > 4096 {
		r.Errorf("want the check's output, at most 4 KiB, got %q", fault.HealthOutput)
	}
	r.wantGone(s.ID())
	r.wantNothingLeft()
}

func deadline(r *run) {
	s := r.spec(r.h.Workloads.Becomes("web", "exec", time.Hour))
	ctx, cancel := withTimeout(r, time.Second)
	defer cancel()
	_, err := r.d.Deploy(r.command().on(ctx), s)
	r.wantRollout("deploy", err, "DeadlineExceeded")
	r.wantGone(s.ID())
	r.wantNothingLeft()
}
