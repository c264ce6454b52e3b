package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Op is a call to the engine that can be slowed down or made to fail.
type Op string

// The calls to the engine.
const (
	OpPing    Op = "ping"
	OpPull    Op = "pull"
	OpHook    Op = "hook"
	OpCreate  Op = "create"
	OpStart   Op = "start"
	OpStop    Op = "stop"
	OpRemove  Op = "remove"
	OpInspect Op = "inspect"
	OpList    Op = "list"
	OpLogs    Op = "logs"
	OpStats   Op = "stats"
)

// ops lists the known calls, for Validate and the steering variables.
func ops() []Op {
	return []Op{OpPing, OpPull, OpHook, OpCreate, OpStart, OpStop, OpRemove, OpInspect, OpList, OpLogs, OpStats}
}

// Config says how a simulated engine behaves. The zero value is an engine that does
// everything at once and never fails. Latency, Failures, BusyPulls, Intercept and Seed
// belong to a Driver (two drivers on one engine may see it differently), the rest to
// the Engine.
type Config struct {
	// Latency is how long a call takes.
	Latency map[Op]Latency
	// Failures are tried in order on every call; the first that applies is returned.
	Failures []Failure
	// BusyPulls makes every pull last an hour while it reports progress.
	BusyPulls bool
	// Intercept, when set, is called before each call; it may block, and an error it
	// returns becomes the call's. workloadID is empty for calls about no workload.
	Intercept func(ctx context.Context, op Op, workloadID string) error
	// Seed makes jitter and probabilities repeatable.
	Seed uint64
	// Refuse lists spec fields, by path, that the driver refuses as unsupported besides
	// "resources.gpu": health, networks, ports, preDeploy, resources.cpu,
	// resources.memory, secrets, security.devices, security.privileged, volumes.
	Refuse []string

	// LogRate is the lines per second each instance prints, LogLineBytes their length
	// (64 by default).
	LogRate      float64
	LogLineBytes int
	// ExitAfter, when above 0, ends every instance that long after its start with
	// ExitCode; OOM ends it as out of memory.
	ExitAfter time.Duration
	ExitCode  int
	OOM       bool
	// Health is the script of health checks, see the package documentation.
	Health string
	// Images are in the engine from the start.
	Images []string
	// RestartBackoff is the first pause of the restart policy, doubled up to a minute;
	// 100ms by default, as Docker's is.
	RestartBackoff time.Duration
	// JournalLimit bounds the journal; 100,000 entries by default, the oldest go first.
	JournalLimit int
	// ID names the engine; "sim" by default.
	ID string
	// StateFile, when set, keeps the engine's state: every change replaces the file
	// before the call that made it returns, so the engine survives a SIGKILL of its
	// process. One process at a time may use it.
	StateFile string
	// Clock is the system's by default.
	Clock Clock
}

// Latency is the time a call takes: Base, plus up to Jitter.
type Latency struct {
	Base, Jitter time.Duration
}

// Failure makes calls fail.
type Failure struct {
	Op Op
	// Workload restricts the failure to one workload ID.
	Workload string
	// Class is what the error matches, one of the classes of package drivers; nil is
	// an engine failure of no class.
	Class error
	// Message is the error's cause.
	Message string
	// Times is how many calls fail, 0 for all. Every lets only every nth matching call
	// fail. Probability, when above 0, lets a call fail that often.
	Times, Every int
	Probability  float64
	// LoseReply carries the call out and then fails it, as a connection does that
	// breaks before the answer.
	LoseReply bool
}

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	var errs []error
	known := map[Op]bool{}
	for _, op := range ops() {
		known[op] = true
	}
	for op, l := range c.Latency {
		if !known[op] {
			errs = append(errs, fmt.Errorf("latency.%s: unknown call, want one of %v", op, ops()))
		}
		if l.Base < 0 || l.Jitter < 0 {
			errs = append(errs, fmt.Errorf("latency.%s: must not be negative", op))
		}
	}
	for i, f := range c.Failures {
		if !known[f.Op] {
			errs = append(errs, fmt.Errorf("failures[%d].op: unknown call %q, want one of %v", i, f.Op, ops()))
		}
		if f.Times < 0 || f.Every < 0 || f.Probability < 0 || f.Probability > 1 {
			errs = append(errs, fmt.Errorf("failures[%d]: times and every must not be negative, probability must be 0 to 1", i))
		}
	}
	if c.LogRate < 0 || c.LogLineBytes < 0 {
		errs = append(errs, errors.New("logRate and logLineBytes must not be negative"))
	}
	if c.RestartBackoff < 0 || c.ExitAfter < 0 || c.JournalLimit < 0 {
		errs = append(errs, errors.New("restartBackoff, exitAfter and journalLimit must not be negative"))
	}
	fields := refusable()
	for i, path := range c.Refuse {
		if _, ok := fields[path]; !ok {
			errs = append(errs, fmt.Errorf("refuse[%d]: %q cannot be refused, want one of %v", i, path, slices.Sorted(maps.Keys(fields))))
		}
	}
	if _, err := parseHealth(c.Health); err != nil {
		errs = append(errs, fmt.Errorf("health: %w", err))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.LogLineBytes == 0 {
		c.LogLineBytes = 64
	}
	if c.RestartBackoff == 0 {
		c.RestartBackoff = 100 * time.Millisecond
	}
	if c.JournalLimit == 0 {
		c.JournalLimit = 100_000
	}
	if c.ID == "" {
		c.ID = "sim"
	}
	if c.Clock == nil {
		c.Clock = systemClock{}
	}
	return c
}

// Clock is the engine's time.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f on a goroutine of its own when d has passed; stop prevents it
	// and says whether it did.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}

// sleep waits for d or the end of ctx, whose cause it then returns.
func sleep(ctx context.Context, clock Clock, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	done := make(chan struct{})
	stop := clock.AfterFunc(d, func() { close(done) })
	defer stop()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
