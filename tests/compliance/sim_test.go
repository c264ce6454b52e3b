package compliance_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/drivers/sim"
	"github.com/kranix-io/kranix-runtime/tests/compliance"
)

// simHarness is the simulated engine under test. wrap, when set, puts something
// between the suite and the driver.
func simHarness(t testing.TB, wrap func(*sim.Engine, *sim.Driver) drivers.RuntimeDriver) compliance.Harness {
	t.Helper()
	engine, err := sim.NewEngine(sim.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Errorf("close engine: %v", err)
		}
	})
	const node = "n1"
	open := func(t compliance.T, node string, secrets drivers.SecretResolver) *sim.Driver {
		d, err := sim.NewWithEngine(drivers.Environment{Node: node, Secrets: secrets}, sim.Config{}, engine)
		if err != nil {
			t.Fatalf("open driver: %v", err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Errorf("close driver: %v", err)
			}
		})
		return d
	}
	return compliance.Harness{
		Open: func(t compliance.T, node string, secrets drivers.SecretResolver) drivers.RuntimeDriver {
			d := open(t, node, secrets)
			if wrap == nil {
				return d
			}
			return wrap(engine, d)
		},
		Node: node, Prefix: "suite", Workloads: simWorkloads{},
		Features: compliance.Features{Watch: true, Logs: true, Stats: true, Images: true, SpecCheck: true, Identity: true, OOM: true,
			Refused: map[string]func(*drivers.WorkloadSpec){
				"resources.gpu": func(s *drivers.WorkloadSpec) { s.Resources.GPU = &drivers.GPURequest{Vendor: "nvidia", Count: 1} },
			}},
		Timeouts:      compliance.Timeouts{Step: 10 * time.Second, Monitor: 100 * time.Millisecond, Event: 200 * time.Millisecond, Slack: 2 * time.Second},
		Parallel:      true,
		ManyWorkloads: 500,
		MissingImage:  "missing/web:1", DeniedImage: "denied/web:1", AbsentImage: "absent/web:1",
		Get: func(_ context.Context, p drivers.PublishedPort, _ string) (string, error) {
			return engine.Get(p.HostPort, p.Protocol)
		},
		TakePort: func(t compliance.T) int {
			port, err := engine.OccupyPort(0, "tcp")
			if err != nil {
				t.Fatalf("take a port: %v", err)
			}
			t.Cleanup(func() { engine.ReleasePort(port, "tcp") })
			return port
		},
		Kill: func(t compliance.T, id string) {
			if err := engine.Kill(id); err != nil {
				t.Fatalf("kill: %v", err)
			}
		},
		Texts: func(_ compliance.T, namespace string) []string {
			var out []string
			for _, c := range engine.Containers() {
				if strings.HasPrefix(c.WorkloadID, namespace+"/") {
					out = append(out, fmt.Sprintf("%+v", c))
				}
			}
			return out
		},
		Leftovers: func(_ compliance.T, namespace string) []string { return simObjects(engine, node, namespace) },
		Purge: func(_ compliance.T, namespace string) {
			for _, name := range engine.Volumes() {
				if strings.HasPrefix(name, namespace+".") {
					engine.RemoveVolume(name)
				}
			}
		},
		Neighbour: func(t compliance.T, id string) func() string {
			d := open(t, "n2", nil)
			namespace, name, _ := strings.Cut(id, "/")
			s := simWorkloads{}.Sleeper(name, 99)
			s.Namespace = namespace
			s.Update.Monitor = drivers.DurationPtr(0)
			before, err := d.Deploy(context.WithoutCancel(t.Context()), s.WithDefaults())
			if err != nil {
				t.Fatalf("deploy the neighbour: %v", err)
			}
			return func() string {
				after, err := d.GetStatus(context.WithoutCancel(t.Context()), id)
				switch {
				case err != nil:
					return err.Error()
				case len(after.Instances) != 1 || after.Instances[0].StartedAt != before.Instances[0].StartedAt || after.Phase != drivers.PhaseRunning:
					return fmt.Sprintf("was %+v, is %+v", before, after)
				}
				return ""
			}
		},
	}
}

func simObjects(engine *sim.Engine, node, namespace string) []string {
	var out []string
	for _, c := range engine.Containers() {
		if c.Node == node && strings.HasPrefix(c.WorkloadID, namespace+"/") {
			out = append(out, "container "+c.Name)
		}
	}
	for _, name := range engine.Volumes() {
		if strings.HasPrefix(name, namespace+".") {
			out = append(out, "volume "+name)
		}
	}
	for _, name := range engine.Networks() {
		if strings.HasPrefix(name, namespace+".") {
			out = append(out, "network "+name)
		}
	}
	return out
}
