package sim_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/drivers/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const id = "default/web"

func spec(env map[string]string) *drivers.WorkloadSpec {
	s := &drivers.WorkloadSpec{Name: "web", Image: "web:1", Env: env}
	s.Update.Monitor = drivers.DurationPtr(0)
	return s.WithDefaults()
}

func newDriver(t *testing.T, cfg sim.Config) *sim.Driver {
	t.Helper()
	d, err := sim.New(drivers.Environment{Node: "n1"}, cfg)
	if err != nil {
		t.Fatalf("new driver: %v", err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close driver: %v", err)
		}
	})
	return d
}

func deploy(t *testing.T, d *sim.Driver, s *drivers.WorkloadSpec) *drivers.WorkloadStatus {
	t.Helper()
	st, err := d.Deploy(t.Context(), s)
	if err != nil {
		t.Fatalf("deploy: %v", err)
	}
	return st
}

func TestConfiguredFailures(t *testing.T) {
	for _, c := range []struct {
		name    string
		failure sim.Failure
		// want is which of six deploys fail.
		want []bool
	}{
		{"the first two", sim.Failure{Op: sim.OpStart, Class: drivers.ErrUnavailable, Times: 2}, []bool{true, true, false, false, false, false}},
		{"every third", sim.Failure{Op: sim.OpStart, Class: drivers.ErrUnavailable, Every: 3}, []bool{false, false, true, false, false, true}},
		{"every second, once", sim.Failure{Op: sim.OpStart, Class: drivers.ErrUnavailable, Every: 2, Times: 1}, []bool{false, true, false, false, false, false}},
		{"always", sim.Failure{Op: sim.OpStart, Class: drivers.ErrUnavailable}, []bool{true, true, true, true, true, true}},
		{"another workload's", sim.Failure{Op: sim.OpStart, Class: drivers.ErrUnavailable, Workload: "shop/cart"}, make([]bool, 6)},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDriver(t, sim.Config{Failures: []sim.Failure{c.failure}})
			var got []bool
			for range c.want {
				_, err := d.Deploy(t.Context(), spec(nil))
				if err != nil && !errors.Is(err, drivers.ErrUnavailable) {
					t.Errorf("want ErrUnavailable, got %v", err)
				}
				got = append(got, err != nil)
				if err := d.Destroy(t.Context(), id); err != nil {
					t.Fatalf("destroy: %v", err)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("want %v, got %v", c.want, got)
			}
		})
	}
}

func TestProbabilityIsRepeatable(t *testing.T) {
	outcomes := func(seed uint64) (out []bool) {
		d := newDriver(t, sim.Config{Seed: seed, Failures: []sim.Failure{{Op: sim.OpPing, Class: drivers.ErrUnavailable, Probability: 0.5}}})
		for range 64 {
			out = append(out, d.Ping(t.Context()) != nil)
		}
		return out
	}
	one := outcomes(1)
	if !slices.Equal(one, outcomes(1)) || slices.Equal(one, outcomes(2)) {
		t.Error("want the seed to decide, and nothing else")
	}
	if !slices.Contains(one, true) || !slices.Contains(one, false) {
		t.Errorf("want some of both, got %v", one)
	}
}

// A reply that is lost leaves what the call did; the next attempt adopts it.
func TestLostReplyIsAdopted(t *testing.T) {
	for _, op := range []sim.Op{sim.OpCreate, sim.OpStart} {
		t.Run(string(op), func(t *testing.T) {
			d := newDriver(t, sim.Config{Failures: []sim.Failure{{Op: op, Class: drivers.ErrUnavailable, LoseReply: true, Times: 1}}})
			ctx := drivers.WithCommand(t.Context(), drivers.Command{ID: "c", Sequence: 1})
			if _, err := d.Deploy(ctx, spec(nil)); !errors.Is(err, drivers.ErrUnavailable) {
				t.Fatalf("want ErrUnavailable, got %v", err)
			}
			if got := d.Engine().Containers(); len(got) != 1 {
				t.Fatalf("want the call carried out, got %+v", got)
			}
			if _, err := d.Deploy(ctx, spec(nil)); err != nil {
				t.Fatalf("deploy again: %v", err)
			}
			if got := d.Engine().Starts(id); len(got) != 1 {
				t.Errorf("want one start, got %+v", got)
			}
		})
	}
}

