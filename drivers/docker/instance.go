package docker

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// maxHealthOutput bounds InstanceStatus.HealthOutput, in bytes.
const maxHealthOutput = 4 << 10

// reasonHealthPending marks an instance that runs and is not ready yet.
const reasonHealthPending = "HealthPending"

// instanceStatus translates the engine's account of a container.
func (d *Driver) instanceStatus(c inspected) drivers.InstanceStatus {
	spec := c.spec()
	s := drivers.InstanceStatus{
		Instance: c.ordinal, ID: c.ID, Name: c.name, Revision: c.revision, Restarts: c.RestartCount,
		StartedAt: everTime(c.State.StartedAt), FinishedAt: everTime(c.State.FinishedAt),
		Address: address(c.InspectResponse),
	}
	switch c.State.Status {
	case container.StateCreated:
		s.Phase, s.StartedAt = drivers.PhaseStarting, ""
		if c.State.Error != "" {
			s.Phase, s.Reason, s.Message = drivers.PhaseFailed, "StartFailed", c.State.Error
		}
	case container.StateRunning:
		s.Phase = drivers.PhaseRunning
		s.FinishedAt = ""
		d.healthStatus(c, spec, &s)
		s.Ports = publishedPorts(spec, c.InspectResponse)
	case container.StatePaused:
		s.Phase, s.Reason, s.Message = drivers.PhaseStopped, "Paused", "paused from outside"
	case container.StateRestarting:
		s.Phase = drivers.PhaseRestarting
		ended(c, &s)
	default:
		s.Phase = endPhase(c, spec)
		ended(c, &s)
	}
	return s
}

// ended fills in how an instance ended.
func ended(c inspected, s *drivers.InstanceStatus) {
	code := c.State.ExitCode
	s.ExitCode, s.OOMKilled = &code, c.State.OOMKilled
	if s.Phase == drivers.PhaseCompleted || s.Phase == drivers.PhaseStopped {
		return
	}
	s.Reason, s.Message = "Crashed", fmt.Sprintf("exited with code %d", code)
	if c.State.OOMKilled {
		s.Reason, s.Message = "OOMKilled", "killed because it used more memory than its limit"
	}
	if c.State.Error != "" {
		s.Reason, s.Message = "StartFailed", c.State.Error
	}
}

// endPhase says what it means that a container has ended and the engine leaves it so.
// The engine does not tell whether it was stopped on request, but a policy that would
// have brought it back does.
func endPhase(c inspected, spec *drivers.WorkloadSpec) drivers.Phase {
	if c.State.Error != "" || c.State.OOMKilled {
		return drivers.PhaseFailed
	}
	policy := c.HostConfig.RestartPolicy
	switch {
	case policy.IsAlways(), policy.IsUnlessStopped():
		return drivers.PhaseStopped
	case c.State.ExitCode == 0:
		return drivers.PhaseCompleted
	case policy.IsOnFailure() && (policy.MaximumRetryCount == 0 || c.RestartCount < policy.MaximumRetryCount):
		return drivers.PhaseStopped
	}
	return drivers.PhaseFailed
}

// healthStatus fills in what the health check says of a running instance.
func (d *Driver) healthStatus(c inspected, spec *drivers.WorkloadSpec, s *drivers.InstanceStatus) {
	state, output := d.healthOf(c, spec)
	switch state {
	case container.Healthy:
		s.Phase = drivers.PhaseHealthy
	case container.Unhealthy:
		s.Phase, s.Reason, s.Message = drivers.PhaseUnhealthy, "Unhealthy", "the health check fails"
	case container.Starting:
		s.Reason, s.Message = reasonHealthPending, "the health check has not decided yet"
	}
	s.HealthOutput = d.withoutSecrets(c, spec, output)
}

// withoutSecrets blanks the values of the spec's secrets in what an instance prints,
// before it becomes part of a status that anyone may read.
func (d *Driver) withoutSecrets(c inspected, spec *drivers.WorkloadSpec, text string) string {
	if text == "" || spec == nil {
		return text
	}
	var values [][]byte
	for _, use := range spec.Secrets {
		if use.Env != "" && c.Config != nil {
			for _, e := range c.Config.Env {
				if value, ok := strings.CutPrefix(e, use.Env+"="); ok {
					values = append(values, []byte(value))
				}
			}
			continue
		}
		if d.env.Secrets == nil {
			return "(not shown: this node cannot tell what of it is secret)"
		}
		value, err := d.env.Secrets.ResolveSecret(d.life, spec.Namespace, use.Ref)
		if err != nil {
			return "(not shown: a secret it may contain cannot be resolved to be blanked)"
		}
		values = append(values, value)
	}
	return drivers.Redact(text, values...)
}

// healthOf returns container.Starting, Healthy, Unhealthy or NoHealthcheck, and the
// last output.
func (d *Driver) healthOf(c inspected, spec *drivers.WorkloadSpec) (state, output string) {
	if probed(spec) {
		return d.probes.result(c.ID)
	}
	h := c.State.Health
	if h == nil || h.Status == "" {
		return container.NoHealthcheck, ""
	}
	if n := len(h.Log); n > 0 {
		output = truncate(h.Log[n-1].Output, maxHealthOutput)
	}
	return h.Status, output
}

// everTime drops the engine's zero time, which stands for never.
func everTime(s string) string {
	if t, err := time.Parse(time.RFC3339Nano, s); err != nil || t.IsZero() {
		return ""
	}
	return s
}

// address is the first address of a container, by network name, on its networks.
func address(c container.InspectResponse) string {
	if c.NetworkSettings == nil {
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(c.NetworkSettings.Networks)) {
		if n := c.NetworkSettings.Networks[name]; n != nil && n.IPAddress != "" {
			return n.IPAddress
		}
	}
	return ""
}

// publishedPorts lists the host ports a container is bound to, as the spec names them.
func publishedPorts(spec *drivers.WorkloadSpec, c container.InspectResponse) []drivers.PublishedPort {
	if c.NetworkSettings == nil {
		return nil
	}
	var out []drivers.PublishedPort
	for port, bindings := range c.NetworkSettings.Ports {
		for _, b := range bindings {
			host, err := strconv.Atoi(b.HostPort)
			if err != nil {
				continue
			}
			out = append(out, drivers.PublishedPort{Name: portName(spec, port), ContainerPort: port.Int(),
				HostAddress: b.HostIP, HostPort: host, Protocol: port.Proto()})
		}
	}
	slices.SortFunc(out, func(a, b drivers.PublishedPort) int {
		return cmp.Or(cmp.Compare(a.ContainerPort, b.ContainerPort), cmp.Compare(a.Protocol, b.Protocol),
			cmp.Compare(a.HostAddress, b.HostAddress), cmp.Compare(a.HostPort, b.HostPort))
	})
	return out
}

func portName(spec *drivers.WorkloadSpec, port nat.Port) string {
	if spec == nil {
		return ""
	}
	for _, p := range spec.Ports {
		if p.ContainerPort == port.Int() && p.Protocol == port.Proto() {
			return p.Name
		}
	}
	return ""
}

// truncate cuts s to n bytes at a rune's start.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
