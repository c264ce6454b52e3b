package compliance

import (
	"fmt"
	"slices"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func storageCases() []Case {
	return []Case{
		{"VolumeOutlivesUpdates", "a named volume keeps its data across updates and goes with the workload", volumeKept},
		{"VolumeIsRetained", "a retained volume stays when the workload is destroyed, and is used again", volumeRetained},
		{"NetworkNamesResolve", "workloads of a namespace reach each other by name and alias", networkNames},
		{"NetworkGoesWithTheLast", "a network stays while anybody uses it", networkLast},
		{"ExternalMustExist", "an external volume or network that is not there is ErrNotFound, and never made", external},
	}
}

func volumeKept(r *run) {
	id := r.id("web")
	r.deploy(r.spec(r.h.Workloads.Counts("web", 1)))
	r.wantLines(id, nil, "starts=1")
	r.deploy(r.spec(r.h.Workloads.Counts("web", 2)))
	r.wantLines(id, nil, "starts=2")
	r.destroy(id)
	r.wantNothingLeft()
	r.deploy(r.spec(r.h.Workloads.Counts("web", 1)))
	r.wantLines(id, nil, "starts=1")
}

func volumeRetained(r *run) {
	retained := func() *drivers.WorkloadSpec {
		s := r.h.Workloads.Counts("web", 1)
		for i := range s.Volumes {
			s.Volumes[i].Retain = true
		}
		return r.spec(s)
	}
	id := r.id("web")
	r.deploy(retained())
	r.wantLines(id, nil, "starts=1")
	r.destroy(id)
	r.wantGone(id)
	if left := r.h.Leftovers(r.T, r.ns); len(left) != 1 {
		r.Errorf("want the volume alone left, got %v", left)
	}
	r.deploy(retained())
	r.wantLines(id, nil, "starts=2")
	r.destroy(id)
	r.h.Purge(r.T, r.ns)
}

func networkNames(r *run) {
	s := r.h.Workloads.Serves("web", "served here")
	s.Networks = []drivers.Network{{Name: "back", Aliases: []string{"shop-front"}}}
	r.deploy(r.spec(s))
	for i, host := range []string{"web", "shop-front"} {
		f := r.h.Workloads.Fetches(fmt.Sprintf("fetch-%d", i), host)
		f.Networks = []drivers.Network{{Name: "back"}}
		f = r.spec(f)
		r.deploy(f)
		r.wantLines(f.ID(), nil, "got=served here")
	}
}

func networkLast(r *run) {
	join := func(name string) *drivers.WorkloadSpec {
		s := r.h.Workloads.Sleeper(name, 1)
		s.Networks = []drivers.Network{{Name: "back"}}
		return r.spec(s)
	}
	one, two := join("one"), join("two")
	r.deploy(one)
	r.deploy(two)
	r.destroy(one.ID())
	r.wantPhase(two.ID(), drivers.PhaseRunning)
	if left := r.h.Leftovers(r.T, r.ns); len(left) < 2 {
		r.Errorf("want the second workload and its network left, got %v", left)
	}
	r.destroy(two.ID())
	r.wantNothingLeft()
}

func external(r *run) {
	s := r.h.Workloads.Sleeper("web", 1)
	s.Volumes = []drivers.Volume{{Source: "kranix-compliance-absent", Target: "/data", External: true}}
	s = r.spec(s)
	_, err := r.tryDeploy(s)
	r.wantClass("absent external volume", err, drivers.ErrNotFound)
	n := r.h.Workloads.Sleeper("web", 1)
	n.Networks = []drivers.Network{{Name: "kranix-compliance-absent", External: true}}
	_, err = r.tryDeploy(r.spec(n))
	r.wantClass("absent external network", err, drivers.ErrNotFound)
	r.wantGone(s.ID())
	r.wantNothingLeft()
}

// text is the lines of a workload without their times.
func (r *run) text(id string, opts *drivers.LogOptions) []string {
	r.Helper()
	ch, err := r.d.StreamLogs(r.timed(), id, opts)
	if err != nil {
		r.Fatalf("stream logs of %s: %v", id, err)
	}
	var out []string
	for l := range ch {
		out = append(out, l)
	}
	return out
}

// wantLines wants the logs of a workload to be exactly these lines, at some time soon.
func (r *run) wantLines(id string, opts *drivers.LogOptions, want ...string) {
	r.Helper()
	r.eventually(fmt.Sprintf("%s printed %q", id, want), func() error {
		if got := r.text(id, opts); !slices.Equal(got, want) {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
}
