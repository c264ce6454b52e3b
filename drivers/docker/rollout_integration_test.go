//go:build integration

package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func version(v string) func(*drivers.WorkloadSpec) {
	return func(s *drivers.WorkloadSpec) { s.Env = map[string]string{"VERSION": v} }
}

func replicas(n int) func(*drivers.WorkloadSpec) {
	return func(s *drivers.WorkloadSpec) { s.Replicas = &n }
}

// crashing makes every instance end with code 3 after it printed something.
func crashing(s *drivers.WorkloadSpec) {
	s.Env = map[string]string{"VERSION": "broken"}
	s.Command = []string{"sh", "-c", "echo starting; echo cannot go on >&2; exit 3"}
}

func ids(s *drivers.WorkloadStatus) []string {
	var out []string
	for _, i := range s.Instances {
		out = append(out, i.ID)
	}
	return out
}

func TestUpdateReplacesInstances(t *testing.T) {
	for _, order := range []string{drivers.StartFirst, drivers.StopFirst} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			d := newTestDriver(t)
			inOrder := func(s *drivers.WorkloadSpec) { s.Update.Order = order }
			before := mustDeploy(t, with(t, 1), d, testSpec(d, "web", version("1"), replicas(2), inOrder))

			least := watchRunning(t, d)
			after := mustDeploy(t, with(t, 2), d, testSpec(d, "web", version("2"), replicas(2), inOrder))
			if after.Revision == before.Revision || after.Phase != drivers.PhaseRunning || after.Ready != 2 || len(after.Instances) != 2 {
				t.Fatalf("after the update: %+v", after)
			}
			mustExist(t, d, 2, 0, 0)
			want := 2
			if order == drivers.StopFirst {
				want = 1
			}
			if got := least(); got != want {
				t.Errorf("at the least %d instances ran during the update, want %d", got, want)
			}
		})
	}
}

// watchRunning follows how many of the node's containers run; the function it returns
// ends that and says what the least was.
func watchRunning(t *testing.T, d *Driver) func() int {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		least := 1 << 10
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				done <- least
				return
			case <-tick.C:
			}
			running := 0
			objects, err := d.list(ctx, "list", d.owned(""))
			if err != nil {
				continue
			}
			for _, o := range objects {
				if o.state == container.StateRunning {
					running++
				}
			}
			least = min(least, running)
		}
	}()
	return func() int { cancel(); return <-done }
}

func TestFailedUpdateRollsBack(t *testing.T) {
	for _, order := range []string{drivers.StartFirst, drivers.StopFirst} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			d := newTestDriver(t)
			inOrder := func(s *drivers.WorkloadSpec) { s.Update.Order = order }
			before := mustDeploy(t, with(t, 1), d, testSpec(d, "web", version("1"), replicas(2), inOrder))
			steps := &progressLog{}
			_, err := d.Deploy(with(t, 2, func(c *drivers.Command) {
				c.Progress, c.GoodRevision = steps.add, before.Revision
			}), testSpec(d, "web", crashing, replicas(2), inOrder))
			f := rolloutError(t, err, "Crashed")
			if !f.RolledBack || f.ExitCode != 3 || f.Instance != 0 || !errors.Is(err, drivers.ErrFailed) {
				t.Errorf("error is %+v", f)
			}
			if !slices.Contains(f.LastLogs, "cannot go on") {
				t.Errorf("last lines are %q", f.LastLogs)
			}
			after, err := d.GetStatus(t.Context(), before.ID)
			if err != nil {
				t.Fatal(err)
			}
			if after.Phase != drivers.PhaseRunning || after.Revision != before.Revision || !slices.Equal(ids(after), ids(before)) || after.Sequence != 1 {
				t.Errorf("after the roll back: %+v", after)
			}
			mustExist(t, d, 2, 0, 0)
			if !slices.Contains(steps.phases(), drivers.PhaseRolledBack) {
				t.Errorf("steps %v lack %s", steps.phases(), drivers.PhaseRolledBack)
			}
		})
	}
}

