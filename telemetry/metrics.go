package telemetry

import (
	"net/http"
	"runtime/debug"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kranix-io/kranix-runtime/subjects"
)

// other is the label value of what is not known, so that no message from outside can
// make a new series.
const other = "other"

// Metrics counts what the runtime does, for Prometheus. It has a registry of its own.
// All methods may be called concurrently, and on a nil *Metrics, which counts nothing.
//
// Every label has a bounded set of values, except those that name a workload: their
// series live as long as a Collector tracks the workload.
type Metrics struct {
	registry *prometheus.Registry

	received    *prometheus.CounterVec
	settled     *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	inFlight    *prometheus.GaugeVec
	deadLetters *prometheus.CounterVec
	engineUp    *prometheus.GaugeVec

	logLines   *prometheus.CounterVec
	logBytes   *prometheus.CounterVec
	logGaps    *prometheus.CounterVec
	logLost    *prometheus.CounterVec
	logRetries *prometheus.CounterVec

	readings *prometheus.CounterVec
	sweep    prometheus.Gauge
	usage    *usageTable
}

// NewMetrics makes the metrics, all at zero. version is shown in kranix_build_info;
// empty takes what the Go toolchain recorded.
func NewMetrics(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), usage: newUsageTable()}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: subjects.Root, Name: name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: subjects.Root, Name: name, Help: help}, labels)
		m.registry.MustRegister(g)
		return g
	}
	m.received = counter("commands_received_total", "Commands taken in, redeliveries not counted.", "backend", "verb")
	m.settled = counter("commands_settled_total", "Commands that reached their one result.", "backend", "verb", "outcome")
	m.duration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: subjects.Root, Name: "command_duration_seconds",
		Help:    "Time from the publication of a command to its result.",
		Buckets: []float64{.005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800},
	}, []string{"backend", "verb"})
	m.inFlight = gauge("commands_in_flight", "Commands being carried out now.", "backend")
	m.deadLetters = counter("dead_letters_total", "Commands given up or not understood.", "backend")
	m.engineUp = gauge("engine_up", "Whether the engine answered the last time it was asked.", "backend")

	m.logLines = counter("log_lines_shipped_total", "Log lines the stream has acknowledged.", "backend")
	m.logBytes = counter("log_bytes_shipped_total", "Bytes of log lines the stream has acknowledged.", "backend")
	m.logGaps = counter("log_gaps_total", "Declared gaps in the logs.", "backend", "reason")
	m.logLost = counter("log_lines_lost_total", "Log lines in declared gaps, where their number is known.", "backend", "reason")
	m.logRetries = counter("log_publish_retries_total", "Publications of log lines that had to be repeated.", "backend")

	m.readings = counter("workload_readings_total", "Readings of a workload's resource use.", "backend", "result")
	m.sweep = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: subjects.Root, Name: "workload_sweep_duration_seconds",
		Help: "How long the last reading of all workloads took."})

	m.registry.MustRegister(m.duration, m.sweep, m.usage, buildInfo(version),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func buildInfo(version string) prometheus.Collector {
	revision, goVersion := "unknown", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		goVersion = info.GoVersion
		if version == "" {
			version = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: subjects.Root, Name: "build_info",
		Help:        "What was built, always 1.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "goversion": goVersion}})
	g.Set(1)
	return g
}

// Handler serves the metrics in Prometheus' formats.
func (m *Metrics) Handler() http.Handler {
	if m == nil {
		return http.NotFoundHandler()
	}
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, EnableOpenMetrics: true})
}

// Registry lets other parts of the process add collectors of their own.
func (m *Metrics) Registry() prometheus.Registerer {
	if m == nil {
		return prometheus.NewRegistry()
	}
	return m.registry
}

// CommandReceived counts a command taken in.
func (m *Metrics) CommandReceived(backend, verb string) {
	if m != nil {
		m.received.WithLabelValues(backendLabel(backend), verbLabel(verb)).Inc()
	}
}

// CommandSettled counts a command's result; seconds is the time since the command was
// published.
func (m *Metrics) CommandSettled(backend, verb, outcome string, seconds float64) {
	if m == nil {
		return
	}
	if !slices.Contains(subjects.Outcomes(), subjects.Outcome(outcome)) {
		outcome = other
	}
	m.settled.WithLabelValues(backendLabel(backend), verbLabel(verb), outcome).Inc()
	m.duration.WithLabelValues(backendLabel(backend), verbLabel(verb)).Observe(seconds)
}

// Gauge goes up and down.
type Gauge interface {
	Inc()
	Dec()
}

type noGauge struct{}

func (noGauge) Inc() {}
func (noGauge) Dec() {}

// InFlight is the number of commands being carried out.
func (m *Metrics) InFlight(backend string) Gauge {
	if m == nil {
		return noGauge{}
	}
	return m.inFlight.WithLabelValues(backendLabel(backend))
}

// DeadLettered counts a dead letter.
func (m *Metrics) DeadLettered(backend string) {
	if m != nil {
		m.deadLetters.WithLabelValues(backendLabel(backend)).Inc()
	}
}

// EngineUp records whether a backend's engine answers.
func (m *Metrics) EngineUp(backend string, up bool) {
	if m == nil {
		return
	}
	v := 0.0
	if up {
		v = 1
	}
	m.engineUp.WithLabelValues(backendLabel(backend)).Set(v)
}

// LogsShipped counts lines the stream has acknowledged.
func (m *Metrics) LogsShipped(backend string, lines, bytes int64) {
	if m != nil {
		m.logLines.WithLabelValues(backendLabel(backend)).Add(float64(lines))
		m.logBytes.WithLabelValues(backendLabel(backend)).Add(float64(bytes))
	}
}

// LogGap counts a declared gap; lines is 0 when their number is not known.
func (m *Metrics) LogGap(backend, reason string, lines int64) {
	if m != nil {
		m.logGaps.WithLabelValues(backendLabel(backend), reason).Inc()
		m.logLost.WithLabelValues(backendLabel(backend), reason).Add(float64(lines))
	}
}

func (m *Metrics) logRetried(backend string) {
	if m != nil {
		m.logRetries.WithLabelValues(backendLabel(backend)).Inc()
	}
}

func backendLabel(b string) string {
	if b == subjects.Any || slices.Contains(subjects.Backends(), b) {
		return b
	}
	return other
}

func verbLabel(v string) string {
	if slices.Contains(subjects.Verbs(), subjects.Verb(v)) {
		return v
	}
	return other
}
