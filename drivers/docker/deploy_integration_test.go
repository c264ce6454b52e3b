//go:build integration

package docker

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func TestDeployAndDestroy(t *testing.T) {
	d := newTestDriver(t)
	steps := &progressLog{}
	ctx := with(t, 7, func(c *drivers.Command) { c.Progress = steps.add })
	s := testSpec(d, "web")
	status := mustDeploy(t, ctx, d, s)
	if status.Phase != drivers.PhaseRunning || status.Ready != 1 || status.Desired != 1 || status.Sequence != 7 {
		t.Fatalf("status after deploy: %+v", status)
	}
	if want := []drivers.Phase{drivers.PhaseCreating, drivers.PhaseStarting, drivers.PhaseRunning}; !slices.Equal(steps.phases(), want) {
		t.Errorf("steps %v, want %v", steps.phases(), want)
	}
	got, err := d.GetStatus(t.Context(), s.ID())
	if err != nil || got.Revision != status.Revision || got.Instances[0].StartedAt == "" {
		t.Fatalf("get status: %+v, %v", got, err)
	}
	mustExist(t, d, 1, 0, 0)

	start := time.Now()
	again := mustDeploy(t, with(t, 8), d, s)
	if again.Instances[0].ID != status.Instances[0].ID || again.Instances[0].StartedAt != status.Instances[0].StartedAt {
		t.Errorf("deploying what runs changed the instance: %+v", again.Instances[0])
	}
	if took := time.Since(start); took > 250*time.Millisecond {
		t.Errorf("deploying what runs took %s", took)
	}

	if err := d.Destroy(with(t, 6), s.ID()); !errors.Is(err, drivers.ErrStale) {
		t.Errorf("destroy by an older command: %v, want ErrStale", err)
	}
	if err := d.Destroy(with(t, 9), s.ID()); err != nil {
		t.Fatalf("destroy: %v", err)
	}
	mustExist(t, d, 0, 0, 0)
	if err := d.Destroy(with(t, 9), s.ID()); err != nil {
		t.Errorf("destroy again: %v", err)
	}
	if _, err := d.GetStatus(t.Context(), s.ID()); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("status after destroy: %v, want ErrNotFound", err)
	}
}