func TestFirstDeployThatFailsLeavesNothing(t *testing.T) {
	d := newTestDriver(t)
	s := testSpec(d, "web", crashing, func(s *drivers.WorkloadSpec) {
		s.Networks = []drivers.Network{{Name: "front"}}
		s.Volumes = []drivers.Volume{{Source: "data", Target: "/data"}}
	})
	_, err := d.Deploy(with(t, 1), s)
	if f := rolloutError(t, err, "Crashed"); f.RolledBack || !strings.Contains(f.Message, "nothing ran before") {
		t.Errorf("error is %+v", f)
	}
	mustExist(t, d, 0, 0, 0)
}

func TestFailedDeployStaysWithoutRollback(t *testing.T) {
	d := newTestDriver(t)
	no := false
	_, err := d.Deploy(with(t, 1), testSpec(d, "web", crashing, func(s *drivers.WorkloadSpec) { s.Update.Rollback = &no }))
	if f := rolloutError(t, err, "Crashed"); f.RolledBack {
		t.Errorf("error is %+v", f)
	}
	mustExist(t, d, 1, 0, 0)
}

func TestCommandThatCannotBeRun(t *testing.T) {
	d := newTestDriver(t)
	_, err := d.Deploy(with(t, 1), testSpec(d, "web", func(s *drivers.WorkloadSpec) { s.Command = []string{"/no/such/thing"} }))
	if f := rolloutError(t, err, "StartFailed"); f.RolledBack || !strings.Contains(f.Message, "/no/such/thing") {
		t.Errorf("error is %+v", f)
	}
	mustExist(t, d, 0, 0, 0)
}

func TestOutOfMemory(t *testing.T) {
	d := newTestDriver(t)
	_, err := d.Deploy(with(t, 1), testSpec(d, "hog", func(s *drivers.WorkloadSpec) {
		s.Resources.Memory = quantity("16Mi")
		s.Command = []string{"sh", "-c", "tail /dev/zero"}
		s.Restart.Policy = drivers.RestartNo
		s.Update.Monitor = drivers.DurationPtr(10 * time.Second)
	}))
	if f := rolloutError(t, err, "OOMKilled"); f.ExitCode != 137 {
		t.Errorf("error is %+v", f)
	}
}

func TestJobThatCompletesHasSucceeded(t *testing.T) {
	d := newTestDriver(t)
	s := testSpec(d, "job", func(s *drivers.WorkloadSpec) {
		s.Restart.Policy = drivers.RestartNo
		s.Command = []string{"true"}
	})
	status := mustDeploy(t, with(t, 1), d, s)
	if status.Phase != drivers.PhaseCompleted {
		t.Errorf("phase is %s, want completed", status.Phase)
	}
}

func TestScale(t *testing.T) {
	d := newTestDriver(t)
	three := mustDeploy(t, with(t, 1), d, testSpec(d, "web", replicas(3)))
	one := mustDeploy(t, with(t, 2), d, testSpec(d, "web", replicas(1)))
	if one.Desired != 1 || one.Ready != 1 || one.Phase != drivers.PhaseRunning || one.Instances[0].ID != three.Instances[0].ID {
		t.Fatalf("scaled down to one: %+v", one)
	}
	// The labels of the instance that stays still say three.
	again, err := d.GetStatus(t.Context(), one.ID)
	if err != nil || again.Desired != 1 || again.Phase != drivers.PhaseRunning {
		t.Fatalf("read again: %+v, %v", again, err)
	}
	two := mustDeploy(t, with(t, 3), d, testSpec(d, "web", replicas(2)))
	if two.Desired != 2 || two.Ready != 2 || two.Instances[0].ID != three.Instances[0].ID {
		t.Fatalf("scaled up to two: %+v", two)
	}
	mustExist(t, d, 2, 0, 0)
	none := mustDeploy(t, with(t, 4), d, testSpec(d, "web", replicas(0)))
	if none.Desired != 0 || none.Phase != drivers.PhaseStopped {
		t.Fatalf("scaled to none: %+v", none)
	}
	if got, err := d.GetStatus(t.Context(), none.ID); err != nil || got.Phase != drivers.PhaseStopped {
		t.Fatalf("read again: %+v, %v", got, err)
	}
	if err := d.Destroy(with(t, 3), none.ID); !errors.Is(err, drivers.ErrStale) {
		t.Errorf("destroy by an older command: %v, want ErrStale", err)
	}
	if err := d.Destroy(with(t, 5), none.ID); err != nil {
		t.Fatal(err)
	}
	mustExist(t, d, 0, 0, 0)
}

