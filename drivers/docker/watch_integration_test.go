//go:build integration

package docker

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// watched collects what a watcher says, with the time at which it was said.
type watched struct {
	mu      sync.Mutex
	changes []drivers.Change
	delays  []time.Duration
	closed  bool
}

func startWatch(t *testing.T, ctx context.Context, d *Driver) *watched {
	t.Helper()
	ch, err := d.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{}
	go func() {
		for c := range ch {
			now := time.Now()
			w.mu.Lock()
			w.changes = append(w.changes, c)
			w.delays = append(w.delays, now.Sub(c.At))
			w.mu.Unlock()
		}
		w.mu.Lock()
		w.closed = true
		w.mu.Unlock()
	}()
	eventually(t, 5*time.Second, "the first resync", func() bool { return w.count(func(c drivers.Change) bool { return c.Resync }) == 1 })
	return w
}

func (w *watched) count(is func(drivers.Change) bool) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, c := range w.changes {
		if is(c) {
			n++
		}
	}
	return n
}

func of(kind drivers.ChangeKind, id string, exitCode int) func(drivers.Change) bool {
	return func(c drivers.Change) bool {
		return !c.Resync && c.Kind == kind && c.InstanceID == id && c.ExitCode == exitCode && c.WorkloadID == logWorkload
	}
}

func TestWatchReportsWhatHappens(t *testing.T) {
	d := newTestDriver(t)
	ctx, cancel := context.WithCancel(t.Context())
	w := startWatch(t, ctx, d)
	if !w.changes[0].Resync {
		t.Fatalf("the first change is %+v, want a resync", w.changes[0])
	}
	crashing := talk(t, d, 3, `sleep 0.2; exit 7`)
	eventually(t, 5*time.Second, "start", func() bool { return w.count(of(drivers.ChangeStarted, crashing, 0)) == 1 })
	eventually(t, 5*time.Second, "exit", func() bool { return w.count(of(drivers.ChangeExited, crashing, 7)) == 1 })
	if w.count(func(c drivers.Change) bool { return c.InstanceID == crashing && c.Instance != 3 }) > 0 {
		t.Errorf("changes without their ordinal: %+v", w.changes)
	}
	eating := talk(t, d, 0, `x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done`, func(_ *container.Config, h *container.HostConfig) {
		h.Memory, h.MemorySwap = 16<<20, 16<<20
	})
	eventually(t, 20*time.Second, "out of memory", func() bool { return w.count(of(drivers.ChangeOOMKilled, eating, 137)) >= 1 })
	checked := talk(t, d, 0, `touch /tmp/ok; sleep 60`, func(c *container.Config, _ *container.HostConfig) {
		c.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "test", "-e", "/tmp/ok"}, Interval: 100 * time.Millisecond}
	})
	eventually(t, 10*time.Second, "healthy", func() bool { return w.count(of(drivers.ChangeHealth, checked, 0)) == 1 })
	if err := d.cli.ContainerPause(t.Context(), checked); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "pause", func() bool { return w.count(of(drivers.ChangeOther, checked, 0)) == 1 })
	if err := d.cli.ContainerRemove(t.Context(), checked, container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "removal", func() bool { return w.count(of(drivers.ChangeRemoved, checked, 0)) == 1 })
	d.health.publish(drivers.Change{WorkloadID: logWorkload, Kind: drivers.ChangeHealth, InstanceID: "probe"})
	eventually(t, 5*time.Second, "a probe's change", func() bool { return w.count(of(drivers.ChangeHealth, "probe", 0)) == 1 })
	cancel()
	eventually(t, 5*time.Second, "the end", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.closed })
}

