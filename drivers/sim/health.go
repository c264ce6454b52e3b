package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

type healthKind int

const (
	healthGreen healthKind = iota
	healthNever
	healthAfter
	healthUntil
	healthFlap
)

// healthScript says when the health checks of an instance pass.
type healthScript struct {
	kind healthKind
	d    time.Duration
}

// parseHealth reads "", "ok", "never", "after:2s", "until:5s" or "flap:1s".
func parseHealth(v string) (healthScript, error) {
	switch v {
	case "", "ok":
		return healthScript{}, nil
	case "never":
		return healthScript{kind: healthNever}, nil
	}
	word, rest, _ := strings.Cut(v, ":")
	kind, ok := map[string]healthKind{"after": healthAfter, "until": healthUntil, "flap": healthFlap}[word]
	if !ok {
		return healthScript{}, fmt.Errorf("want ok, never, after:<duration>, until:<duration> or flap:<duration>, got %q", v)
	}
	d, err := parseDuration(rest)
	if err != nil {
		return healthScript{}, err
	}
	if kind == healthFlap && d < time.Millisecond {
		return healthScript{}, fmt.Errorf("want at least 1ms between changes, got %q", v)
	}
	return healthScript{kind: kind, d: d}, nil
}

type healthState string

const (
	healthNone      healthState = ""
	healthStarting  healthState = "starting"
	healthHealthy   healthState = "healthy"
	healthUnhealthy healthState = "unhealthy"
)

// at is the state of an instance that has been up for elapsed, and how long it stays
// so (negative: for good).
func (s healthScript) at(check *drivers.HealthCheck, elapsed time.Duration) (healthState, time.Duration) {
	// Failures count from the end of the start period on, one per interval.
	verdict := check.StartPeriod.D() + time.Duration(max(check.Retries, 1))*check.Interval.D()
	failing := func(until time.Duration) (healthState, time.Duration) {
		if elapsed >= verdict {
			return healthUnhealthy, until - elapsed
		}
		return healthStarting, min(verdict, until) - elapsed
	}
	const forever = time.Duration(1<<63 - 1)
	switch s.kind {
	case healthNever:
		st, next := failing(forever)
		if st == healthUnhealthy {
			next = -1
		}
		return st, next
	case healthAfter:
		if elapsed < s.d {
			return failing(s.d)
		}
	case healthUntil:
		if elapsed < s.d {
			return healthHealthy, s.d - elapsed
		}
		return healthUnhealthy, -1
	case healthFlap:
		if turn := elapsed / s.d; turn%2 == 1 {
			return healthUnhealthy, s.d - elapsed%s.d
		}
		return healthHealthy, s.d - elapsed%s.d
	}
	return healthHealthy, -1
}