func TestLostFenceStartsNothing(t *testing.T) {
	d := newTestDriver(t)
	lost := &drivers.Error{Class: drivers.ErrStale, Op: "touch claim"}
	_, err := d.Deploy(with(t, 1, func(c *drivers.Command) {
		c.Fence = func(context.Context) error { return lost }
	}), testSpec(d, "web", replicas(2)))
	if !errors.Is(err, drivers.ErrStale) {
		t.Fatalf("got %v, want ErrStale", err)
	}
	mustExist(t, d, 0, 0, 0)
}

// A worker that lost its claim after it had started an instance must leave it: the new
// holder may count on it.
func TestLostFenceLeavesWhatRuns(t *testing.T) {
	d := newTestDriver(t)
	before := mustDeploy(t, with(t, 1), d, testSpec(d, "web", version("1")))
	var passes atomic.Int32
	_, err := d.Deploy(with(t, 2, func(c *drivers.Command) {
		c.Fence = func(context.Context) error {
			if passes.Add(1) > 1 {
				return fmt.Errorf("touch claim: %w", drivers.ErrStale)
			}
			return nil
		}
	}), testSpec(d, "web", version("2")))
	if !errors.Is(err, drivers.ErrStale) {
		t.Fatalf("got %v, want ErrStale", err)
	}
	mustExist(t, d, 2, 0, 0)
	if c, err := d.inspect(t.Context(), before.Instances[0].ID); err != nil || !c.State.Running {
		t.Errorf("the old instance was stopped without a claim: %v", err)
	}
}

func TestCancelledAsStaleRemovesItsOwn(t *testing.T) {
	d := newTestDriver(t)
	before := mustDeploy(t, with(t, 1), d, testSpec(d, "web", version("1")))
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	ctx = drivers.WithCommand(ctx, drivers.Command{ID: "newer", Sequence: 2, Progress: func(p drivers.Progress) {
		if p.Phase == drivers.PhaseUpdating {
			time.AfterFunc(300*time.Millisecond, func() { cancel(fmt.Errorf("overtaken: %w", drivers.ErrStale)) })
		}
	}})
	_, err := d.Deploy(ctx, testSpec(d, "web", version("2"), func(s *drivers.WorkloadSpec) {
		s.Update.Monitor = drivers.DurationPtr(time.Minute)
	}))
	if !errors.Is(err, drivers.ErrStale) {
		t.Fatalf("got %v, want ErrStale", err)
	}
	after, err := d.GetStatus(t.Context(), before.ID)
	if err != nil || !slices.Equal(ids(after), ids(before)) || after.Phase != drivers.PhaseRunning {
		t.Errorf("after: %+v, %v", after, err)
	}
}