func TestSteeredFailures(t *testing.T) {
	d := newDriver(t, sim.Config{})
	s := spec(map[string]string{"SIM_FAIL": "create:unavailable:2,start:engine:1"})
	for i, want := range []error{drivers.ErrUnavailable, drivers.ErrUnavailable} {
		if _, err := d.Deploy(t.Context(), s); !errors.Is(err, want) {
			t.Errorf("deploy %d: want %v, got %v", i, want, err)
		}
	}
	if _, err := d.Deploy(t.Context(), s); err == nil || errors.Is(err, drivers.ErrUnavailable) {
		t.Errorf("want an error of no class, got %v", err)
	}
	deploy(t, d, s)
}

func TestSteeringIsChecked(t *testing.T) {
	d := newDriver(t, sim.Config{})
	for key, value := range map[string]string{
		"SIM_TYPO": "1", "SIM_EXIT_AFTER": "soon", "SIM_EXIT_CODE": "256", "SIM_HEALTH": "maybe", "SIM_LOG_RATE": "NaN",
		"SIM_FAIL": "create:sometimes", "SIM_STOP": "-1s", "SIM_OOM": "very", "SIM_LOG_BYTES": "0",
	} {
		err := d.CheckSpec(spec(map[string]string{key: value}))
		var faults *drivers.FieldErrors
		if !errors.As(err, &faults) || !errors.Is(err, drivers.ErrInvalidSpec) || faults.Fields[0].Path != "env."+key {
			t.Errorf("%s=%s: want env.%s refused, got %v", key, value, key, err)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for want, cfg := range map[string]sim.Config{
		"latency.create": {Latency: map[sim.Op]sim.Latency{sim.OpCreate: {Base: -1}}},
		"latency.fly":    {Latency: map[sim.Op]sim.Latency{"fly": {}}},
		"failures[0].op": {Failures: []sim.Failure{{Op: "fly"}}},
		"failures[0]":    {Failures: []sim.Failure{{Op: sim.OpPing, Probability: 2}}},
		"health":         {Health: "maybe"},
		"logRate":        {LogRate: -1},
		"refuse[0]":      {Refuse: []string{"no.such.field"}},
		"restartBackoff": {RestartBackoff: -time.Second},
	} {
		_, err := sim.New(drivers.Environment{Node: "n1"}, cfg)
		if !errors.Is(err, drivers.ErrInvalidSpec) || !strings.Contains(err.Error(), want) {
			t.Errorf("want %s refused, got %v", want, err)
		}
	}
}

func TestRefusedFields(t *testing.T) {
	d := newDriver(t, sim.Config{Refuse: []string{"volumes"}})
	s := spec(nil)
	s.Volumes = []drivers.Volume{{Source: "data", Target: "/data", Type: drivers.VolumeNamed}}
	if err := d.CheckSpec(s); !errors.Is(err, drivers.ErrUnsupported) || !strings.Contains(err.Error(), "volumes") {
		t.Errorf("want volumes refused, got %v", err)
	}
	if err := d.CheckSpec(spec(nil)); err != nil {
		t.Errorf("want the rest taken, got %v", err)
	}
}

func TestLatencyIsCancelled(t *testing.T) {
	d := newDriver(t, sim.Config{Latency: map[sim.Op]sim.Latency{sim.OpStart: {Base: time.Hour}}})
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, context.Canceled)
	defer cancel()
	began := time.Now()
	if _, err := d.Deploy(ctx, spec(nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("want the cause, got %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("want a prompt return, took %s", took)
	}
}

// A busy pull lasts an hour but says that it goes on; with a clock of its own that
// takes no time.
func TestBusyPullReports(t *testing.T) {
	clock := &rushing{now: time.Now()}
	d := newDriver(t, sim.Config{BusyPulls: true, Clock: clock})
	var steps []drivers.Progress
	ctx := drivers.WithCommand(t.Context(), drivers.Command{Progress: func(p drivers.Progress) { steps = append(steps, p) }})
	began := clock.Now()
	if _, err := d.Deploy(ctx, spec(nil)); err != nil {
		t.Fatalf("deploy: %v", err)
	}
	if took := clock.Now().Sub(began); took < time.Hour || took > 2*time.Hour {
		t.Errorf("want an hour, took %s", took)
	}
	pulling := 0
	for _, s := range steps {
		if s.Phase == drivers.PhasePulling {
			pulling++
		}
	}
	if pulling < 1000 {
		t.Errorf("want progress every few seconds, got %d reports", pulling)
	}
}

// rushing is a clock on which everything that waits is due at once.
type rushing struct {
	mu  sync.Mutex
	now time.Time
}

func (c *rushing) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *rushing) AfterFunc(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	c.now = c.now.Add(d)
	c.mu.Unlock()
	return time.AfterFunc(0, f).Stop
}

func TestUnavailableEngine(t *testing.T) {
	d := newDriver(t, sim.Config{})
	deploy(t, d, spec(nil))
	changes, err := d.Watch(t.Context())
	if err != nil {
		t.Fatalf("watch: %v", err)
	}
	if first := <-changes; !first.Resync {
		t.Fatalf("want a resync first, got %+v", first)
	}
	d.Engine().SetUnavailable(true)
	if err := d.Ping(t.Context()); !errors.Is(err, drivers.ErrUnavailable) {
		t.Errorf("want ErrUnavailable, got %v", err)
	}
	d.Engine().SetUnavailable(false)
	if again := <-changes; !again.Resync {
		t.Errorf("want a resync after the gap, got %+v", again)
	}
	if st, err := d.GetStatus(t.Context(), id); err != nil || st.Phase != drivers.PhaseRunning {
		t.Errorf("want what ran to go on, got %+v, %v", st, err)
	}
}

func TestSlowWatcherResyncs(t *testing.T) {
	d := newDriver(t, sim.Config{})
	changes, err := d.Watch(t.Context())
	if err != nil {
		t.Fatalf("watch: %v", err)
	}
	<-changes
	for range 3000 {
		deploy(t, d, spec(nil))
		if err := d.Destroy(t.Context(), id); err != nil {
			t.Fatalf("destroy: %v", err)
		}
	}
	deadline := time.After(10 * time.Second)
	for n := 0; ; n++ {
		select {
		case c := <-changes:
			if c.Resync {
				return
			}
		case <-deadline:
			t.Fatalf("want a resync once the backlog is full, got %d changes", n)
		}
	}
}

func TestStateFileOutlivesTheEngine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "engine.json")
	cfg := sim.Config{StateFile: path, Images: []string{"other:1"}}
	first, err := sim.NewEngine(cfg)
	if err != nil {
		t.Fatalf("new engine: %v", err)
	}
	d, err := sim.NewWithEngine(drivers.Environment{Node: "n1"}, cfg, first)
	if err != nil {
		t.Fatalf("new driver: %v", err)
	}
	s := spec(map[string]string{"SIM_EXIT_AFTER": "300ms", "SIM_EXIT_CODE": "4", "SIM_PRINT": "hello"})
	s.Restart.Policy = drivers.RestartNo
	s.Ports = []drivers.Port{{ContainerPort: 80, Publish: true, Protocol: "tcp"}}
	before := deploy(t, d, s)
	if _, err := sim.NewEngine(cfg); !errors.Is(err, drivers.ErrConflict) {
		t.Errorf("want a second user of the file refused, got %v", err)
	}
	if err := errors.Join(d.Close(), first.Close()); err != nil {
		t.Fatalf("close: %v", err)
	}

	d = newDriver(t, cfg)
	st, err := d.GetStatus(t.Context(), id)
	if err != nil || st.Instances[0].ID != before.Instances[0].ID || st.Instances[0].StartedAt != before.Instances[0].StartedAt ||
		!slices.Equal(st.Instances[0].Ports, before.Instances[0].Ports) || st.Desired != 1 {
		t.Fatalf("want %+v again, got %+v, %v", before, st, err)
	}
	if starts := d.Engine().Starts(id); len(starts) != 1 {
		t.Errorf("want the journal kept, got %+v", starts)
	}
	// The end it was heading for comes, on time, whoever looks.
	deadline := time.Now().Add(5 * time.Second)
	for st.Phase != drivers.PhaseFailed && time.Now().Before(deadline) {
		if st, err = d.GetStatus(t.Context(), id); err != nil {
			t.Fatalf("get status: %v", err)
		}
	}
	if in := st.Instances[0]; st.Phase != drivers.PhaseFailed || *in.ExitCode != 4 {
		t.Errorf("want failed with code 4, got %+v", st)
	}
	if images, err := d.ListImages(t.Context()); err != nil || len(images) != 2 {
		t.Errorf("want both images kept, got %+v, %v", images, err)
	}
}

func TestStateFileIsWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "engine.json")
	d := newDriver(t, sim.Config{StateFile: path})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if _, err := d.Deploy(t.Context(), spec(nil)); err != nil {
				t.Errorf("deploy: %v", err)
			}
			if err := d.Destroy(t.Context(), id); err != nil {
				t.Errorf("destroy: %v", err)
			}
		}
	})
	// Whenever the process dies, a copy of the file as it is opens.
	for i := range 20 {
		data, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatalf("read state file: %v", err)
		}
		copied := filepath.Join(t.TempDir(), "copy.json")
		if err := os.WriteFile(copied, data, 0o600); err != nil {
			t.Fatalf("write copy: %v", err)
		}
		e, err := sim.NewEngine(sim.Config{StateFile: copied})
		if err != nil {
			t.Fatalf("open copy %d: %v", i, err)
		}
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	cancel()
	wg.Wait()
	broken := filepath.Join(t.TempDir(), "broken.json")
	if err := os.WriteFile(broken, []byte("{"), 0o600); err != nil {
		t.Fatalf("write: %v", err)
	}
	if _, err := sim.NewEngine(sim.Config{StateFile: broken}); !errors.Is(err, drivers.ErrInvalidSpec) {
		t.Errorf("want a broken file refused, got %v", err)
	}
}

