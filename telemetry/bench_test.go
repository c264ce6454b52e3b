//go:build unix

package telemetry

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"
)

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
				return errors.New("not followed yet")
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