func TestShutdownLeavesForAdoption(t *testing.T) {
	d := newTestDriver(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := testSpec(d, "web", func(s *drivers.WorkloadSpec) { s.Update.Monitor = drivers.DurationPtr(2 * time.Second) })
	cmd := drivers.Command{ID: "one", Sequence: 1, Progress: func(p drivers.Progress) {
		if p.Phase == drivers.PhaseRunning {
			cancel()
		}
	}}
	if _, err := d.Deploy(drivers.WithCommand(ctx, cmd), s); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want context.Canceled", err)
	}
	mustExist(t, d, 1, 0, 0)
	half, err := d.GetStatus(t.Context(), s.ID())
	if err != nil {
		t.Fatal(err)
	}
	cmd.Progress = nil
	done := mustDeploy(t, drivers.WithCommand(t.Context(), cmd), d, s)
	if done.Instances[0].ID != half.Instances[0].ID || done.Instances[0].StartedAt != half.Instances[0].StartedAt {
		t.Errorf("the second attempt did not adopt the instance of the first")
	}
}

func TestDeadlineRollsBack(t *testing.T) {
	d := newTestDriver(t)
	before := mustDeploy(t, with(t, 1), d, testSpec(d, "web", version("1")))
	ctx, cancel := context.WithTimeout(with(t, 2), 1500*time.Millisecond)
	defer cancel()
	_, err := d.Deploy(ctx, testSpec(d, "web", version("2"), func(s *drivers.WorkloadSpec) {
		s.Update.Monitor = drivers.DurationPtr(time.Minute)
	}))
	if f := rolloutError(t, err, "DeadlineExceeded"); !f.RolledBack {
		t.Errorf("error is %+v", f)
	}
	after, err := d.GetStatus(t.Context(), before.ID)
	if err != nil || !slices.Equal(ids(after), ids(before)) {
		t.Errorf("after: %+v, %v", after, err)
	}
}

// A fence that cannot be asked is no verdict: everything stays for the next attempt.
func TestFenceOutOfReachLeavesEverything(t *testing.T) {
	d := newTestDriver(t)
	before := mustDeploy(t, with(t, 1), d, testSpec(d, "web", version("1")))
	unreachable := errors.New("no answer from the bus")
	var asked atomic.Int32
	_, err := d.Deploy(with(t, 2, func(c *drivers.Command) {
		c.Fence = func(context.Context) error {
			if asked.Add(1) == 1 {
				return unreachable
			}
			return nil
		}
	}), testSpec(d, "web", version("2")))
	if !errors.Is(err, unreachable) || errors.Is(err, drivers.ErrStale) || errors.Is(err, drivers.ErrFailed) {
		t.Fatalf("got %v, want the fence's error", err)
	}
	mustExist(t, d, 2, 0, 0)
	if c, err := d.inspect(t.Context(), before.Instances[0].ID); err != nil || !c.State.Running {
		t.Errorf("the old instance was stopped: %v", err)
	}
	mustDeploy(t, with(t, 2), d, testSpec(d, "web", version("2")))
	mustExist(t, d, 1, 0, 0)
}

// The zombie's clean-up must not take away what the new holder adopted and started.
func TestZombieLeavesWhatWasAdopted(t *testing.T) {
	d := newTestDriver(t)
	s := testSpec(d, "web")
	cmd := drivers.Command{ID: "one", Sequence: 1}
	successor, err := New(t.Context(), d.env, d.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := successor.Close(); err != nil {
			t.Error(err)
		}
	}()
	var adopted *drivers.WorkloadStatus
	zombie := cmd
	zombie.Fence = func(ctx context.Context) error {
		// While the zombie stood still between creating and starting, another worker
		// took its claim and carried the same command out.
		if adopted == nil {
			adopted = mustDeploy(t, drivers.WithCommand(t.Context(), cmd), successor, s)
		}
		return fmt.Errorf("touch claim: %w", drivers.ErrStale)
	}
	if _, err := d.Deploy(drivers.WithCommand(t.Context(), zombie), s); !errors.Is(err, drivers.ErrStale) {
		t.Fatalf("got %v, want ErrStale", err)
	}
	after, err := d.GetStatus(t.Context(), s.ID())
	if err != nil || after.Phase != drivers.PhaseRunning || !slices.Equal(ids(after), ids(adopted)) {
		t.Errorf("after: %+v, %v", after, err)
	}
}
