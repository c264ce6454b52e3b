package docker

import (
	"path"
	"strconv"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// isJob says whether ending with exit code 0 is what the workload is for.
func isJob(spec *drivers.WorkloadSpec) bool {
	return spec.Restart.Policy == drivers.RestartNo || spec.Restart.Policy == drivers.RestartOnFailure
}

// probed says whether the driver itself checks the workload's health.
func probed(spec *drivers.WorkloadSpec) bool {
	return spec != nil && spec.Health != nil && len(spec.Health.Exec) == 0
}

// CheckSpec implements drivers.SpecChecker.
func (d *Driver) CheckSpec(spec *drivers.WorkloadSpec) error {
	faults := &drivers.FieldErrors{Class: drivers.ErrUnsupported}
	if g := spec.Resources.GPU; g != nil {
		if g.Vendor != "" && g.Vendor != "nvidia" {
			faults.Add("resources.gpu.vendor", "the docker backend hands out nvidia GPUs only, got %q", g.Vendor)
		}
		if g.Type != "" {
			faults.Add("resources.gpu.type", "the docker backend cannot choose a GPU by type")
		}
		if g.Memory != nil {
			faults.Add("resources.gpu.memory", "the docker backend cannot choose a GPU by memory")
		}
	}
	if spec.Security.HostNetwork && len(spec.Networks) > 0 {
		faults.Add("networks", "a workload on the host's network cannot join others")
	}
	for i, s := range spec.Secrets {
		if spec.Security.ReadOnlyRoot && s.File != "" && path.Dir(s.File) == "/" {
			faults.Add("secrets["+strconv.Itoa(i)+"].file",
				"with security.readOnlyRoot the file needs a directory, such as /run/secrets, got %q", s.File)
		}
	}
	if m := spec.Resources.Memory; m != nil && m.Value() < minMemory {
		faults.Add("resources.memory", "docker takes no less than 6Mi, got %s", m)
	}
	return faults.ErrOrNil()
}

// minMemory is the engine's least memory limit (daemon/daemon_unix.go, linuxMinMemory).
const minMemory = 6 << 20
