package telemetry

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ShipperConfig configures a Shipper. Zero values take the defaults named here.
type ShipperConfig struct {
	// JS reaches the stream of the logs. Required.
	JS jetstream.JetStream
	// Logger receives what goes wrong in the background; nil discards it.
	Logger *slog.Logger
	// Metrics may be nil.
	Metrics *Metrics
	// MaxBatchBytes is the size, in bytes of encoded lines, at which a batch is
	// published without waiting for more: 64 KiB.
	MaxBatchBytes int
	// MaxDelay is how long a line waits for others: 75 ms.
	MaxDelay time.Duration
	// MaxPendingBytes bounds the encoded lines per instance that are read and not yet
	// acknowledged: 256 KiB. At the bound the reader waits. A batch takes all that is
	// pending, so this is also how much one round trip to a far server carries.
	MaxPendingBytes int
	// LinesPerSecond and BytesPerSecond bound what one workload may ship, in each second
	// of its own timestamps, so that catching up costs it nothing; 0 is no bound. What
	// is above is declared as a gap with the reason "rate-limit".
	LinesPerSecond, BytesPerSecond int64
	// PublishTimeout bounds one attempt to publish: 5 s.
	PublishTimeout time.Duration
	// DrainTimeout bounds how long the log of a workload that was untracked is read to
	// its end: 10 s.
	DrainTimeout time.Duration
}

const (
	defaultMaxBatchBytes   = 64 << 10
	defaultMaxDelay        = 75 * time.Millisecond
	defaultMaxPendingBytes = 256 << 10
	defaultPublishTimeout  = 5 * time.Second
	defaultDrainTimeout    = 10 * time.Second
)

func (c ShipperConfig) withDefaults() (ShipperConfig, error) {
	var faults []error
	if c.JS == nil {
		faults = append(faults, errors.New("JS is required"))
	}
	nonNegative(&faults, "MaxBatchBytes", int64(c.MaxBatchBytes))
	nonNegative(&faults, "MaxDelay", int64(c.MaxDelay))
	nonNegative(&faults, "MaxPendingBytes", int64(c.MaxPendingBytes))
	nonNegative(&faults, "LinesPerSecond", c.LinesPerSecond)
	nonNegative(&faults, "BytesPerSecond", c.BytesPerSecond)
	nonNegative(&faults, "PublishTimeout", int64(c.PublishTimeout))
	nonNegative(&faults, "DrainTimeout", int64(c.DrainTimeout))
	if len(faults) > 0 {
		return c, fmt.Errorf("configure log shipper: %w", errors.Join(faults...))
	}
	orDefault(&c.MaxBatchBytes, defaultMaxBatchBytes)
	orDefault(&c.MaxDelay, defaultMaxDelay)
	orDefault(&c.MaxPendingBytes, defaultMaxPendingBytes)
	orDefault(&c.PublishTimeout, defaultPublishTimeout)
	orDefault(&c.DrainTimeout, defaultDrainTimeout)
	c.MaxPendingBytes = max(c.MaxPendingBytes, c.MaxBatchBytes)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// CollectorConfig configures a Collector. Zero values take the defaults named here.
type CollectorConfig struct {
	// JS reaches the stream of the metrics; nil publishes nothing (Prometheus only).
	JS jetstream.JetStream
	// Logger receives what goes wrong in the background; nil discards it.
	Logger *slog.Logger
	// Metrics may be nil.
	Metrics *Metrics
	// Interval is the time from one sweep's start to the next: 30 s.
	Interval time.Duration
	// Parallelism is how many workloads are read at a time: 8.
	Parallelism int
	// ReadTimeout bounds the reading of one workload: 10 s.
	ReadTimeout time.Duration
	// Clock is the wall clock when nil.
	Clock Clock
}

const (
	defaultInterval    = 30 * time.Second
	defaultParallelism = 8
	defaultReadTimeout = 10 * time.Second
)

func (c CollectorConfig) withDefaults() (CollectorConfig, error) {
	var faults []error
	nonNegative(&faults, "Interval", int64(c.Interval))
	nonNegative(&faults, "Parallelism", int64(c.Parallelism))
	nonNegative(&faults, "ReadTimeout", int64(c.ReadTimeout))
	if len(faults) > 0 {
		return c, fmt.Errorf("configure metric collector: %w", errors.Join(faults...))
	}
	orDefault(&c.Interval, defaultInterval)
	orDefault(&c.Parallelism, defaultParallelism)
	orDefault(&c.ReadTimeout, defaultReadTimeout)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = wallClock{}
	}
	return c, nil
}

func nonNegative(faults *[]error, key string, v int64) {
	if v < 0 {
		*faults = append(*faults, fmt.Errorf("%s must not be negative, got %d", key, v))
	}
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Clock is the time a Collector lives by.
type Clock interface {
	Now() time.Time
	// NewTicker ticks every d until stop is called.
	NewTicker(d time.Duration) (ticks <-chan time.Time, stop func())
}

type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

func (wallClock) NewTicker(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTicker(d)
	return t.C, t.Stop
}
