package compliance_test

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/tests/compliance"
)

var _ compliance.Workloads = simWorkloads{}

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
