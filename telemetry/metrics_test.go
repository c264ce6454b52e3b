package telemetry

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// counterValue is the sum of a metric's series.
func counterValue(t testing.TB, m *Metrics, name string) float64 {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatalf("gather: %v", err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, s := range f.GetMetric() {
				sum += s.GetCounter().GetValue() + s.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func scrape(m *Metrics) string {
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	return rec.Body.String()
}

func exposes(m *Metrics, lines ...string) error {
	text := scrape(m)
	for _, line := range lines {
		if !strings.Contains(text, "\n"+line+"\n") {
			return fmt.Errorf("no line %s", line)
		}
	}
	return nil
}

func TestMetricsCount(t *testing.T) {
	m := NewMetrics("v1.2.3")
	m.CommandReceived("docker", "deploy")
	m.CommandReceived("docker", "deploy")
	m.CommandSettled("docker", "deploy", "done", 0.2)
	m.InFlight("docker").Inc()
	m.InFlight("docker").Inc()
	m.InFlight("docker").Dec()
	m.DeadLettered("_")
	m.EngineUp("docker", true)
	m.EngineUp("podman", true)
	m.EngineUp("podman", false)
	m.LogsShipped("docker", 3, 30)
	m.LogGap("docker", gapRotated, 0)
	err := exposes(m,
		`kranix_commands_received_total{backend="docker",verb="deploy"} 2`,
		`kranix_commands_settled_total{backend="docker",outcome="done",verb="deploy"} 1`,
		`kranix_command_duration_seconds_bucket{backend="docker",verb="deploy",le="0.25"} 1`,
		`kranix_command_duration_seconds_bucket{backend="docker",verb="deploy",le="0.1"} 0`,
		`kranix_commands_in_flight{backend="docker"} 1`,
		`kranix_dead_letters_total{backend="_"} 1`,
		`kranix_engine_up{backend="docker"} 1`,
		`kranix_engine_up{backend="podman"} 0`,
		`kranix_log_lines_shipped_total{backend="docker"} 3`,
		`kranix_log_bytes_shipped_total{backend="docker"} 30`,
		`kranix_log_gaps_total{backend="docker",reason="rotated"} 1`,
	)
	if err != nil {
		t.Error(err)
	}
	for _, part := range []string{`kranix_build_info{`, `version="v1.2.3"`, `go_goroutines `, `process_open_fds `} {
		if !strings.Contains(scrape(m), part) {
			t.Errorf("no %s", part)
		}
	}
}

// Whatever comes in from outside makes no new series.
func TestMetricsLabelsAreBounded(t *testing.T) {
	m := NewMetrics("test")
	for i := range 100 {
		s := fmt.Sprintf("x%d", i)
		m.CommandReceived(s, s)
		m.CommandSettled(s, s, s, 1)
		m.InFlight(s).Inc()
		m.DeadLettered(s)
		m.EngineUp(s, true)
		m.LogsShipped(s, 1, 1)
	}
	if err := exposes(m, `kranix_commands_received_total{backend="other",verb="other"} 100`,
		`kranix_commands_settled_total{backend="other",outcome="other",verb="other"} 100`); err != nil {
		t.Error(err)
	}
	if strings.Contains(scrape(m), "x42") {
		t.Error("a value from outside became a label")
	}
}

func TestMetricsFollowTheConventions(t *testing.T) {
	m := NewMetrics("test")
	m.CommandReceived("docker", "deploy")
	m.CommandSettled("docker", "deploy", "done", 1)
	m.InFlight("docker").Inc()
	m.DeadLettered("docker")
	m.EngineUp("docker", true)
	m.LogsShipped("docker", 1, 1)
	m.LogGap("docker", gapRotated, 1)
	m.logRetried("docker")
	s := reading(0, "a", 0, 1e9, 5)
	s.MemoryLimitBytes, s.PIDs = 10, 2
	m.usage.set(web, []drivers.InstanceStats{s}, map[int]uint64{0: 1e9})
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestNilMetricsCountNothing(t *testing.T) {
	var m *Metrics
	m.CommandReceived("docker", "deploy")
	m.CommandSettled("docker", "deploy", "done", 1)
	m.InFlight("docker").Inc()
	m.InFlight("docker").Dec()
	m.DeadLettered("docker")
	m.EngineUp("docker", true)
	m.LogsShipped("docker", 1, 1)
	m.LogGap("docker", gapRotated, 1)
	m.logRetried("docker")
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if rec.Code != 404 {
		t.Errorf("status %d, want 404", rec.Code)
	}
}
