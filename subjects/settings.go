package subjects

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Limits of one message, headers included, in bytes.
const (
	// MaxCommandBytes bounds a command; a larger one is refused when it is published.
	MaxCommandBytes = 256 << 10
	// MaxAssignmentBytes bounds an assignment, which only refers to a command.
	MaxAssignmentBytes = 16 << 10
	// MaxMessageBytes bounds every other message. It is the default max_payload of a
	// NATS server, which also counts the headers.
	MaxMessageBytes = 1 << 20
	// MaxValueBytes bounds a value in a bucket.
	MaxValueBytes = 512 << 10
)

// The defaults of Settings.
const (
	DefaultCommandAge    = 7 * 24 * time.Hour
	DefaultResultAge     = DefaultCommandAge + resultMargin
	DefaultEventAge      = 30 * 24 * time.Hour
	DefaultDeadLetterAge = 30 * 24 * time.Hour
	DefaultLogAge        = 7 * 24 * time.Hour
	DefaultMetricAge     = 7 * 24 * time.Hour

	DefaultLogBytes    = 2 << 30
	DefaultMetricBytes = 512 << 20

	// DefaultDuplicates is how long a command published again with the same source and
	// id is dropped by the server itself. It covers a publisher's own retries; later
	// repetitions are found by their result, so correctness does not depend on it, and
	// each remembered message costs memory.
	DefaultDuplicates = 10 * time.Minute
)

// resultMargin is how much longer than commands results are kept by default.
const resultMargin = 3 * 24 * time.Hour

// ErrSettings is matched by the faults Settings.Validate reports.
var ErrSettings = errors.New("invalid settings")

// Settings are what an operator may choose about streams and buckets. The zero value
// of a field is its default.
type Settings struct {
	// Domain is the JetStream domain, APIPrefix the prefix of its API; at most one is
	// set. They concern how the streams are reached (JetStream), not what they are.
	Domain    string
	APIPrefix string

	// Replicas is the number of copies of commands, assignments, events, results, dead
	// letters and buckets: 1, or 3 or 5 in a cluster.
	Replicas int
	// LogReplicas is the number of copies of logs and metrics. With 1 they are written
	// asynchronously and the latest of them may be lost when the machine is.
	LogReplicas int

	// CommandAge is how long commands and assignments are kept; ResultAge must exceed
	// it, so that a command redelivered at the last moment finds its result, and is 3
	// days more by default. The server holds the subject of each result in memory, some
	// 400 bytes: a million results need 400 MB.
	CommandAge    time.Duration
	ResultAge     time.Duration
	EventAge      time.Duration
	DeadLetterAge time.Duration
	LogAge        time.Duration
	MetricAge     time.Duration

	// Duplicates is the window in which the server drops a repeated command.
	Duplicates time.Duration

	// LogBytes and MetricBytes bound their streams; the oldest messages go first. A
	// server reserves this much of its storage.
	LogBytes    int64
	MetricBytes int64
}

// WithDefaults returns s with every zero field set.
func (s Settings) WithDefaults() Settings {
	defaultTo(&s.Replicas, 1)
	defaultTo(&s.LogReplicas, 1)
	defaultTo(&s.CommandAge, DefaultCommandAge)
	defaultTo(&s.ResultAge, s.CommandAge+resultMargin)
	defaultTo(&s.EventAge, DefaultEventAge)
	defaultTo(&s.DeadLetterAge, DefaultDeadLetterAge)
	defaultTo(&s.LogAge, DefaultLogAge)
	defaultTo(&s.MetricAge, DefaultMetricAge)
	defaultTo(&s.Duplicates, DefaultDuplicates)
	defaultTo(&s.LogBytes, DefaultLogBytes)
	defaultTo(&s.MetricBytes, DefaultMetricBytes)
	return s
}

func defaultTo[T int | int64 | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// Validate reports every fault of s, with defaults applied, joined into one error.
// Errors: ErrSettings.
func (s Settings) Validate() error {
	s = s.WithDefaults()
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("%w: "+format, append([]any{ErrSettings}, args...)...))
	}
	if s.Domain != "" && s.APIPrefix != "" {
		fault("domain %q and API prefix %q exclude each other: a domain is a prefix", s.Domain, s.APIPrefix)
	}
	for _, r := range []struct {
		name string
		n    int
	}{{"replicas", s.Replicas}, {"log replicas", s.LogReplicas}} {
		if r.n != 1 && r.n != 3 && r.n != 5 {
			fault("%s is %d, want 1, 3 or 5", r.name, r.n)
		}
	}
	for _, a := range []struct {
		name string
		d    time.Duration
	}{
		{"command age", s.CommandAge}, {"result age", s.ResultAge}, {"event age", s.EventAge},
		{"dead letter age", s.DeadLetterAge}, {"log age", s.LogAge}, {"metric age", s.MetricAge},
	} {
		if a.d < time.Minute {
			fault("%s is %s, want at least 1m", a.name, a.d)
		}
	}
	if s.ResultAge <= s.CommandAge {
		fault("result age %s does not exceed command age %s: a command could outlive its result and run again", s.ResultAge, s.CommandAge)
	}
	if s.Duplicates < 0 || s.Duplicates > s.CommandAge {
		fault("duplicate window is %s, want more than 0 and at most the command age %s", s.Duplicates, s.CommandAge)
	}
	for _, b := range []struct {
		name string
		n    int64
	}{{"log bytes", s.LogBytes}, {"metric bytes", s.MetricBytes}} {
		if b.n < MaxMessageBytes {
			fault("%s is %d, want at least one message, %d", b.name, b.n, MaxMessageBytes)
		}
	}
	return errors.Join(faults...)
}

// JetStream returns the JetStream context of the domain or API prefix s names.
func (s Settings) JetStream(nc *nats.Conn, opts ...jetstream.JetStreamOpt) (jetstream.JetStream, error) {
	switch {
	case s.Domain != "":
		return jetstream.NewWithDomain(nc, s.Domain, opts...)
	case s.APIPrefix != "":
		return jetstream.NewWithAPIPrefix(nc, s.APIPrefix, opts...)
	}
	return jetstream.New(nc, opts...)
}
