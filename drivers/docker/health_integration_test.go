//go:build integration

package docker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"go.uber.org/goleak"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func checked(h drivers.HealthCheck) func(*drivers.WorkloadSpec) {
	return func(s *drivers.WorkloadSpec) {
		if h.Interval == 0 {
			h.Interval = drivers.Duration(200 * time.Millisecond)
		}
		if h.Timeout == 0 {
			h.Timeout = drivers.Duration(time.Second)
		}
		if h.Retries == 0 {
			h.Retries = 2
		}
		s.Health = &h
	}
}

func TestHealthChecks(t *testing.T) {
	cases := []struct {
		name  string
		check drivers.HealthCheck
		// harm makes the check fail, and want is in its output then.
		harm, want string
	}{
		{"exec", drivers.HealthCheck{Exec: []string{"sh", "-c", "echo looking; cat /tmp/www/index.html"}},
			"busybox rm /tmp/www/index.html", "looking"},
		{"http", drivers.HealthCheck{HTTP: &drivers.HTTPProbe{Port: 80, Path: "/index.html"}},
			"busybox rm /tmp/www/index.html", "404"},
		{"tcp", drivers.HealthCheck{TCP: &drivers.TCPProbe{Port: 81}}, "touch /tmp/end", "refused"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newTestDriver(t)
			status := mustDeploy(t, with(t, 1), d, testSpec(d, "web", serving("one", 0), checked(c.check), func(s *drivers.WorkloadSpec) {
				// A second server, which can end while the instance goes on.
				s.Command = []string{"sh", "-c", "httpd -f -p 81 -h /tmp & x=$!; (while ! test -e /tmp/end; do sleep 0.05; done; kill $x) & " + s.Command[2]}
			}))
			if status.Phase != drivers.PhaseHealthy || status.Ready != 1 {
				t.Fatalf("after deploy: %+v", status)
			}
			id := status.Instances[0].ID
			feed, unsubscribe := d.health.subscribe()
			defer unsubscribe()
			execIn(t, d, id, "sh", "-c", c.harm)
			eventually(t, 5*time.Second, "unhealthy", func() bool {
				s, err := d.GetStatus(t.Context(), status.ID)
				return err == nil && s.Phase == drivers.PhaseUnhealthy && s.Ready == 0 &&
					strings.Contains(s.Instances[0].HealthOutput, c.want)
			})
			if c.check.Exec != nil {
				return // the engine's own event tells of it
			}
			select {
			case got := <-feed:
				if got.Kind != drivers.ChangeHealth || got.WorkloadID != status.ID || got.InstanceID != id {
					t.Errorf("the feed says %+v", got)
				}
			default:
				t.Error("the feed says nothing")
			}
		})
	}
}

func TestUnhealthyUpdateRollsBack(t *testing.T) {
	cases := []struct {
		name  string
		check drivers.HealthCheck
		want  string
	}{
		{"exec", drivers.HealthCheck{Exec: []string{"sh", "-c", "echo no database; exit 1"}}, "no database"},
		{"http", drivers.HealthCheck{HTTP: &drivers.HTTPProbe{Port: 80, Path: "/missing"}}, "404"},
		{"tcp", drivers.HealthCheck{TCP: &drivers.TCPProbe{Port: 81}}, "refused"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newTestDriver(t)
			before := mustDeploy(t, with(t, 1), d, testSpec(d, "web", serving("one", 0)))
			_, err := d.Deploy(with(t, 2), testSpec(d, "web", serving("two", 0), checked(c.check)))
			f := rolloutError(t, err, "Unhealthy")
			if !f.RolledBack || !strings.Contains(f.HealthOutput, c.want) {
				t.Errorf("error is %+v", f)
			}
			after, err := d.GetStatus(t.Context(), before.ID)
			if err != nil || !slices.Equal(ids(after), ids(before)) || after.Phase != drivers.PhaseRunning {
				t.Errorf("after: %+v, %v", after, err)
			}
		})
	}
}

// Failures do not count in the start period, however many there are.
func TestStartPeriod(t *testing.T) {
	d := newTestDriver(t)
	status := mustDeploy(t, with(t, 1), d, testSpec(d, "slow", func(s *drivers.WorkloadSpec) {
		s.Command = []string{"sh", "-c", "sleep 1; mkdir -p /tmp/www; exec httpd -f -p 80 -h /tmp/www"}
	}, checked(drivers.HealthCheck{TCP: &drivers.TCPProbe{Port: 80}, Interval: drivers.Duration(50 * time.Millisecond),
		StartPeriod: drivers.Duration(20 * time.Second)})))
	if status.Phase != drivers.PhaseHealthy {
		t.Errorf("after deploy: %+v", status)
	}
}

