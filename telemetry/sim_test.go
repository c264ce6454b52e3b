package telemetry

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/drivers/sim"
	"github.com/kranix-io/kranix-runtime/subjects"
)

func startSim(t testing.TB) *sim.Driver {
	t.Helper()
	d, err := sim.New(drivers.Environment{Node: "n1"}, sim.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func deploy(t testing.TB, d *sim.Driver, name string, replicas int, env map[string]string) *drivers.WorkloadStatus {
	t.Helper()
	spec := (&drivers.WorkloadSpec{Namespace: "shop", Name: name, Image: "registry.example/web:1", Replicas: &replicas, Env: env,
		Update: drivers.Update{Monitor: drivers.DurationPtr(0)}}).WithDefaults()
	st, err := d.Deploy(context.Background(), spec)
	if err != nil {
		t.Fatalf("deploy %s: %v", name, err)
	}
	return st
}

// The simulated engine and the shipper agree with what the driver itself reads.
func TestShipperWithSim(t *testing.T) {
	b, d := startBus(t), startSim(t)
	print := make([]string, 40)
	for i := range print {
		print[i] = fmt.Sprintf("line %d", i)
		if i%3 == 0 {
			print[i] = "err:" + print[i]
		}
	}
	env := map[string]string{"SIM_PRINT": strings.Join(print, `\n`)}
	deploy(t, d, "web", 2, env)
	s := b.shipper(ShipperConfig{})
	s.Track(web, d)
	check := func() {
		t.Helper()
		want := make(map[string][]string)
		err := d.ReadLogs(t.Context(), web.ID(), nil, func(l drivers.LogLine) error {
			want[l.InstanceID] = append(want[l.InstanceID], l.Stream+" "+string(l.Line))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(want) != 2 {
			t.Fatalf("%d instances have logs", len(want))
		}
		eventually(t, func() error {
			found := 0
			for ordinal := range 2 {
				copies, _ := b.shippedOf(web, ordinal)
				for id, got := range copies {
					if lines, ok := want[id]; ok {
						found++
						if err := sameLines(got, lines); err != nil {
							return err
						}
						if len(got.gaps) > 0 {
							return fmt.Errorf("gaps: %+v", got.gaps)
						}
					}
				}
			}
			if found != len(want) {
				return fmt.Errorf("%d instances shipped", found)
			}
			return nil
		})
	}
	check()
	if err := d.Restart(t.Context(), web.ID()); err != nil {
		t.Fatal(err)
	}
	check()
	env["VERSION"] = "2"
	deploy(t, d, "web", 2, env)
	s.Track(web, d)
	check()
	abort(s)
	if err := d.Restart(t.Context(), web.ID()); err != nil {
		t.Fatal(err)
	}
	s = b.shipper(ShipperConfig{})
	s.Track(web, d)
	check()
}

func TestCollectorWithSim(t *testing.T) {
	b, d := startBus(t), startSim(t)
	deploy(t, d, "web", 2, nil)
	m := NewMetrics("test")
	c, clock := startCollector(t, CollectorConfig{JS: b.js, Metrics: m})
	c.Track(web, d)
	sweep(t, clock, m, 1)
	sweep(t, clock, m, 2)
	if n := strings.Count(scrape(m), "kranix_workload_memory_bytes{"); n != 2 {
		t.Errorf("%d series of memory, want 2", n)
	}
	if n := counterValue(t, m, "kranix_workload_cpu_seconds_total"); n <= 0 {
		t.Errorf("cpu seconds are %v", n)
	}
	subject, err := subjects.Metric(web)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(b.messages(subjects.StreamMetrics, subject)); n != 2 {
		t.Errorf("%d readings published, want 2", n)
	}
}

// BenchmarkShipper measures lines a second from an engine's log into the stream, over a
// real connection to a server in this process.
func BenchmarkShipper(b *testing.B) {
	for _, workloads := range []int{1, 8} {
		for _, bytes := range []string{"100", "1000"} {
			b.Run(fmt.Sprintf("workloads=%d/bytes=%s", workloads, bytes), func(b *testing.B) {
				benchmarkShipper(b, workloads, bytes)
			})
		}
	}
}

func benchmarkShipper(b *testing.B, workloads int, bytes string) {
	bus, d := startBus(b), startSim(b)
	m := NewMetrics("bench")
	const rate = 1_000_000 // More than can be shipped: the log never ends.
	for i := range workloads {
		deploy(b, d, fmt.Sprintf("web-%d", i), 1, map[string]string{"SIM_LOG_RATE": fmt.Sprint(rate), "SIM_LOG_BYTES": bytes})
	}
	s, err := NewShipper(ShipperConfig{JS: bus.js, Metrics: m})
	if err != nil {
		b.Fatal(err)
	}
	before := cpuTime(b)
	b.ResetTimer()
	for i := range workloads {
		w := web
		w.Name = fmt.Sprintf("web-%d", i)
		s.Track(w, d)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if counterValue(b, m, "kranix_log_lines_shipped_total") >= float64(b.N) {
			break
		}
	}
	b.StopTimer()
	lines := counterValue(b, m, "kranix_log_lines_shipped_total")
	b.ReportMetric(lines/b.Elapsed().Seconds(), "lines/s")
	// Engine, shipper and server together: what counts on a machine that is shared.
	b.ReportMetric(lines/(cpuTime(b)-before).Seconds(), "lines/cpu-s")
	abort(s)
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkIdleWorkload measures what a tracked workload that prints nothing costs.
func BenchmarkIdleWorkload(b *testing.B) {
	bus := startBus(b)
	s, err := NewShipper(ShipperConfig{JS: bus.js})
	if err != nil {
		b.Fatal(err)
	}
	engines := make([]*fakeEngine, b.N)
	for i := range engines {
		engines[i] = newFakeEngine()
		engines[i].create("aaa", 0)
	}
	before, goroutines := heap(), runtime.NumGoroutine()
	b.ResetTimer()
	for i, e := range engines {
		w := web
		w.Name = fmt.Sprintf("web-%d", i)
		s.Track(w, e)
	}
	for _, e := range engines {
		eventually(b, func() error {
			if len(e.readings()) == 0 {
				return fmt.Errorf("not followed yet")
			}
			return nil
		})
	}
	b.StopTimer()
	b.ReportMetric(float64(heap()-before)/float64(b.N), "bytes/workload")
	b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/float64(b.N), "goroutines/workload")
	abort(s)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
