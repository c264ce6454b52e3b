package drivers

import (
	"strings"
	"time"
)

// The bounds of durations.
const (
	// MaxDeadline keeps a command's deadline below the time its stream keeps it.
	MaxDeadline = 6 * 24 * time.Hour
	MaxTTL      = 10 * 365 * 24 * time.Hour

	maxWait        = 24 * time.Hour
	minProbePeriod = 10 * time.Millisecond
	maxAttempts    = 1_000_000
)

// duration reports a duration that is neither 0 nor within its bounds: 0 is the
// default, or none at all.
func (f *faults) duration(field string, d Duration, low, high time.Duration) {
	if d != 0 && (d.D() < low || d.D() > high) {
		f.add(field, "want %s to %s, got %s", low, high, d)
	}
}

func (f *faults) lifecycle(s *WorkloadSpec) {
	if s.Replicas != nil {
		within(f, "replicas", *s.Replicas, 0, MaxReplicas)
	}
	if s.Restart.Policy != "" {
		f.oneOf("restart.policy", s.Restart.Policy, RestartAlways, RestartOnFailure, RestartUnlessStopped, RestartNo)
	}
	if within(f, "restart.attempts", s.Restart.Attempts, 0, maxAttempts) &&
		s.Restart.Attempts > 0 && s.Restart.Policy != RestartOnFailure {
		f.add("restart.attempts", "is for restart.policy %s", RestartOnFailure)
	}
	if s.Stop.Signal != "" && !isSignal(s.Stop.Signal) {
		f.add("stop.signal", "want a signal such as SIGTERM, TERM or 15, got %s", quote(s.Stop.Signal))
	}
	if s.Stop.Grace != nil {
		f.duration("stop.grace", *s.Stop.Grace, 0, maxWait)
	}
	if s.PreDeploy != nil {
		f.argv("preDeploy.command", s.PreDeploy.Command, true)
		f.duration("preDeploy.timeout", s.PreDeploy.Timeout, time.Second, maxWait)
	}
	f.duration("ttl", s.TTL, time.Second, MaxTTL)
	f.duration("deadline", s.Deadline, time.Second, MaxDeadline)
}

func (f *faults) update(s *WorkloadSpec) {
	u := s.Update
	if u.Order != "" {
		f.oneOf("update.order", u.Order, StartFirst, StopFirst)
	}
	if u.Order == StartFirst {
		if why := CoexistenceFault(s); why != "" {
			f.add("update.order", "%s is not possible: %s", StartFirst, why)
		}
	}
	within(f, "update.parallelism", u.Parallelism, 0, MaxReplicas)
	if u.Monitor != nil {
		f.duration("update.monitor", *u.Monitor, 0, maxWait)
	}
}

func (f *faults) health(h *HealthCheck) {
	if h == nil {
		return
	}
	kinds := 0
	if len(h.Exec) > 0 {
		kinds++
		f.argv("health.exec", h.Exec, true)
	}
	if h.HTTP != nil {
		kinds++
		f.httpProbe(h.HTTP)
	}
	if h.TCP != nil {
		kinds++
		within(f, "health.tcp.port", h.TCP.Port, 1, maxPort)
	}
	if kinds != 1 {
		f.add("health", "want exactly one of exec, http and tcp, got %d", kinds)
	}
	f.duration("health.interval", h.Interval, minProbePeriod, maxWait)
	f.duration("health.timeout", h.Timeout, minProbePeriod, maxWait)
	f.duration("health.startPeriod", h.StartPeriod, time.Millisecond, maxWait)
	within(f, "health.retries", h.Retries, 0, maxEntries)
}

func (f *faults) httpProbe(p *HTTPProbe) {
	within(f, "health.http.port", p.Port, 1, maxPort)
	if p.Path != "" && f.plain("health.http.path", p.Path, maxPath) &&
		(p.Path[0] != '/' || strings.Contains(p.Path, " ")) {
		f.add("health.http.path", "want a path that begins with '/' and holds no space, got %s", quote(p.Path))
	}
	if p.Scheme != "" {
		f.oneOf("health.http.scheme", p.Scheme, "http", "https")
	}
	within(f, "health.http.headers", len(p.Headers), 0, maxEntries)
	for i, name := range sortedKeys(p.Headers) {
		if i >= maxEntries {
			break
		}
		field := FieldPath("health.http.headers", name)
		if !isHeaderName(name) {
			f.add(field, "want the name of an HTTP header")
		}
		// A line end here would begin another header.
		f.plain(field, p.Headers[name], maxPath)
	}
}

// isHeaderName says whether s is a token of RFC 9110 section 5.6.2.
func isHeaderName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for _, c := range []byte(s) {
		if !isAlnum(c) && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return true
}

func (f *faults) logs(l LogConfig) {
	f.bytes("logs.maxSize", l.MaxSize, 4<<10, 1<<40)
	within(f, "logs.maxFiles", l.MaxFiles, 0, maxEntries)
}
