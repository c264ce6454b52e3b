package workers

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
	"github.com/kranix-io/kranix-runtime/telemetry"
)

// Config is what a worker needs. The zero value of a field with a default means the
// default.
type Config struct {
	// Node is the label of the node this worker belongs to.
	Node string
	// Backends are the pools this worker serves.
	Backends []Backend
	// DefaultBackend is what backend "_" of a command means here; empty refuses it.
	DefaultBackend string
	// RejectUnserved makes this worker reject commands for backends it does not serve.
	// It is right where no other worker can be on the bus: otherwise those commands
	// would wait until they are overdue.
	RejectUnserved bool

	NC *nats.Conn
	JS jetstream.JetStream

	// AckWait is how long a command may go without a sign of life before another
	// delivery; 10s by default.
	AckWait time.Duration
	// Lease is how long a claim holds without being renewed; 10s by default.
	Lease time.Duration
	// Deadline is how long a command that sets none may take from its publication, 1h
	// by default. It must be below the retention of KRANIX_COMMANDS.
	Deadline time.Duration
	// DrainTimeout is how long a shutdown waits for running commands; 30s by default.
	DrainTimeout time.Duration
	// RetryMin and RetryMax bound the pause between attempts (500ms, 30s).
	RetryMin, RetryMax time.Duration
	// MaxAttempts is how often an engine failure is tried before the command is given
	// up; 5 by default.
	MaxAttempts int
	// MaxQueued bounds the commands held in memory per consumer; 8192 by default.
	MaxQueued int

	// Policy is what specs may ask of this node.
	Policy drivers.Policy
	// LockDir is where engine locks live (one node per engine); empty takes no lock,
	// which is right only where nothing else can reach the engine.
	LockDir string

	// Logs and Metrics are told which workloads run here; either may be nil.
	Logs    LogTracker
	Metrics MetricTracker
	// Counters counts what happens; nil counts nothing.
	Counters *telemetry.Metrics

	Logger *slog.Logger
	// Now is the wall clock, time.Now by default.
	Now func() time.Time
}

// Backend is one pool.
type Backend struct {
	Name   string
	Driver drivers.RuntimeDriver
	// Concurrency is how many commands are carried out at a time; 16 by default.
	Concurrency int
}

// LogTracker ships the logs of workloads (telemetry.Shipper).
type LogTracker interface {
	Track(w subjects.Workload, r drivers.LogReader)
	Untrack(w subjects.Workload)
}

// MetricTracker reads the resource use of workloads (telemetry.Collector).
type MetricTracker interface {
	Track(w subjects.Workload, r drivers.StatsReader)
	Untrack(w subjects.Workload)
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.AckWait, 10*time.Second)
	def(&c.Lease, 10*time.Second)
	def(&c.Deadline, time.Hour)
	def(&c.DrainTimeout, 30*time.Second)
	def(&c.RetryMin, 500*time.Millisecond)
	def(&c.RetryMax, 30*time.Second)
	if c.MaxAttempts == 0 {
		c.MaxAttempts = 5
	}
	if c.MaxQueued == 0 {
		c.MaxQueued = 8192
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	for i := range c.Backends {
		if c.Backends[i].Concurrency == 0 {
			c.Backends[i].Concurrency = 16
		}
	}
	return c
}

// validate reports every fault of a Config with defaults.
func (c Config) validate() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !drivers.IsLabel(c.Node) {
		add("node %q is not a DNS-1123 label", c.Node)
	}
	if c.NC == nil || c.JS == nil {
		add("a NATS connection and its JetStream context are needed")
	}
	if len(c.Backends) == 0 {
		add("no backend to serve")
	}
	seen := map[string]bool{}
	for _, b := range c.Backends {
		switch {
		case b.Driver == nil:
			add("backend %q has no driver", b.Name)
		case seen[b.Name]:
			add("backend %q is listed twice", b.Name)
		case b.Concurrency < 1:
			add("backend %q: concurrency %d is below 1", b.Name, b.Concurrency)
		}
		seen[b.Name] = true
	}
	for name, d := range map[string]time.Duration{
		"ack wait": c.AckWait, "lease": c.Lease, "deadline": c.Deadline, "drain timeout": c.DrainTimeout,
		"retry min": c.RetryMin, "retry max": c.RetryMax,
	} {
		if d <= 0 {
			add("%s %s is not positive", name, d)
		}
	}
	if c.MaxAttempts < 1 {
		add("max attempts %d is below 1", c.MaxAttempts)
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("configure worker: %w", errors.Join(errs...))
}