// A second driver takes over what the first one deployed, probes included.
func TestProbesComeBackWithTheDriver(t *testing.T) {
	d := newTestDriver(t)
	s := testSpec(d, "web", serving("one", 0), checked(drivers.HealthCheck{HTTP: &drivers.HTTPProbe{Port: 80}}))
	mustDeploy(t, with(t, 1), d, s)
	second, err := New(t.Context(), d.env, d.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := second.Close(); err != nil {
			t.Error(err)
		}
	}()
	eventually(t, 3*time.Second, "healthy for the second driver", func() bool {
		all, err := second.ListWorkloads(t.Context(), s.Namespace)
		return err == nil && len(all) == 1 && all[0].Phase == drivers.PhaseHealthy
	})
}

func TestRestart(t *testing.T) {
	d := newTestDriver(t)
	before := mustDeploy(t, with(t, 1), d, testSpec(d, "web", replicas(2)))
	restart := with(t, 2, func(c *drivers.Command) { c.Baseline = before.Marks() })
	if err := d.Restart(restart, before.ID); err != nil {
		t.Fatal(err)
	}
	once, err := d.GetStatus(t.Context(), before.ID)
	if err != nil || !slices.Equal(ids(once), ids(before)) || once.Phase != drivers.PhaseRunning {
		t.Fatalf("after: %+v, %v", once, err)
	}
	for i := range before.Instances {
		if once.Instances[i].StartedAt == before.Instances[i].StartedAt {
			t.Errorf("instance %d was not restarted", i)
		}
	}
	if err := d.Restart(restart, before.ID); err != nil {
		t.Fatal(err)
	}
	twice, err := d.GetStatus(t.Context(), before.ID)
	if err != nil {
		t.Fatal(err)
	}
	for i := range once.Instances {
		if twice.Instances[i].StartedAt != once.Instances[i].StartedAt {
			t.Errorf("a repeated command restarted instance %d again", i)
		}
	}
	mustDeploy(t, with(t, 3), d, testSpec(d, "web", replicas(2), version("2")))
	if err := d.Restart(restart, before.ID); !errors.Is(err, drivers.ErrStale) {
		t.Errorf("restart by an older command: %v, want ErrStale", err)
	}
	if err := d.Restart(with(t, 4), drivers.WorkloadID(d.env.Node, "none")); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("restart of nothing: %v, want ErrNotFound", err)
	}
}

func TestRestartThatFails(t *testing.T) {
	d := newTestDriver(t)
	s := testSpec(d, "once", func(s *drivers.WorkloadSpec) {
		s.Volumes = []drivers.Volume{{Source: "data", Target: "/data"}}
		s.Command = []string{"sh", "-c", "test -e /data/ran && exit 4; touch /data/ran; while :; do sleep 0.1; done"}
		s.Stop.Grace = drivers.DurationPtr(0)
	})
	mustDeploy(t, with(t, 1), d, s)
	if f := rolloutError(t, d.Restart(with(t, 2), s.ID()), "Crashed"); f.ExitCode != 4 {
		t.Errorf("error is %+v", f)
	}
}

func TestStatusOfWhatEnds(t *testing.T) {
	d := newTestDriver(t)
	until := func(command string, policy string) func(*drivers.WorkloadSpec) {
		return func(s *drivers.WorkloadSpec) {
			s.Command = []string{"sh", "-c", "while ! test -e /tmp/end; do sleep 0.05; done; " + command}
			s.Restart.Policy = policy
		}
	}
	cases := []struct {
		name, command, policy string
		phase                 drivers.Phase
		reason                string
		code                  int
	}{
		{"completes", "exit 0", drivers.RestartNo, drivers.PhaseCompleted, "", 0},
		{"fails", "exit 5", drivers.RestartNo, drivers.PhaseFailed, "Crashed", 5},
		{"comes-back", "exit 6", drivers.RestartAlways, drivers.PhaseRestarting, "Crashed", 6},
		{"gives-up", "exit 7", drivers.RestartOnFailure, drivers.PhaseFailed, "Crashed", 7},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := testSpec(d, c.name, until(c.command, c.policy), func(s *drivers.WorkloadSpec) {
				if c.policy == drivers.RestartOnFailure {
					s.Restart.Attempts = 1
				}
			})
			status := mustDeploy(t, with(t, 1), d, s)
			execIn(t, d, status.Instances[0].ID, "touch", "/tmp/end")
			eventually(t, 10*time.Second, string(c.phase), func() bool {
				got, err := d.GetStatus(t.Context(), s.ID())
				return err == nil && got.Phase == c.phase && got.Reason == c.reason &&
					got.Instances[0].ExitCode != nil && *got.Instances[0].ExitCode == c.code
			})
		})
	}
}

