//go:build integration

package docker

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// cutOff runs fn and takes its context away after some time, as the death of the
// process would: the driver cleans nothing up, and the engine goes on with what it was
// asked last.
func cutOff(t *testing.T, d *Driver, cmd drivers.Command, after time.Duration, fn func(context.Context, *Driver) error) {
	t.Helper()
	dying, err := New(t.Context(), d.env, d.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer dying.Close() //nolint:errcheck // it is dying
	ctx, cancel := context.WithCancel(drivers.WithCommand(t.Context(), cmd))
	defer cancel()
	timer := time.AfterFunc(after, cancel)
	defer timer.Stop()
	if err := fn(ctx, dying); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatalf("cut off after %s: %v", after, err)
	}
}

// Whenever an attempt is cut off, the next one for the same command arrives at the same
// state, and destroy at none.
func TestInterruptedAttemptsConverge(t *testing.T) {
	for _, order := range []string{drivers.StartFirst, drivers.StopFirst} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			d := newTestDriver(t)
			change := func(s *drivers.WorkloadSpec) {
				s.Update.Order = order
				s.Update.Monitor = drivers.DurationPtr(50 * time.Millisecond)
				s.Stop.Grace = drivers.DurationPtr(0)
				s.Volumes = []drivers.Volume{{Source: "data", Target: "/data"}}
				s.Networks = []drivers.Network{{Name: "front"}, {Name: "back"}}
				s.PreDeploy = &drivers.Hook{Command: []string{"true"}}
			}
			var sequence uint64
			for i, v := range []string{"1", "2", "3", "4"} {
				s := testSpec(d, "web", version(v), replicas(2), change)
				sequence++
				cmd := drivers.Command{ID: "deploy" + v, Sequence: sequence}
				for range 2 {
					cutOff(t, d, cmd, rand.N(2*time.Second), func(ctx context.Context, d *Driver) error {
						_, err := d.Deploy(ctx, s)
						return err
					})
				}
				status := mustDeploy(t, drivers.WithCommand(t.Context(), cmd), d, s)
				if status.Ready != 2 || status.Phase != drivers.PhaseRunning || len(status.Instances) != 2 {
					t.Fatalf("round %d: %+v", i, status)
				}
				for _, instance := range status.Instances {
					if got := execIn(t, d, instance.ID, "sh", "-c", "echo $VERSION"); got != v {
						t.Fatalf("round %d: instance %d is version %q", i, instance.Instance, got)
					}
				}
				mustExist(t, d, 2, 1, 2)
			}
			sequence++
			cmd := drivers.Command{ID: "destroy", Sequence: sequence}
			id := drivers.WorkloadID(d.env.Node, "web")
			for range 3 {
				cutOff(t, d, cmd, rand.N(300*time.Millisecond), func(ctx context.Context, d *Driver) error { return d.Destroy(ctx, id) })
			}
			if err := d.Destroy(drivers.WithCommand(t.Context(), cmd), id); err != nil {
				t.Fatal(err)
			}
			mustExist(t, d, 0, 0, 0)
		})
	}
}

// An update that fails after it was cut off goes back to what ran before the first
// attempt.
func TestInterruptedFailureRollsBack(t *testing.T) {
	d := newTestDriver(t)
	stopFirst := func(s *drivers.WorkloadSpec) {
		s.Update.Order = drivers.StopFirst
		s.Stop.Grace = drivers.DurationPtr(0)
	}
	before := mustDeploy(t, with(t, 1), d, testSpec(d, "web", version("1"), replicas(2), stopFirst))
	s := testSpec(d, "web", crashing, replicas(2), stopFirst)
	cmd := drivers.Command{ID: "broken", Sequence: 2, GoodRevision: before.Revision}
	for _, after := range []time.Duration{100, 250, 400} {
		cutOff(t, d, cmd, after*time.Millisecond, func(ctx context.Context, d *Driver) error {
			// It may come to its failure before the cut.
			if _, err := d.Deploy(ctx, s); !errors.Is(err, drivers.ErrFailed) {
				return err
			}
			return nil
		})
	}
	_, err := d.Deploy(drivers.WithCommand(t.Context(), cmd), s)
	if err == nil || strings.Contains(err.Error(), "roll back:") {
		t.Fatalf("deploy: %v, want a failure that was rolled back", err)
	}
	after, err := d.GetStatus(t.Context(), before.ID)
	if err != nil || after.Revision != before.Revision || after.Phase != drivers.PhaseRunning || after.Ready != 2 {
		t.Fatalf("after: %+v, %v", after, err)
	}
	mustExist(t, d, 2, 0, 0)
}
