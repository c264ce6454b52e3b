package compliance_test

import (
	"context"
	"fmt"
	"strconv"
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

// simWorkloads steers simulated workloads by their environment.
type simWorkloads struct{}

func (simWorkloads) make(name string, env ...string) *drivers.WorkloadSpec {
	s := &drivers.WorkloadSpec{Name: name, Image: "web:1", Env: map[string]string{}}
	for i := 0; i < len(env); i += 2 {
		s.Env[env[i]] = env[i+1]
	}
	return s
}

func (w simWorkloads) Sleeper(name string, version int) *drivers.WorkloadSpec {
	return w.make(name, "VERSION", strconv.Itoa(version))
}

func (w simWorkloads) Exits(name string, after time.Duration, code int) *drivers.WorkloadSpec {
	return w.make(name, "SIM_EXIT_AFTER", after.String(), "SIM_EXIT_CODE", strconv.Itoa(code))
}

func (w simWorkloads) Prints(name string, lines ...string) *drivers.WorkloadSpec {
	return w.make(name, "SIM_PRINT", strings.Join(lines, "\n")+"\n")
}

func (w simWorkloads) PrintsAndExits(name string, code int, lines ...string) *drivers.WorkloadSpec {
	s := w.Prints(name, lines...)
	s.Env["SIM_EXIT_CODE"] = strconv.Itoa(code)
	return s
}

func (w simWorkloads) LongLine(name string, n int) *drivers.WorkloadSpec {
	return w.Prints(name, fmt.Sprintf("${x:%d}", n), "end")
}

func (w simWorkloads) Ticks(name string) *drivers.WorkloadSpec {
	return w.make(name, "SIM_LOG_RATE", "100", "SIM_LOG_BYTES", "1")
}

func (w simWorkloads) ShowsEnv(name string, variables, files []string) *drivers.WorkloadSpec {
	var lines []string
	for _, v := range variables {
		lines = append(lines, v+"=${"+v+"}")
	}
	for _, f := range files {
		lines = append(lines, f+"=${file:"+f+"}")
	}
	return w.Prints(name, lines...)
}

func (w simWorkloads) Serves(name, body string) *drivers.WorkloadSpec {
	return w.make(name, "SIM_BODY", body)
}

func (w simWorkloads) Fetches(name, host string) *drivers.WorkloadSpec {
	return w.Prints(name, "got=${http:"+host+"}")
}

func (w simWorkloads) Becomes(name, kind string, after time.Duration) *drivers.WorkloadSpec {
	if after < 0 {
		return w.NeverHealthy(w.make(name))
	}
	s := w.make(name, "SIM_HEALTH", "after:"+after.String())
	s.Health = &drivers.HealthCheck{Interval: drivers.Duration(20 * time.Millisecond), StartPeriod: drivers.Duration(after + time.Minute)}
	switch kind {
	case "exec":
		s.Health.Exec = []string{"/bin/true"}
	case "http":
		s.Health.HTTP = &drivers.HTTPProbe{Port: 8080}
	case "tcp":
		s.Health.TCP = &drivers.TCPProbe{Port: 8080}
	}
	return s
}

func (simWorkloads) NeverHealthy(s *drivers.WorkloadSpec) *drivers.WorkloadSpec {
	s.Env["SIM_HEALTH"] = "never"
	s.Health = &drivers.HealthCheck{Exec: []string{"/bin/false"}, Interval: drivers.Duration(50 * time.Millisecond), Retries: 2}
	return s
}

func (w simWorkloads) IgnoresTerm(name string) *drivers.WorkloadSpec {
	return w.make(name, "SIM_STOP", "ignore")
}

func (w simWorkloads) OutOfMemory(name string, after time.Duration) *drivers.WorkloadSpec {
	return w.make(name, "SIM_OOM", "true", "SIM_EXIT_AFTER", after.String())
}

func (w simWorkloads) Counts(name string, version int) *drivers.WorkloadSpec {
	s := w.Prints(name, "starts=${starts}")
	s.Env["VERSION"] = strconv.Itoa(version)
	s.Volumes = []drivers.Volume{{Source: "data", Target: "/data"}}
	return s
}

func (simWorkloads) WithHook(s *drivers.WorkloadSpec, code int) *drivers.WorkloadSpec {
	s.Env["SIM_HOOK_EXIT"] = strconv.Itoa(code)
	s.PreDeploy = &drivers.Hook{Command: []string{"/bin/migrate"}}
	return s
}

func TestSim(t *testing.T) {
	compliance.Run(t, simHarness(t, nil))
}
