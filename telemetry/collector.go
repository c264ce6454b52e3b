package telemetry

import (
	"context"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// Collector reads the cpu and memory use of workloads at an interval.
type Collector struct{ cfg CollectorConfig }

// NewCollector makes a collector and starts it.
func NewCollector(cfg CollectorConfig) (*Collector, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Collector{cfg: cfg}, nil
}

// Track reads the workload from the next sweep on.
func (c *Collector) Track(w subjects.Workload, r drivers.StatsReader) {}

// Untrack ends it and removes the workload's series.
func (c *Collector) Untrack(w subjects.Workload) {}

// Close stops the sweeps and waits for the one in hand.
func (c *Collector) Close(ctx context.Context) error { return nil }
