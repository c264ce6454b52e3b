package compliance_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/drivers/sim"
	"github.com/kranix-io/kranix-runtime/tests/compliance"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSim runs the suite on the simulated engine.
func TestSim(t *testing.T) {
	compliance.Run(t, simHarness(t, nil))
}

// TestBrokenDriversAreCaught runs, for each broken driver, the case whose promise it
// breaks, and wants the case to fail. That the same cases pass on the driver as it is
// shows TestSim.
func TestBrokenDriversAreCaught(t *testing.T) {
	for _, b := range brokenDrivers() {
		t.Run(b.name+"/"+b.caught, func(t *testing.T) {
			t.Parallel()
			h := simHarness(t, b.wrap)
			h.Timeouts.Step = 1500 * time.Millisecond
			h.ManyWorkloads = 20
			failures := record(t, h, b.caught)
			if len(failures) == 0 {
				t.Fatalf("case %s passed on a driver that %s", b.caught, b.name)
			}
			t.Logf("caught: %s", failures[0])
		})
	}
}

// TestEveryCaseCanFail wants that every case fails on a driver that does nothing.
func TestEveryCaseCanFail(t *testing.T) {
	for _, c := range compliance.Cases() {
		if c.Name == "StartFirstRefusedForFixedPort" {
			continue // a spec's own validation refuses it, before any driver
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			h := simHarness(t, func(*sim.Engine, *sim.Driver) drivers.RuntimeDriver { return idle{} })
			h.Timeouts.Step = 200 * time.Millisecond
			h.ManyWorkloads = 2
			if len(record(t, h, c.Name)) == 0 {
				t.Errorf("case %s passes on a driver that does nothing", c.Name)
			}
		})
	}
}

func TestCasesAreNamedAndDescribed(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range compliance.Cases() {
		if c.Name == "" || c.Promise == "" || seen[c.Name] {
			t.Errorf("want a name of its own and a promise, got %q: %q", c.Name, c.Promise)
		}
		seen[c.Name] = true
	}
	if len(seen) < 70 {
		t.Errorf("want at least the 70 cases there were, got %d: was one lost?", len(seen))
	}
}

// record runs one case and returns what it complained about.
func record(t *testing.T, h compliance.Harness, name string) []string {
	t.Helper()
	all := compliance.Cases()
	i := slices.IndexFunc(all, func(c compliance.Case) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("no case is named %q", name)
	}
	r := &recorder{t: t, name: name}
	ctx, cancel := context.WithCancel(t.Context())
	r.ctx = ctx
	r.do(func() { all[i].Run(r, h) })
	cancel()
	r.cleanUp()
	return r.failures
}

// recorder is a compliance.T that keeps failures to itself.
type recorder struct {
	t    *testing.T
	name string
	ctx  context.Context

	mu       sync.Mutex
	failures []string
	cleanups []func()
}

// do runs f on a goroutine of its own, because Fatalf ends the goroutine.
func (r *recorder) do(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

func (r *recorder) cleanUp() {
	for {
		r.mu.Lock()
		n := len(r.cleanups)
		if n == 0 {
			r.mu.Unlock()
			return
		}
		f := r.cleanups[n-1]
		r.cleanups = r.cleanups[:n-1]
		r.mu.Unlock()
		r.do(f)
	}
}

func (r *recorder) Helper()                  {}
func (r *recorder) Name() string             { return r.name }
func (r *recorder) Context() context.Context { return r.ctx }
func (r *recorder) TempDir() string          { return r.t.TempDir() }
func (r *recorder) Logf(string, ...any)      {}

func (r *recorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	r.failures = append(r.failures, strings.TrimSpace(text[:min(len(text), 300)]))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}
