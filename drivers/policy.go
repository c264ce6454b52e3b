package drivers

import (
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Policy is what the operator of a node allows workloads to ask for. The zero value
// denies everything by which a workload could reach its host or another workload;
// registries and ceilings are open until they are set.
//
// A policy looks at the spec only. It cannot see where a symbolic link on the host
// leads: who can write below an allowed host path can make a link there that leads out
// of it. A driver on the engine's host resolves links and asks AllowsHostPath again.
type Policy struct {
	// AllowPrivileged lets workloads run without isolation from the host, HostNetwork
	// and HostPID lets them share those namespaces of it.
	AllowPrivileged  bool `json:"allow_privileged,omitempty" yaml:"allow_privileged"`
	AllowHostNetwork bool `json:"allow_host_network,omitempty" yaml:"allow_host_network"`
	AllowHostPID     bool `json:"allow_host_pid,omitempty" yaml:"allow_host_pid"`
	// AllowUnconfined lets workloads replace the engine's seccomp and AppArmor profiles.
	AllowUnconfined bool `json:"allow_unconfined,omitempty" yaml:"allow_unconfined"`
	// AllowExternal lets workloads use volumes and networks they do not own.
	AllowExternal bool `json:"allow_external,omitempty" yaml:"allow_external"`

	// AllowedHostPaths and AllowedDevices are absolute paths; what is below them is
	// allowed too.
	AllowedHostPaths []string `json:"allowed_host_paths,omitempty" yaml:"allowed_host_paths"`
	AllowedDevices   []string `json:"allowed_devices,omitempty" yaml:"allowed_devices"`
	// AllowedCapabilities are names without "CAP_"; "ALL" allows every one.
	AllowedCapabilities []string `json:"allowed_capabilities,omitempty" yaml:"allowed_capabilities"`
	// AllowedSysctls are names; one that ends in "*" allows all that begin so.
	AllowedSysctls []string `json:"allowed_sysctls,omitempty" yaml:"allowed_sysctls"`
	// AllowedRegistries are hosts ("docker.io", "localhost:5000"), or hosts with the
	// beginning of a path ("ghcr.io/acme"). Empty allows all.
	AllowedRegistries []string `json:"allowed_registries,omitempty" yaml:"allowed_registries"`

	// MaxCPU, MaxMemory and MaxPIDs are ceilings per instance. A workload that sets no
	// limit of its own asks for more than any ceiling.
	MaxCPU    *resource.Quantity `json:"max_cpu,omitempty" yaml:"max_cpu"`
	MaxMemory *resource.Quantity `json:"max_memory,omitempty" yaml:"max_memory"`
	MaxPIDs   int64              `json:"max_pids,omitempty" yaml:"max_pids"`
	// MaxReplicas bounds the instances of one workload; 0 leaves them unbounded.
	MaxReplicas int `json:"max_replicas,omitempty" yaml:"max_replicas"`
}

// Check reports everything the policy does not allow as *FieldErrors (ErrDenied), each
// with the key by which the operator would allow it. The spec need not have passed
// WithDefaults or Validate.
func (p Policy) Check(s *WorkloadSpec) error {
	var f faults
	p.checkSecurity(&f, s.Security)
	p.checkStorage(&f, s)
	p.checkImage(&f, s.Image)
	p.checkCeilings(&f, s)
	return f.err(ErrDenied)
}

// deny reports a field with the setting that would allow it.
func deny(f *faults, field, what, setting string) {
	f.add(field, "%s is not allowed on this node (its operator can allow it with policy.%s)", what, setting)
}

func (p Policy) checkSecurity(f *faults, s Security) {
	if s.Privileged && !p.AllowPrivileged {
		deny(f, "security.privileged", "privileged mode", "allow_privileged: true")
	}
	if s.HostNetwork && !p.AllowHostNetwork {
		deny(f, "security.hostNetwork", "the host's network", "allow_host_network: true")
	}
	if s.HostPID && !p.AllowHostPID {
		deny(f, "security.hostPID", "the host's process namespace", "allow_host_pid: true")
	}
	if s.Seccomp != "" && !p.AllowUnconfined {
		deny(f, "security.seccomp", "replacing the seccomp profile", "allow_unconfined: true")
	}
	if s.AppArmor != "" && !p.AllowUnconfined {
		deny(f, "security.appArmor", "replacing the AppArmor profile", "allow_unconfined: true")
	}
	for i, c := range s.CapAdd {
		if !p.allowsCapability(c) {
			deny(f, IndexPath("security.capAdd", i), "capability "+quote(c), "allowed_capabilities: ["+quote(bareCapability(c))+"]")
		}
	}
	for i, d := range s.Devices {
		if !below(p.AllowedDevices, d) {
			deny(f, IndexPath("security.devices", i), "device "+quote(d), "allowed_devices: ["+quote(d)+"]")
		}
	}
	for _, name := range sortedKeys(s.Sysctls) {
		if !p.allowsSysctl(name) {
			deny(f, FieldPath("security.sysctls", name), "sysctl "+quote(name), "allowed_sysctls: ["+quote(name)+"]")
		}
	}
}

func (p Policy) checkStorage(f *faults, s *WorkloadSpec) {
	for i, v := range s.Volumes {
		if v.Type == VolumeBind && !p.AllowsHostPath(v.Source) {
			deny(f, IndexPath("volumes", i)+".source", "host path "+quote(v.Source), "allowed_host_paths: ["+quote(v.Source)+"]")
		}
		if v.External && !p.AllowExternal {
			deny(f, IndexPath("volumes", i)+".external", "an external volume", "allow_external: true")
		}
	}
	for i, n := range s.Networks {
		if !n.External {
			continue
		}
		if !p.AllowExternal {
			deny(f, IndexPath("networks", i)+".external", "an external network", "allow_external: true")
		}
		// Engines know the host's own network by this name.
		if n.Name == "host" && !p.AllowHostNetwork {
			deny(f, IndexPath("networks", i)+".name", "the host's network", "allow_host_network: true")
		}
	}
}

func (p Policy) checkImage(f *faults, image string) {
	if len(p.AllowedRegistries) == 0 {
		return
	}
	ref, err := parseImage(image)
	if err != nil {
		f.add("image", "%v", err)
		return
	}
	// Repositories are in lower case, hosts may not be.
	name := strings.ToLower(ref.registry) + "/" + ref.repository
	for _, allowed := range p.AllowedRegistries {
		allowed = strings.ToLower(strings.TrimSuffix(allowed, "/"))
		if name == allowed || strings.HasPrefix(name, allowed+"/") {
			return
		}
	}
	deny(f, "image", "registry "+quote(ref.registry), "allowed_registries: ["+quote(ref.registry)+"]")
}

func (p Policy) checkCeilings(f *faults, s *WorkloadSpec) {
	checkCeiling(f, "resources.cpu", s.Resources.CPU, p.MaxCPU, "max_cpu")
	checkCeiling(f, "resources.memory", s.Resources.Memory, p.MaxMemory, "max_memory")
	if pids := s.Resources.PIDs; p.MaxPIDs > 0 && (pids <= 0 || pids > p.MaxPIDs) {
		f.add("resources.pids", "want 1 to %d on this node (policy.max_pids), got %d", p.MaxPIDs, pids)
	}
	if n := s.ReplicaCount(); p.MaxReplicas > 0 && n > p.MaxReplicas {
		f.add("replicas", "want at most %d on this node (policy.max_replicas), got %d", p.MaxReplicas, n)
	}
}

func checkCeiling(f *faults, field string, got, ceiling *resource.Quantity, setting string) {
	switch {
	case ceiling == nil:
	case got == nil || got.Sign() <= 0:
		f.add(field, "must be set on this node, to at most %s (policy.%s)", quantityText(ceiling), setting)
	case got.Cmp(*ceiling) > 0:
		f.add(field, "want at most %s on this node (policy.%s), got %s", quantityText(ceiling), setting, quantityText(got))
	}
}

// AllowsHostPath says whether a path of the host may be mounted: it is clean, absolute
// and one of AllowedHostPaths or below one.
func (p Policy) AllowsHostPath(name string) bool { return below(p.AllowedHostPaths, name) }

// below never allows a path that is not clean: what ".." leads to is not what a prefix
// says.
func below(allowed []string, name string) bool {
	if !path.IsAbs(name) || path.Clean(name) != name || strings.ContainsRune(name, 0) {
		return false
	}
	return slices.ContainsFunc(allowed, func(a string) bool {
		if !path.IsAbs(a) {
			return false
		}
		a = path.Clean(a)
		return a == "/" || name == a || strings.HasPrefix(name, a+"/")
	})
}

func (p Policy) allowsCapability(name string) bool {
	return slices.ContainsFunc(p.AllowedCapabilities, func(a string) bool {
		a = bareCapability(a)
		return a == allCapabilities || a == bareCapability(name)
	})
}

func (p Policy) allowsSysctl(name string) bool {
	// The kernel takes '/' for '.', so a name with one could be another's spelling.
	if strings.Contains(name, "/") {
		return false
	}
	return slices.ContainsFunc(p.AllowedSysctls, func(a string) bool {
		if prefix, ok := strings.CutSuffix(a, "*"); ok {
			return strings.HasPrefix(name, prefix)
		}
		return a == name
	})
}
