package drivers

import (
	"net/netip"
)

func (f *faults) ports(s *WorkloadSpec) {
	if s.Security.HostNetwork && len(s.Ports) > 0 {
		f.add("ports", "cannot be set together with security.hostNetwork: the workload's ports are the host's")
	}
	if !within(f, "ports", len(s.Ports), 0, maxEntries) {
		return
	}
	names := map[string]int{}
	// binding is what two ports of a host cannot share; addresses are compared below.
	type binding struct {
		port     int
		protocol string
	}
	bound := map[binding][]int{}
	exposed := map[Port]int{}
	for i, p := range s.Ports {
		field := IndexPath("ports", i)
		f.port(field, p)
		if p.Name != "" {
			if first, ok := names[p.Name]; ok {
				f.add(field+".name", "%s is the name of ports[%d] already", quote(p.Name), first)
			} else {
				names[p.Name] = i
			}
		}
		if p.Protocol == "" {
			p.Protocol = DefaultProtocol
		}
		if p.HostPort > 0 {
			if n := s.ReplicaCount(); n > 1 {
				f.add(field+".hostPort", "cannot be bound by each of %d replicas (use publish, or one replica)", n)
			}
			b := binding{p.HostPort, p.Protocol}
			for _, j := range bound[b] {
				if sameAddress(p.HostAddress, s.Ports[j].HostAddress) {
					f.add(field+".hostPort", "%d/%s is bound by ports[%d] already", p.HostPort, p.Protocol, j)
					break
				}
			}
			bound[b] = append(bound[b], i)
			continue
		}
		p.Name = ""
		if first, ok := exposed[p]; ok {
			f.add(field, "repeats ports[%d]", first)
		} else {
			exposed[p] = i
		}
	}
}

func (f *faults) port(field string, p Port) {
	if p.Name != "" && !IsLabel(p.Name) {
		f.add(field+".name", "want a DNS-1123 label, got %s", quote(p.Name))
	}
	within(f, field+".containerPort", p.ContainerPort, 1, maxPort)
	within(f, field+".hostPort", p.HostPort, 0, maxPort)
	if p.Protocol != "" {
		f.oneOf(field+".protocol", p.Protocol, "tcp", "udp", "sctp")
	}
	if p.HostAddress == "" {
		return
	}
	if a, err := netip.ParseAddr(p.HostAddress); err != nil || a.Zone() != "" || a.IsMulticast() {
		f.add(field+".hostAddress", "want an IPv4 or IPv6 address of the host, got %s", quote(p.HostAddress))
	}
	if p.HostPort == 0 && !p.Publish {
		f.add(field+".hostAddress", "has no effect without hostPort or publish")
	}
}

// sameAddress says whether two listeners on one port would meet. An empty address is
// all addresses of both families.
func sameAddress(a, b string) bool {
	if a == "" || b == "" {
		return true
	}
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	if errX != nil || errY != nil {
		return a == b
	}
	x, y = x.Unmap(), y.Unmap()
	if x.Is4() != y.Is4() {
		return false
	}
	return x == y || x.IsUnspecified() || y.IsUnspecified()
}

func (f *faults) networks(s *WorkloadSpec) {
	if s.Security.HostNetwork && len(s.Networks) > 0 {
		f.add("networks", "cannot be set together with security.hostNetwork")
	}
	if !within(f, "networks", len(s.Networks), 0, maxEntries) {
		return
	}
	names := map[string]int{}
	for i, n := range s.Networks {
		field := IndexPath("networks", i)
		switch {
		case !IsLabel(n.Name):
			f.add(field+".name", "want a DNS-1123 label, got %s", quote(n.Name))
		case n.Name == "host" || n.Name == "none" || n.Name == "default":
			// Engines give these names a meaning of their own; "host" would even get past
			// who looks at security.hostNetwork only.
			f.add(field+".name", "%s is a name engines reserve (security.hostNetwork asks for the host's network)", quote(n.Name))
		}
		if first, ok := names[n.Name]; ok {
			f.add(field+".name", "%s is networks[%d] already", quote(n.Name), first)
		} else {
			names[n.Name] = i
		}
		f.aliases(field+".aliases", n.Aliases)
	}
}

func (f *faults) aliases(field string, aliases []string) {
	if !within(f, field, len(aliases), 0, maxEntries) {
		return
	}
	seen := map[string]int{}
	for i, a := range aliases {
		if !isHostname(a, 253) {
			f.add(IndexPath(field, i), "want a DNS name of a-z, 0-9, '-' and '.', got %s", quote(a))
		}
		if first, ok := seen[a]; ok {
			f.add(IndexPath(field, i), "repeats %s", IndexPath(field, first))
		} else {
			seen[a] = i
		}
	}
}