func TestWatchIsQuick(t *testing.T) {
	d := newTestDriver(t)
	w := startWatch(t, t.Context(), d)
	for range 8 {
		talk(t, d, 0, `exit 1`)
	}
	eventually(t, 20*time.Second, "all exits", func() bool {
		return w.count(func(c drivers.Change) bool { return c.Kind == drivers.ChangeExited }) == 8
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	delays := slices.Sorted(slices.Values(w.delays[1:]))
	median := delays[len(delays)/2]
	t.Logf("engine's event to change: median %s, most %s", median, delays[len(delays)-1])
	if median > 20*time.Millisecond {
		t.Errorf("half of the changes took longer than %s", median)
	}
}

// cutter is a proxy of the engine's socket that can drop its connections and refuse new
// ones.
type cutter struct {
	address string
	target  string

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]bool
}

func newCutter(t *testing.T, d *Driver) *cutter {
	t.Helper()
	p := &cutter{address: filepath.Join(t.TempDir(), "engine.sock"), target: strings.TrimPrefix(d.cfg.Host, "unix://"), conns: map[net.Conn]bool{}}
	if !strings.HasPrefix(d.cfg.Host, "unix://") {
		t.Fatalf("this test wants an engine on a Unix socket, got %s", d.cfg.Host)
	}
	l, err := net.Listen("unix", p.address)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Add(1)
	go func() {
		defer running.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Add(1)
			go func() {
				defer running.Done()
				p.serve(c)
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close() //nolint:errcheck // the test is over
		p.cut(true)
		running.Wait()
	})
	return p
}

func (p *cutter) serve(c net.Conn) {
	defer c.Close() //nolint:errcheck // a proxy's connection
	engine, err := net.Dial("unix", p.target)
	if err != nil {
		return
	}
	defer engine.Close() //nolint:errcheck // a proxy's connection
	p.mu.Lock()
	if p.down {
		p.mu.Unlock()
		return
	}
	p.conns[c], p.conns[engine] = true, true
	p.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(engine, c) //nolint:errcheck // ends with either connection
		engine.Close()     //nolint:errcheck // wakes the other direction
	}()
	io.Copy(c, engine) //nolint:errcheck // ends with either connection
	c.Close()          //nolint:errcheck // wakes the other direction
	<-done
}

// cut drops all connections, and with down set refuses new ones.
func (p *cutter) cut(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
	for c := range p.conns {
		c.Close() //nolint:errcheck // that is what is tested
	}
	clear(p.conns)
}

func TestWatchOutlivesACutStream(t *testing.T) {
	direct := newTestDriver(t)
	proxy := newCutter(t, direct)
	d, err := New(t.Context(), direct.env, Config{Host: "unix://" + proxy.address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	w := startWatch(t, t.Context(), d)
	before := talk(t, direct, 0, `exit 1`)
	eventually(t, 5*time.Second, "an exit", func() bool { return w.count(of(drivers.ChangeExited, before, 1)) == 1 })
	proxy.cut(true)
	missed := talk(t, direct, 0, `exit 2`)
	waitEnded(t, direct, missed)
	proxy.cut(false)
	eventually(t, 10*time.Second, "a resync", func() bool { return w.count(func(c drivers.Change) bool { return c.Resync }) == 2 })
	eventually(t, 5*time.Second, "the exit during the cut", func() bool { return w.count(of(drivers.ChangeExited, missed, 2)) == 1 })
	after := talk(t, direct, 0, `exit 3`)
	eventually(t, 5*time.Second, "an exit after the cut", func() bool { return w.count(of(drivers.ChangeExited, after, 3)) == 1 })
}

func TestFollowOutlivesACutStream(t *testing.T) {
	direct := newTestDriver(t)
	proxy := newCutter(t, direct)
	d, err := New(t.Context(), direct.env, Config{Host: "unix://" + proxy.address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	talk(t, direct, 0, `i=0; while [ $i -lt 100 ]; do seq $((i*20+1)) $((i*20+20)); i=$((i+1)); sleep 0.03; done; sleep 60`)
	f := startFollow(t, d, logWorkload, drivers.LogOptions{})
	for _, mark := range []string{"300", "700", "1200"} {
		eventually(t, 30*time.Second, "line "+mark, func() bool { return f.has(mark) })
		proxy.cut(mark == "700")
		if mark == "700" {
			eventually(t, 30*time.Second, "lines that nobody reads", func() bool {
				return len(readLogs(t, direct, logWorkload, drivers.LogOptions{})) > 1000
			})
			proxy.cut(false)
		}
	}
	eventually(t, 60*time.Second, "the last line", func() bool { return f.has("2000") })
	got := f.got()
	if gaps := counted(t, got); gaps > 0 || len(got) != 2000 {
		t.Errorf("%d lines with %d gaps, want 2000 with none", len(got), gaps)
	}
}
