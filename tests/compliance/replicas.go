package compliance

import (
	"fmt"
	"slices"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func replicaCases() []Case {
	return []Case{
		{"ScaleUpAndDown", "more or fewer replicas leave the others alone", scale},
		{"ScaleToZeroAndBack", "no replicas: nothing runs, the workload is still known, and it comes back", scaleToZero},
		{"UpdateOfReplicas", "an update replaces every instance and keeps the ordinals", updateReplicas},
	}
}

func (r *run) replicas(s *drivers.WorkloadSpec, n int) *drivers.WorkloadSpec {
	r.Helper()
	s.Replicas = &n
	return r.spec(s)
}

// lives by ordinal: what must not change where nothing is to happen.
func lives(st *drivers.WorkloadStatus) map[int]string {
	out := map[int]string{}
	for _, in := range st.Instances {
		out[in.Instance] = in.ID + " " + in.StartedAt
	}
	return out
}

func (r *run) wantReplicas(id string, n int) map[int]string {
	r.Helper()
	st := r.status(id)
	if st.Phase != drivers.PhaseRunning || st.Desired != n || st.Ready != n || len(st.Instances) != n {
		r.Errorf("want running %d/%d, got %s %d/%d: %+v", n, n, st.Phase, st.Ready, st.Desired, st.Instances)
	}
	for i, in := range st.Instances {
		if in.Instance != i {
			r.Errorf("want ordinals from 0 in order, got %+v", st.Instances)
		}
	}
	return lives(st)
}

func scale(r *run) {
	web := func(n int) *drivers.WorkloadSpec { return r.replicas(r.h.Workloads.Sleeper("web", 1), n) }
	id := r.id("web")
	r.deploy(web(2))
	two := r.wantReplicas(id, 2)
	r.deploy(web(3))
	three := r.wantReplicas(id, 3)
	for i := range 2 {
		if two[i] != three[i] {
			r.Errorf("want instance %d left alone, was %s, is %s", i, two[i], three[i])
		}
	}
	r.deploy(web(1))
	if one := r.wantReplicas(id, 1); one[0] != two[0] {
		r.Errorf("want instance 0 left alone, was %s, is %s", two[0], one[0])
	}
}

func scaleToZero(r *run) {
	web := func(n int) *drivers.WorkloadSpec {
		s := r.h.Workloads.Counts("web", 1)
		return r.replicas(s, n)
	}
	id := r.id("web")
	r.deploy(web(1))
	r.wantLines(id, nil, "starts=1")
	r.deploy(web(0))
	st := r.status(id)
	if st.Phase != drivers.PhaseStopped || st.Desired != 0 || st.Ready != 0 {
		r.Errorf("want stopped 0/0, got %+v", st)
	}
	for _, in := range st.Instances {
		if in.Phase == drivers.PhaseRunning {
			r.Errorf("want none running, got %+v", in)
		}
	}
	if err := r.d.Restart(r.command().on(r.timed()), id); err != nil {
		r.Errorf("restart of no instances: %v", err)
	}
	if st := r.status(id); st.Phase != drivers.PhaseStopped {
		r.Errorf("want that a restart starts none, got %+v", st)
	}
	r.deploy(web(1))
	r.wantPhase(id, drivers.PhaseRunning)
	r.eventually("the volume was kept", func() error {
		if got := r.text(id, nil); !slices.Contains(got, "starts=2") {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
}

func updateReplicas(r *run) {
	r.deploy(r.replicas(r.h.Workloads.Sleeper("web", 1), 3))
	old := r.wantReplicas(r.id("web"), 3)
	s := r.h.Workloads.Sleeper("web", 2)
	s.Update.Parallelism = 2
	r.deploy(r.replicas(s, 3))
	for i, life := range r.wantReplicas(r.id("web"), 3) {
		if old[i] == life {
			r.Errorf("want instance %d replaced, it is still %s", i, life)
		}
	}
}
