package compliance

import (
	"fmt"
	"slices"
	"sync"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func listCases() []Case {
	return []Case{
		{"ListIsOursAlone", "listing shows a namespace, or all, of this node only, in order", list},
		{"ListManyWorkloads", "many workloads are listed completely", listMany},
		{"NodesDoNotSeeEachOther", "another node on the same engine neither sees nor touches a workload", nodes},
		{"NeighbourSurvives", "what looks like ours and is another's survives update and destroy", neighbour},
		{"ConcurrentUse", "all methods may be called side by side", concurrent},
	}
}

func (r *run) ids(d drivers.RuntimeDriver, namespace string) []string {
	r.Helper()
	all, err := d.ListWorkloads(r.timed(), namespace)
	if err != nil {
		r.Fatalf("list workloads of %q: %v", namespace, err)
	}
	var out []string
	for _, st := range all {
		if st == nil {
			r.Fatalf("list workloads of %q: a status is nil", namespace)
		}
		out = append(out, st.ID)
	}
	return out
}

func list(r *run) {
	var want []string
	for _, name := range []string{"beta", "alpha", "gamma"} {
		s := r.spec(r.h.Workloads.Sleeper(name, 1))
		r.deploy(s)
		want = append(want, s.ID())
	}
	slices.Sort(want)
	if got := r.ids(r.d, r.ns); !slices.Equal(got, want) {
		r.Errorf("want %v, got %v", want, got)
	}
	all := r.ids(r.d, "")
	for _, id := range want {
		if !slices.Contains(all, id) {
			r.Errorf("want %s among all, got %v", id, all)
		}
	}
	if !slices.IsSorted(all) {
		r.Errorf("want all in order, got %v", all)
	}
	// A namespace that is the beginning of another one's name.
	if got := r.ids(r.d, r.ns[:len(r.ns)-1]); len(got) != 0 {
		r.Errorf("want none of a namespace that has none, got %v", got)
	}
	r.destroy(want[1])
	if got := r.ids(r.d, r.ns); !slices.Equal(got, []string{want[0], want[2]}) {
		r.Errorf("want the destroyed one gone, got %v", got)
	}
}

func listMany(r *run) {
	n := r.h.ManyWorkloads
	specs := make(chan *drivers.WorkloadSpec)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for s := range specs {
				if _, err := r.d.Deploy(r.command().on(r.timed()), s); err != nil {
					r.Errorf("deploy %s: %v", s.ID(), err)
				}
			}
		})
	}
	var want []string
	for i := range n {
		s := r.h.Workloads.Sleeper(fmt.Sprintf("web-%d", i), 1)
		s.Update.Monitor = drivers.DurationPtr(0)
		s = r.spec(s)
		want = append(want, s.ID())
		specs <- s
	}
	close(specs)
	wg.Wait()
	slices.Sort(want)
	if got := r.ids(r.d, r.ns); !slices.Equal(got, want) {
		r.Errorf("want %d workloads, got %d: %v", n, len(got), got)
	}
	work := make(chan string)
	for range 8 {
		wg.Go(func() {
			for id := range work {
				if err := r.d.Destroy(r.command().on(r.timed()), id); err != nil {
					r.Errorf("destroy %s: %v", id, err)
				}
			}
		})
	}
	for _, id := range want {
		work <- id
	}
	close(work)
	wg.Wait()
	if got := r.ids(r.d, r.ns); len(got) != 0 {
		r.Errorf("want none left, got %v", got)
	}
}

func nodes(r *run) {
	s := r.spec(r.h.Workloads.Sleeper("web", 1))
	r.deploy(s)
	mine := r.instance(s.ID())
	other := r.h.Open(r.T, r.h.Node+"-other", r.secrets)
	if _, err := other.GetStatus(r.timed(), s.ID()); err == nil {
		r.Errorf("want that another node does not see %s", s.ID())
	}
	if got := r.ids(other, r.ns); len(got) != 0 {
		r.Errorf("want that another node lists nothing, got %v", got)
	}
	if err := other.Destroy(r.command().on(r.timed()), s.ID()); err != nil {
		r.Errorf("destroy on a node that has nothing: %v", err)
	}
	if now := r.instance(s.ID()); now.ID != mine.ID || now.StartedAt != mine.StartedAt {
		r.Errorf("want the instance untouched, got %+v, then %+v", mine, now)
	}
}

func neighbour(r *run) {
	id := r.id("web")
	fate := r.h.Neighbour(r.T, id)
	r.deploy(r.spec(r.h.Workloads.Sleeper("web", 1)))
	r.deploy(r.spec(r.h.Workloads.Sleeper("web", 2)))
	if got := r.status(id); len(got.Instances) != 1 {
		r.Errorf("want one instance, got %+v", got.Instances)
	}
	r.destroy(id)
	if what := fate(); what != "" {
		r.Errorf("want the neighbour untouched: %s", what)
	}
}

func concurrent(r *run) {
	var wg sync.WaitGroup
	for i := range 4 {
		s := r.spec(r.h.Workloads.Ticks(fmt.Sprintf("web-%d", i)))
		wg.Go(func() {
			for range 2 {
				if _, err := r.d.Deploy(r.command().on(r.timed()), s); err != nil {
					r.Errorf("deploy %s: %v", s.ID(), err)
				}
				if st, err := r.d.GetStatus(r.timed(), s.ID()); err != nil || st.Ready != 1 {
					r.Errorf("want %s ready, got %+v, %v", s.ID(), st, err)
				}
				if _, err := r.d.ListWorkloads(r.timed(), r.ns); err != nil {
					r.Errorf("list: %v", err)
				}
				if l, ok := r.d.(drivers.LogReader); ok {
					if err := l.ReadLogs(r.timed(), s.ID(), nil, func(drivers.LogLine) error { return nil }); err != nil {
						r.Errorf("read logs of %s: %v", s.ID(), err)
					}
				}
				if err := r.d.Restart(r.command().on(r.timed()), s.ID()); err != nil {
					r.Errorf("restart %s: %v", s.ID(), err)
				}
			}
			if err := r.d.Destroy(r.command().on(r.timed()), s.ID()); err != nil {
				r.Errorf("destroy %s: %v", s.ID(), err)
			}
		})
	}
	// One workload destroyed and deployed at the same time: either may win, nothing
	// may break.
	s := r.spec(r.h.Workloads.Sleeper("contested", 1))
	for range 4 {
		wg.Go(func() { _, _ = r.d.Deploy(r.timed(), s) })
		wg.Go(func() { _ = r.d.Destroy(r.timed(), s.ID()) })
	}
	wg.Wait()
	r.destroy(s.ID())
	r.wantNothingLeft()
}
