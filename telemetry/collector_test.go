package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// manualClock ticks when told to.
type manualClock struct {
	ticks chan time.Time
	mu    sync.Mutex
	now   time.Time
	every time.Duration
}

func newManualClock() *manualClock { return &manualClock{ticks: make(chan time.Time), now: start} }

func (c *manualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *manualClock) NewTicker(d time.Duration) (<-chan time.Time, func()) {
	c.every = d
	return c.ticks, func() {}
}

// tick passes one interval. The tick is taken when the sweep before it is over.
func (c *manualClock) tick(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	c.now = c.now.Add(c.every)
	now := c.now
	c.mu.Unlock()
	select {
	case c.ticks <- now:
	case <-time.After(deadline):
		t.Fatal("the collector does not take a tick")
	}
}

// fakeStats answers with what it was given last.
type fakeStats struct {
	mu      sync.Mutex
	stats   []drivers.InstanceStats
	err     error
	reading func()
	active  int
	most    int
}

func (f *fakeStats) set(err error, stats ...drivers.InstanceStats) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats, f.err = stats, err
}

func (f *fakeStats) ReadStats(context.Context, string) ([]drivers.InstanceStats, error) {
	f.mu.Lock()
	f.active++
	f.most = max(f.most, f.active)
	stats, err, reading := f.stats, f.err, f.reading
	f.mu.Unlock()
	if reading != nil {
		reading()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.active--
	return stats, err
}

func startCollector(t *testing.T, cfg CollectorConfig) (*Collector, *manualClock) {
	t.Helper()
	clock := newManualClock()
	cfg.Clock = clock
	c, err := NewCollector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c, clock
}

// sweep passes one interval and waits until a workload has been read that often.
func sweep(t *testing.T, clock *manualClock, m *Metrics, readings float64) {
	t.Helper()
	clock.tick(t)
	eventually(t, func() error {
		if n := counterValue(t, m, "kranix_workload_readings_total"); n != readings {
			return fmt.Errorf("%v readings", n)
		}
		return nil
	})
}

func reading(instance int, id string, at time.Duration, cpu time.Duration, memory uint64) drivers.InstanceStats {
	return drivers.InstanceStats{Instance: instance, InstanceID: id, At: start.Add(at), CPUNanoseconds: uint64(cpu), MemoryBytes: memory}
}

func TestSampleCPUPercent(t *testing.T) {
	type want struct {
		percent float64 // -1: absent
		total   time.Duration
	}
	steps := []struct {
		name  string
		stats []drivers.InstanceStats
		want  map[string]want
	}{
		{"first reading", []drivers.InstanceStats{reading(0, "a", 0, 10*time.Second, 1)}, map[string]want{"a": {-1, 10 * time.Second}}},
		{"half a core", []drivers.InstanceStats{reading(0, "a", 10*time.Second, 15*time.Second, 1)}, map[string]want{"a": {50, 15 * time.Second}}},
		{"two cores", []drivers.InstanceStats{reading(0, "a", 11*time.Second, 17*time.Second, 1)}, map[string]want{"a": {200, 17 * time.Second}}},
		{"idle", []drivers.InstanceStats{reading(0, "a", 21*time.Second, 17*time.Second, 1)}, map[string]want{"a": {0, 17 * time.Second}}},
		{"started again", []drivers.InstanceStats{reading(0, "a", 31*time.Second, 2*time.Second, 1)}, map[string]want{"a": {-1, 19 * time.Second}}},
		{"two copies", []drivers.InstanceStats{reading(0, "a", 41*time.Second, 3*time.Second, 1), reading(0, "b", 41*time.Second, time.Second, 1)},
			map[string]want{"a": {10, 21 * time.Second}, "b": {-1, 21 * time.Second}}},
		{"replaced", []drivers.InstanceStats{reading(0, "b", 51*time.Second, 2*time.Second, 1)}, map[string]want{"b": {10, 22 * time.Second}}},
		{"the same moment", []drivers.InstanceStats{reading(0, "b", 51*time.Second, 2*time.Second, 1)}, map[string]want{"b": {-1, 22 * time.Second}}},
	}
	s := &sample{workload: web}
	for _, step := range steps {
		data := s.take(start, step.stats)
		if len(data.Instances) != len(step.want) {
			t.Fatalf("%s: %d instances, want %d", step.name, len(data.Instances), len(step.want))
		}
		for _, m := range data.Instances {
			w := step.want[m.InstanceID]
			got := -1.0
			if m.CPUPercent != nil {
				got = *m.CPUPercent
			}
			if got != w.percent {
				t.Errorf("%s: percent of %s is %v, want %v", step.name, m.InstanceID, got, w.percent)
			}
			if total := time.Duration(s.total[m.Instance]); total != w.total {
				t.Errorf("%s: total is %s, want %s", step.name, total, w.total)
			}
		}
	}
}

func TestCollectorPublishesAndExports(t *testing.T) {
	b := startBus(t)
	m := NewMetrics("test")
	c, clock := startCollector(t, CollectorConfig{JS: b.js, Metrics: m, Interval: time.Minute})
	if clock.every != time.Minute {
		t.Errorf("ticks every %s", clock.every)
	}
	f := &fakeStats{}
	f.set(nil, reading(0, "a", 0, 3*time.Second, 1000), reading(1, "b", 0, time.Second, 2000))
	c.Track(web, f)
	sweep(t, clock, m, 1)
	f.set(nil, reading(0, "a", time.Minute, 9*time.Second, 1500), reading(1, "b", time.Minute, time.Second, 2000))
	sweep(t, clock, m, 2)
	subject, err := subjects.Metric(web)
	if err != nil {
		t.Fatal(err)
	}
	var data []subjects.MetricData
	eventually(t, func() error {
		data = data[:0]
		for _, msg := range b.messages(subjects.StreamMetrics, subject) {
			e, err := subjects.Decode(msg.Header, msg.Data)
			if err != nil {
				t.Fatal(err)
			}
			if e.Type() != subjects.TypeMetric || e.Source() != web.Source() || e.Subject() != web.ID() {
				t.Fatalf("event is %s", e)
			}
			var d subjects.MetricData
			if err := json.Unmarshal(e.Data(), &d); err != nil {
				t.Fatal(err)
			}
			data = append(data, d)
		}
		if len(data) < 2 {
			return fmt.Errorf("%d messages", len(data))
		}
		return nil
	})
	if p := data[0].Instances[0].CPUPercent; p != nil {
		t.Errorf("the first reading has percent %v", *p)
	}
	if p := data[1].Instances[0].CPUPercent; p == nil || *p != 10 {
		t.Errorf("the second reading has percent %v, want 10", p)
	}
	if !data[1].At.Equal(start.Add(2 * time.Minute)) {
		t.Errorf("read at %s", data[1].At)
	}
	want := []string{
		`kranix_workload_cpu_seconds_total{backend="sim",instance="0",name="web",namespace="shop",node="n1"} 9`,
		`kranix_workload_memory_bytes{backend="sim",instance="0",name="web",namespace="shop",node="n1"} 1500`,
		`kranix_workload_memory_bytes{backend="sim",instance="1",name="web",namespace="shop",node="n1"} 2000`,
	}
	eventually(t, func() error { return exposes(m, want...) })
	c.Untrack(web)
	if text := scrape(m); strings.Contains(text, `name="web"`) {
		t.Errorf("series are left:\n%s", text)
	}
}

// A reading that is under way while its workload is untracked must not bring the series
// back.
func TestCollectorUntrackDuringSweep(t *testing.T) {
	m := NewMetrics("test")
	c, clock := startCollector(t, CollectorConfig{Metrics: m})
	f := &fakeStats{reading: func() { c.Untrack(web) }}
	f.set(nil, reading(0, "a", 0, time.Second, 1))
	c.Track(web, f)
	clock.tick(t)
	clock.tick(t)
	if text := scrape(m); strings.Contains(text, `name="web"`) {
		t.Errorf("series are left:\n%s", text)
	}
}

func TestCollectorFailedReadings(t *testing.T) {
	m := NewMetrics("test")
	c, clock := startCollector(t, CollectorConfig{Metrics: m})
	f := &fakeStats{}
	f.set(nil, reading(0, "a", 0, time.Second, 7))
	c.Track(web, f)
	sweep(t, clock, m, 1)
	f.set(errors.New("engine is away"))
	sweep(t, clock, m, 2)
	sweep(t, clock, m, 3)
	eventually(t, func() error {
		return exposes(m, `kranix_workload_readings_total{backend="sim",result="ok"} 1`,
			`kranix_workload_readings_total{backend="sim",result="failed"} 2`)
	})
	if text := scrape(m); strings.Contains(text, `name="web"`) {
		t.Errorf("an old reading is shown as the present one:\n%s", text)
	}
}

func TestCollectorReadsAFewAtATime(t *testing.T) {
	m := NewMetrics("test")
	c, clock := startCollector(t, CollectorConfig{Metrics: m, Parallelism: 3})
	const workloads = 40
	var mu sync.Mutex
	waiting, gate := 0, make(chan struct{})
	f := &fakeStats{reading: func() {
		mu.Lock()
		waiting++
		if waiting == 3 {
			close(gate) // All three readers are here.
		}
		mu.Unlock()
		<-gate
	}}
	f.set(nil, reading(0, "a", 0, time.Second, 1))
	for i := range workloads {
		w := web
		w.Name = fmt.Sprintf("web-%d", i)
		c.Track(w, f)
	}
	clock.tick(t)
	eventually(t, func() error {
		return exposes(m, fmt.Sprintf(`kranix_workload_readings_total{backend="sim",result="ok"} %d`, workloads))
	})
	if f.most != 3 {
		t.Errorf("%d at a time, want 3", f.most)
	}
}

func TestCollectorWithTheBusAway(t *testing.T) {
	b := startBus(t)
	m := NewMetrics("test")
	c, clock := startCollector(t, CollectorConfig{JS: b.js, Metrics: m})
	f := &fakeStats{}
	f.set(nil, reading(0, "a", 0, time.Second, 7))
	c.Track(web, f)
	b.stop()
	eventually(t, func() error {
		if b.nc.IsConnected() {
			return errors.New("still connected")
		}
		return nil
	})
	clock.tick(t)
	eventually(t, func() error {
		return exposes(m, `kranix_workload_readings_total{backend="sim",result="unpublished"} 1`,
			`kranix_workload_memory_bytes{backend="sim",instance="0",name="web",namespace="shop",node="n1"} 7`)
	})
	b.start()
}

func TestCollectorConfigFaults(t *testing.T) {
	_, err := NewCollector(CollectorConfig{Interval: -1, Parallelism: -1})
	if err == nil || !strings.Contains(err.Error(), "Interval") || !strings.Contains(err.Error(), "Parallelism") {
		t.Errorf("error is %v", err)
	}
}
