package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// The results of a reading, as kranix_workload_readings_total has them.
const (
	readOK          = "ok"
	readFailed      = "failed"
	readUnpublished = "unpublished"
)

// Collector reads the cpu and memory use of all tracked workloads at an interval,
// publishes each reading on kranix.metric and shows the last one in Metrics. One sweep
// reads all of them, a few at a time; a sweep that takes longer than the interval makes
// the next one be left out. A reading that cannot be published is lost, and counted:
// the next one makes up for it, since the counters are cumulative.
type Collector struct {
	cfg  CollectorConfig
	work sync.WaitGroup
	crew crew

	mu      sync.Mutex
	closed  bool
	tracked map[subjects.Workload]*sample
}

// NewCollector makes a collector. Close it to end its goroutines.
func NewCollector(cfg CollectorConfig) (*Collector, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Collector{cfg: cfg, tracked: make(map[subjects.Workload]*sample)}
	c.crew = newCrew(&c.work)
	ticks, stop := cfg.Clock.NewTicker(cfg.Interval)
	c.crew.start(func(ctx context.Context) {
		defer stop()
		for {
			select {
			case <-ticks:
				c.sweep(ctx)
			case <-ctx.Done():
				return
			}
		}
	})
	return c, nil
}

// Track reads the workload from the next sweep on. Tracking it again only replaces the
// reader.
func (c *Collector) Track(w subjects.Workload, r drivers.StatsReader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	if s := c.tracked[w]; s != nil {
		s.reader = r
		return
	}
	c.tracked[w] = &sample{workload: w, reader: r}
}

// Untrack stops reading the workload and removes its series.
func (c *Collector) Untrack(w subjects.Workload) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.tracked, w)
	c.show(w, nil, nil)
}

// Close stops the sweeps, the one in hand included, and returns when no goroutine is
// left.
func (c *Collector) Close(context.Context) error {
	c.mu.Lock()
	c.closed = true
	for w := range c.tracked {
		delete(c.tracked, w)
		c.show(w, nil, nil)
	}
	c.mu.Unlock()
	c.crew.stop()
	c.work.Wait()
	return nil
}

// show sets a workload's series, or removes them when there is nothing to show.
func (c *Collector) show(w subjects.Workload, stats []drivers.InstanceStats, cpu map[int]uint64) {
	if c.cfg.Metrics == nil {
		return
	}
	if len(stats) == 0 {
		c.cfg.Metrics.usage.remove(w)
		return
	}
	c.cfg.Metrics.usage.set(w, stats, cpu)
}

// job is one workload of a sweep, with the reader it has now.
type job struct {
	*sample
	from drivers.StatsReader
}

// sweep reads every workload once.
func (c *Collector) sweep(ctx context.Context) {
	began := c.cfg.Clock.Now()
	c.mu.Lock()
	jobs := make([]job, 0, len(c.tracked))
	for _, s := range c.tracked {
		jobs = append(jobs, job{s, s.reader})
	}
	c.mu.Unlock()
	// In the same order each time, so that a workload's readings are evenly spaced.
	slices.SortFunc(jobs, func(a, b job) int { return cmp.Compare(a.workload.String(), b.workload.String()) })
	queue := make(chan job)
	var readers sync.WaitGroup
	for range min(c.cfg.Parallelism, len(jobs)) {
		readers.Go(func() {
			for j := range queue {
				c.read(ctx, j)
			}
		})
	}
	for _, j := range jobs {
		if ctx.Err() != nil {
			break
		}
		queue <- j
	}
	close(queue)
	readers.Wait()
	if m := c.cfg.Metrics; m != nil {
		m.sweep.Set(c.cfg.Clock.Now().Sub(began).Seconds())
	}
}

func (c *Collector) read(ctx context.Context, j job) {
	timed, cancel := context.WithTimeout(ctx, c.cfg.ReadTimeout)
	stats, err := j.from.ReadStats(timed, j.workload.ID())
	cancel()
	if ctx.Err() != nil {
		return
	}
	now := c.cfg.Clock.Now()
	var data subjects.MetricData
	c.mu.Lock()
	if c.tracked[j.workload] != j.sample {
		c.mu.Unlock()
		return // Untracked meanwhile: its series must not come back.
	}
	if err != nil {
		stats = nil
	} else {
		data = j.take(now, stats)
	}
	c.show(j.workload, stats, j.total)
	c.mu.Unlock()
	if err == nil && len(data.Instances) > 0 && c.cfg.JS != nil {
		if perr := c.publish(ctx, j.workload, data); perr != nil {
			c.report(j, readUnpublished, perr)
			return
		}
	}
	if err != nil {
		c.report(j, readFailed, err)
		return
	}
	c.report(j, readOK, nil)
}

// report counts a reading and logs when its result differs from the one before, so that
// an engine that is away fills no log.
func (c *Collector) report(j job, result string, err error) {
	if m := c.cfg.Metrics; m != nil {
		m.readings.WithLabelValues(backendLabel(j.workload.Backend), result).Inc()
	}
	if j.result == result {
		return
	}
	j.result = result
	if err != nil && !errors.Is(err, drivers.ErrNotFound) {
		c.cfg.Logger.Warn("reading of resource use is lost", "workload", j.workload.String(), "result", result, "error", err)
	}
}

func (c *Collector) publish(ctx context.Context, w subjects.Workload, data subjects.MetricData) error {
	if !c.cfg.JS.Conn().IsConnected() {
		return nats.ErrDisconnected
	}
	subject, err := subjects.Metric(w)
	if err != nil {
		return err
	}
	e, err := subjects.NewEvent(w.Source(), subjects.TypeMetric, w.ID(), data, nil)
	if err != nil {
		return err
	}
	msg, err := subjects.Encode(subject, e)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, defaultPublishTimeout)
	defer cancel()
	if _, err := c.cfg.JS.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0)); err != nil {
		return fmt.Errorf("publish metrics: %w", err)
	}
	return nil
}
