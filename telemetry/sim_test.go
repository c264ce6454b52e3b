package telemetry

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/drivers/sim"
	"github.com/kranix-io/kranix-runtime/subjects"
)

func startSim(t testing.TB) *sim.Driver {
	t.Helper()
	d, err := sim.New(drivers.Environment{Node: "n1"}, sim.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func deploy(t testing.TB, d *sim.Driver, name string, replicas int, env map[string]string) *drivers.WorkloadStatus {
	t.Helper()
	spec := (&drivers.WorkloadSpec{Namespace: "shop", Name: name, Image: "registry.example/web:1", Replicas: &replicas, Env: env,
		Update: drivers.Update{Monitor: drivers.DurationPtr(0)}}).WithDefaults()
	st, err := d.Deploy(context.Background(), spec)
	if err != nil {
		t.Fatalf("deploy %s: %v", name, err)
	}
	return st
}

// The simulated engine and the shipper agree with what the driver itself reads.
func TestShipperWithSim(t *testing.T) {
	b, d := startBus(t), startSim(t)
	print := make([]string, 40)
	for i := range print {
		print[i] = fmt.Sprintf("line %d", i)
		if i%3 == 0 {
			print[i] = "err:" + print[i]
		}
	}
	env := map[string]string{"SIM_PRINT": strings.Join(print, `\n`)}
	deploy(t, d, "web", 2, env)
	s := b.shipper(ShipperConfig{})
	s.Track(web, d)
	check := func() {
		t.Helper()
		want := make(map[string][]string)
		err := d.ReadLogs(t.Context(), web.ID(), nil, func(l drivers.LogLine) error {
			want[l.InstanceID] = append(want[l.InstanceID], l.Stream+" "+string(l.Line))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(want) != 2 {
			t.Fatalf("%d instances have logs", len(want))
		}
		eventually(t, func() error {
			found := 0
			for ordinal := range 2 {
				copies, _ := b.shippedOf(web, ordinal)
				for id, got := range copies {
					if lines, ok := want[id]; ok {
						found++
						if err := sameLines(got, lines); err != nil {
							return err
						}
						if len(got.gaps) > 0 {
							return fmt.Errorf("gaps: %+v", got.gaps)
						}
					}
				}
			}
			if found != len(want) {
				return fmt.Errorf("%d instances shipped", found)
			}
			return nil
		})
	}
	check()
	if err := d.Restart(t.Context(), web.ID()); err != nil {
		t.Fatal(err)
	}
	check()
	env["VERSION"] = "2"
	deploy(t, d, "web", 2, env)
	s.Track(web, d)
	check()
	abort(s)
	if err := d.Restart(t.Context(), web.ID()); err != nil {
		t.Fatal(err)
	}
	s = b.shipper(ShipperConfig{})
	s.Track(web, d)
	check()
}

func TestCollectorWithSim(t *testing.T) {
	b, d := startBus(t), startSim(t)
	deploy(t, d, "web", 2, nil)
	m := NewMetrics("test")
	c, clock := startCollector(t, CollectorConfig{JS: b.js, Metrics: m})
	c.Track(web, d)
	sweep(t, clock, m, 1)
	sweep(t, clock, m, 2)
	if n := strings.Count(scrape(m), "kranix_workload_memory_bytes{"); n != 2 {
		t.Errorf("%d series of memory, want 2", n)
	}
	if n := counterValue(t, m, "kranix_workload_cpu_seconds_total"); n <= 0 {
		t.Errorf("cpu seconds are %v", n)
	}
	subject, err := subjects.Metric(web)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(b.messages(subjects.StreamMetrics, subject)); n != 2 {
		t.Errorf("%d readings published, want 2", n)
	}
}
