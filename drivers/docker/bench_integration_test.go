//go:build integration

package docker

import (
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// TestDeployCostsLittleMoreThanTheEngine compares a deploy, up to the report that the
// workload runs, with the bare engine calls, in interleaved pairs. The bound is loose:
// it is there to catch a call too many, not to measure.
func TestDeployCostsLittleMoreThanTheEngine(t *testing.T) {
	d := newTestDriver(t)
	ctx := t.Context()
	var ours, bare []time.Duration
	for i := range 7 {
		s := testSpec(d, "bench", func(s *drivers.WorkloadSpec) {
			s.Command = []string{"sleep", "60"}
			s.Update.Monitor = drivers.DurationPtr(0)
			s.Stop.Grace = drivers.DurationPtr(0)
		})
		var running time.Time
		start := time.Now()
		mustDeploy(t, with(t, uint64(i)*2+1, func(c *drivers.Command) {
			c.Progress = func(p drivers.Progress) {
				if p.Phase == drivers.PhaseRunning {
					running = time.Now()
				}
			}
		}), d, s)
		ours = append(ours, running.Sub(start))
		b, err := translate(s, target{node: d.env.Node, revision: "bare", imageID: testImage, ordinal: i})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Destroy(with(t, uint64(i)*2+2), s.ID()); err != nil {
			t.Fatal(err)
		}
		start = time.Now()
		made, err := d.cli.ContainerCreate(ctx, b.Config, b.Host, nil, nil, b.Name)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.cli.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := d.cli.ContainerInspect(ctx, made.ID); err != nil {
			t.Fatal(err)
		}
		bare = append(bare, time.Since(start))
		if err := d.cli.ContainerRemove(ctx, made.ID, container.RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(ours)
	slices.Sort(bare)
	p50, bareP50 := ours[len(ours)/2], bare[len(bare)/2]
	t.Logf("deploy p50 %s, bare p50 %s, ratio %.3f", p50, bareP50, float64(p50)/float64(bareP50))
	if p50 > bareP50*3/2 {
		t.Errorf("deploy takes %s where the engine takes %s", p50, bareP50)
	}
}