func TestJournalIsBounded(t *testing.T) {
	d := newDriver(t, sim.Config{JournalLimit: 100})
	for range 100 {
		deploy(t, d, spec(nil))
		if err := d.Destroy(t.Context(), id); err != nil {
			t.Fatalf("destroy: %v", err)
		}
	}
	entries, dropped := d.Engine().Journal()
	// Created, started, stopped, removed.
	if len(entries) > 100 || len(entries)+dropped != 400 {
		t.Errorf("want 400 entries in all, at most 100 kept, got %d and %d dropped", len(entries), dropped)
	}
	if last := entries[len(entries)-1]; last.Kind != sim.EntryRemoved || last.WorkloadID != id {
		t.Errorf("want the newest kept, got %+v", last)
	}
}

func TestMovedTagIsANewRevision(t *testing.T) {
	d := newDriver(t, sim.Config{})
	s := spec(nil)
	s.PullPolicy = drivers.PullAlways
	first := deploy(t, d, s)
	if err := d.Engine().MoveTag(s.Image); err != nil {
		t.Fatalf("move tag: %v", err)
	}
	if second := deploy(t, d, s); second.ImageID == first.ImageID || second.Revision == first.Revision {
		t.Errorf("want another image and revision, got %+v, then %+v", first, second)
	}
}

func TestOpenTakesItsSettings(t *testing.T) {
	for _, settings := range []any{nil, sim.Config{}} {
		d, err := sim.Open(t.Context(), drivers.Environment{Node: "n1"}, settings)
		if err != nil {
			t.Fatalf("open with %T: %v", settings, err)
		}
		if err := d.(drivers.Closer).Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := sim.Open(t.Context(), drivers.Environment{Node: "n1"}, "fast"); !errors.Is(err, drivers.ErrInvalidSpec) {
		t.Errorf("want foreign settings refused, got %v", err)
	}
}

func BenchmarkDeployDestroy(b *testing.B) {
	d, err := sim.New(drivers.Environment{Node: "n1"}, sim.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	s := spec(nil)
	for b.Loop() {
		if _, err := d.Deploy(b.Context(), s); err != nil {
			b.Fatal(err)
		}
		if err := d.Destroy(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
}
