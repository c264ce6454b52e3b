package drivers

import (
	"path"
	"slices"
	"strings"
)

// Validate checks the policy itself and reports every fault at once with its key, as
// *FieldErrors (ErrInvalidSpec): a setting that can never match is a mistake, and one
// that matches more than it seems to is a worse one.
func (p Policy) Validate() error {
	var f faults
	for i, h := range p.AllowedHostPaths {
		if !isAllowedPath(h) {
			f.add(IndexPath("allowed_host_paths", i), "want an absolute path without \"..\" and \".\", got %s", quote(h))
		}
	}
	for i, d := range p.AllowedDevices {
		if !isAllowedPath(d) || d != "/dev" && !strings.HasPrefix(d, "/dev/") {
			f.add(IndexPath("allowed_devices", i), "want a path that is or lies below /dev, got %s", quote(d))
		}
	}
	known := capabilityNames()
	for i, c := range p.AllowedCapabilities {
		if bare := bareCapability(c); bare != allCapabilities && !slices.Contains(known, bare) {
			f.add(IndexPath("allowed_capabilities", i), "want a capability such as NET_ADMIN, or %s, got %s%s", allCapabilities, quote(c), didYouMean(bare, known))
		}
	}
	for i, s := range p.AllowedSysctls {
		if !isSysctlPattern(s) {
			f.add(IndexPath("allowed_sysctls", i), "want a name such as net.core.somaxconn, or net.* for all below, got %s", quote(s))
		}
	}
	for i, r := range p.AllowedRegistries {
		if !isRegistryPrefix(r) {
			f.add(IndexPath("allowed_registries", i), "want a host such as docker.io or localhost:5000, or the beginning of a name such as ghcr.io/acme, got %s", quote(r))
		}
	}
	f.cores("max_cpu", p.MaxCPU)
	f.bytes("max_memory", p.MaxMemory, MinMemory, maxBytes)
	within(&f, "max_pids", p.MaxPIDs, 0, maxPIDs)
	within(&f, "max_replicas", p.MaxReplicas, 0, MaxReplicas)
	return f.err(ErrInvalidSpec)
}

func isAllowedPath(name string) bool {
	clean := path.Clean(name)
	return path.IsAbs(name) && (name == clean || name == clean+"/") && !strings.ContainsRune(name, 0)
}

// isRegistryPrefix accepts what checkImage compares names with. "acme" is refused: it
// reads as a user of the default registry and would be taken for a host.
func isRegistryPrefix(s string) bool {
	s = strings.TrimSuffix(s, "/")
	host, _, _ := strings.Cut(s, "/")
	if host != "localhost" && !strings.ContainsAny(host, ".:") {
		return false
	}
	ref, err := parseImage(s + "/x")
	return err == nil && ref.tag == "" && ref.digest == ""
}

// isSysctlPattern accepts a name, "*", and "net.*"; "net.ipv4*" would allow more than it
// seems to.
func isSysctlPattern(s string) bool {
	prefix, wild := strings.CutSuffix(s, "*")
	if !wild {
		return isSysctl(s)
	}
	return prefix == "" || strings.HasSuffix(prefix, ".") && isSysctl(prefix+"x")
}