func TestStatusOfWhatIsStoppedFromOutside(t *testing.T) {
	d := newTestDriver(t)
	status := mustDeploy(t, with(t, 1), d, testSpec(d, "web", replicas(2)))
	zero := 0
	if err := d.cli.ContainerStop(t.Context(), status.Instances[1].ID, container.StopOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	got, err := d.GetStatus(t.Context(), status.ID)
	if err != nil || got.Phase != drivers.PhaseDegraded || got.Ready != 1 || got.Instances[1].Phase != drivers.PhaseStopped {
		t.Fatalf("one of two stopped: %+v, %v", got, err)
	}
	if err := d.cli.ContainerRemove(t.Context(), status.Instances[1].ID, container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	got, err = d.GetStatus(t.Context(), status.ID)
	if err != nil || got.Phase != drivers.PhaseDegraded || got.Desired != 2 || got.Reason != "InstancesMissing" {
		t.Fatalf("one of two removed: %+v, %v", got, err)
	}
	again := mustDeploy(t, with(t, 2), d, testSpec(d, "web", replicas(2)))
	if again.Ready != 2 || again.Instances[0].ID != status.Instances[0].ID {
		t.Errorf("deployed again: %+v", again)
	}
}

func TestDestroyOfWhatIgnoresTheStopSignal(t *testing.T) {
	d := newTestDriver(t)
	status := mustDeploy(t, with(t, 1), d, testSpec(d, "deaf", replicas(3), func(s *drivers.WorkloadSpec) {
		s.Command = []string{"sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"}
		s.Stop.Grace = drivers.DurationPtr(time.Second)
	}))
	start := time.Now()
	if err := d.Destroy(with(t, 2), status.ID); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < time.Second || took > 3*time.Second {
		t.Errorf("destroy took %s, want the grace of 1s for all at once", took)
	}
	mustExist(t, d, 0, 0, 0)
}

func TestFrozenInstances(t *testing.T) {
	d := newTestDriver(t)
	freeze := func(status *drivers.WorkloadStatus) {
		t.Helper()
		if err := d.cli.ContainerPause(t.Context(), status.Instances[0].ID); err != nil {
			t.Fatal(err)
		}
	}
	first := mustDeploy(t, with(t, 1), d, testSpec(d, "web", version("1")))
	freeze(first)
	if got, err := d.GetStatus(t.Context(), first.ID); err != nil || got.Phase != drivers.PhaseStopped || got.Reason != "Paused" {
		t.Errorf("frozen: %+v, %v", got, err)
	}
	if again := mustDeploy(t, with(t, 2), d, testSpec(d, "web", version("1"))); again.Phase != drivers.PhaseRunning {
		t.Errorf("deployed again: %+v", again)
	}
	freeze(first)
	second := mustDeploy(t, with(t, 3), d, testSpec(d, "web", version("2")))
	freeze(second)
	if err := d.Restart(with(t, 4), second.ID); err != nil {
		t.Fatal(err)
	}
	freeze(second)
	if err := d.Destroy(with(t, 5), second.ID); err != nil {
		t.Fatal(err)
	}
	mustExist(t, d, 0, 0, 0)
}

func TestEngineInfo(t *testing.T) {
	d := newTestDriver(t)
	info, err := d.EngineInfo(t.Context())
	if err != nil || info.ID == "" || info.CPUs == 0 || info.APIVersion == "" {
		t.Fatalf("engine info: %+v, %v", info, err)
	}
	bounded := newTestDriver(t, func(_ *drivers.Environment, c *Config) { c.APIVersion = "1.40" })
	if got := bounded.cli.ClientVersion(); got != "1.40" {
		t.Errorf("the client speaks %s, want the bound of 1.40", got)
	}
	status := mustDeploy(t, with(t, 1), bounded, testSpec(bounded, "web"))
	if status.Phase != drivers.PhaseRunning {
		t.Errorf("with the older API: %+v", status)
	}
}

func TestEngineThatIsNotThere(t *testing.T) {
	_, err := New(t.Context(), drivers.Environment{Node: "n1"}, Config{Host: "unix:///no/such/socket"})
	if !errors.Is(err, drivers.ErrUnavailable) || !strings.Contains(err.Error(), "docker.host") {
		t.Errorf("got %v, want ErrUnavailable with a hint", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(ctx, drivers.Environment{Node: "n1"}, Config{Host: "unix:///no/such/socket"}); err == nil {
		t.Error("got nil with a cancelled context")
	}
}

// Close ends the probes and waits for them, and leaves the workloads alone.
func TestCloseEndsProbes(t *testing.T) {
	d := newTestDriver(t)
	before := goleak.IgnoreCurrent()
	second, err := New(t.Context(), d.env, d.cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := testSpec(d, "web", serving("one", 0), checked(drivers.HealthCheck{HTTP: &drivers.HTTPProbe{Port: 80}}))
	mustDeploy(t, with(t, 1), second, s)
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
	if c, err := d.observe(t.Context(), s.ID()); err != nil || len(c) != 1 || c[0].state != container.StateRunning {
		t.Errorf("after close: %+v, %v", c, err)
	}
}
