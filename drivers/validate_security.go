package drivers

import (
	"slices"
	"strings"
)

// unconfined switches a profile off.
const unconfined = "unconfined"

func (f *faults) security(s *WorkloadSpec) {
	added := f.capabilities("security.capAdd", s.Security.CapAdd, nil)
	f.capabilities("security.capDrop", s.Security.CapDrop, added)
	if c := s.Security.Seccomp; c != "" && c != unconfined {
		f.add("security.seccomp", "want %s or nothing, got %s", unconfined, quote(c))
	}
	if a := s.Security.AppArmor; a != "" && !isProfileName(a) {
		f.add("security.appArmor", "want %s or the name of a loaded profile, got %s", unconfined, quote(a))
	}
	f.devices(s.Security.Devices)
	f.sysctls(s.Security)
}

// capabilities checks one list and returns it as a set; none of it may be in other.
func (f *faults) capabilities(field string, names []string, other map[string]bool) map[string]bool {
	seen := map[string]bool{}
	if !within(f, field, len(names), 0, maxEntries) {
		return seen
	}
	known := capabilityNames()
	for i, name := range names {
		switch bare := bareCapability(name); {
		case name != allCapabilities && !slices.Contains(known, name):
			hint := didYouMean(name, known)
			if slices.Contains(known, bare) {
				hint = ": write it " + quote(bare)
			}
			f.add(IndexPath(field, i), "want a capability without CAP_, such as NET_ADMIN, or %s, got %s%s", allCapabilities, quote(name), hint)
		case seen[name]:
			f.add(IndexPath(field, i), "%s is listed twice", quote(name))
		case other[name]:
			f.add(IndexPath(field, i), "%s is in security.capAdd too", quote(name))
		}
		seen[name] = true
	}
	return seen
}

func isProfileName(s string) bool {
	if len(s) > maxName || s[0] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if !isAlnum(c) && !strings.ContainsRune("._-/", rune(c)) {
			return false
		}
	}
	return true
}

func (f *faults) devices(devices []string) {
	if !within(f, "security.devices", len(devices), 0, maxEntries) {
		return
	}
	seen := map[string]int{}
	for i, d := range devices {
		field := IndexPath("security.devices", i)
		if !f.absolute(field, d) {
			continue
		}
		if !strings.HasPrefix(d, "/dev/") {
			f.add(field, "want a device below /dev, got %s", quote(d))
		}
		if first, ok := seen[d]; ok {
			f.add(field, "repeats security.devices[%d]", first)
		} else {
			seen[d] = i
		}
	}
}

func (f *faults) sysctls(s Security) {
	within(f, "security.sysctls", len(s.Sysctls), 0, maxEntries)
	for i, name := range sortedKeys(s.Sysctls) {
		if i >= maxEntries {
			break
		}
		field := FieldPath("security.sysctls", name)
		switch {
		case !isSysctl(name):
			f.add(field, "want a name such as net.core.somaxconn")
		case !isNamespaced(name):
			f.add(field, "is not namespaced: it would change the whole host")
		case s.HostNetwork && strings.HasPrefix(name, "net."):
			f.add(field, "would change the host's network, which security.hostNetwork shares")
		}
		if s.Sysctls[name] == "" {
			f.add(field, "want a value, got an empty string")
		}
		f.plain(field, s.Sysctls[name], maxName)
	}
}

// isSysctl accepts the dotted form only: the kernel takes "net/core/somaxconn" too, and
// one name should have one spelling.
func isSysctl(name string) bool {
	if len(name) > maxName || !strings.Contains(name, ".") {
		return false
	}
	for part := range strings.SplitSeq(name, ".") {
		if part == "" {
			return false
		}
		for _, c := range []byte(part) {
			if !isAlnum(c) && c != '_' && c != '-' {
				return false
			}
		}
	}
	return true
}

// isNamespaced says whether a sysctl is per IPC or network namespace; container
// runtimes refuse all others.
func isNamespaced(name string) bool {
	switch name {
	case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall",
		"kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced":
		return true
	}
	return strings.HasPrefix(name, "net.") || strings.HasPrefix(name, "fs.mqueue.")
}
