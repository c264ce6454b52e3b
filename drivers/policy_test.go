package drivers

import (
	"testing"
)

func TestPolicyCheck(t *testing.T) {
	spec := func(fn func(*WorkloadSpec)) *WorkloadSpec {
		s := &WorkloadSpec{Name: "cart", Image: "nginx"}
		fn(s)
		return s
	}
	bind := func(source string) *WorkloadSpec {
		return spec(func(s *WorkloadSpec) { s.Volumes = []Volume{{Type: VolumeBind, Source: source, Target: "/a"}} })
	}
	image := func(image string) *WorkloadSpec { return &WorkloadSpec{Name: "cart", Image: image} }
	security := func(sec Security) *WorkloadSpec { return spec(func(s *WorkloadSpec) { s.Security = sec }) }
	resources := func(r Resources) *WorkloadSpec { return spec(func(s *WorkloadSpec) { s.Resources = r }) }
	caps := func(names ...string) *WorkloadSpec { return security(Security{CapAdd: names}) }
	sysctl := func(name string) *WorkloadSpec {
		return security(Security{Sysctls: map[string]string{name: "1"}})
	}
	srv := Policy{AllowedHostPaths: []string{"/srv/data", "/opt/"}}
	limits := Policy{MaxCPU: quantity("2"), MaxMemory: quantity("1Gi"), MaxPIDs: 100, MaxReplicas: 3}

	tests := []struct {
		name   string
		policy Policy
		spec   *WorkloadSpec
		want   []fault
	}{
		{"harmless", Policy{}, spec(func(s *WorkloadSpec) {
			s.Volumes = []Volume{{Source: "data", Target: "/data"}, {Type: VolumeTmpfs, Target: "/tmp"}}
			s.Networks = []Network{{Name: "host-like"}}
			s.Security = Security{CapDrop: []string{"ALL"}, ReadOnlyRoot: true, NoNewPrivs: true}
			s.Ports = []Port{{ContainerPort: 80, HostPort: 80}}
		}), nil},
		{"everything dangerous", Policy{}, spec(func(s *WorkloadSpec) {
			s.Security = Security{Privileged: true, HostNetwork: true, HostPID: true, Seccomp: "unconfined", AppArmor: "other",
				CapAdd: []string{"SYS_ADMIN"}, Devices: []string{"/dev/sda"}, Sysctls: map[string]string{"net.a": "1"}}
			s.Volumes = []Volume{{Type: VolumeBind, Source: "/var/run/docker.sock", Target: "/a"}, {Source: "b", Target: "/b", External: true}}
			s.Networks = []Network{{Name: "host", External: true}}
		}), []fault{
			{"security.privileged", "policy.allow_privileged: true"}, {"security.hostNetwork", "policy.allow_host_network: true"},
			{"security.hostPID", "policy.allow_host_pid: true"}, {"security.seccomp", "policy.allow_unconfined: true"},
			{"security.appArmor", "policy.allow_unconfined: true"}, {"security.capAdd[0]", `policy.allowed_capabilities: ["SYS_ADMIN"]`},
			{"security.devices[0]", `policy.allowed_devices: ["/dev/sda"]`}, {`security.sysctls["net.a"]`, `policy.allowed_sysctls: ["net.a"]`},
			{"volumes[0].source", `policy.allowed_host_paths: ["/var/run/docker.sock"]`}, {"volumes[1].external", "policy.allow_external: true"},
			{"networks[0].external", "policy.allow_external: true"}, {"networks[0].name", "policy.allow_host_network: true"}}},
		{"all of it allowed", Policy{AllowPrivileged: true, AllowHostNetwork: true, AllowHostPID: true, AllowUnconfined: true, AllowExternal: true,
			AllowedHostPaths: []string{"/"}, AllowedDevices: []string{"/dev"}, AllowedCapabilities: []string{"ALL"}, AllowedSysctls: []string{"*"}},
			spec(func(s *WorkloadSpec) {
				s.Security = Security{Privileged: true, HostNetwork: true, HostPID: true, Seccomp: "unconfined", AppArmor: "unconfined",
					CapAdd: []string{"ALL"}, Devices: []string{"/dev/sda"}, Sysctls: map[string]string{"net.a": "1"}}
				s.Volumes = []Volume{{Type: VolumeBind, Source: "/var/run/docker.sock", Target: "/a"}, {Source: "b", Target: "/b", External: true}}
				s.Networks = []Network{{Name: "host", External: true}}
			}), nil},
		{"external network may not be the host's", Policy{AllowExternal: true}, spec(func(s *WorkloadSpec) {
			s.Networks = []Network{{Name: "host", External: true}}
		}), one("networks[0].name", "allow_host_network")},

		{"path itself", srv, bind("/srv/data"), nil},
		{"path below", srv, bind("/srv/data/a/b"), nil},
		{"path below one with a slash", srv, bind("/opt/a"), nil},
		{"path beside", srv, bind("/srv/database"), one("volumes[0].source", "not allowed")},
		{"path above", srv, bind("/srv"), one("volumes[0].source", "not allowed")},
		{"root", srv, bind("/"), one("volumes[0].source", "not allowed")},
		{"traversal", srv, bind("/srv/data/../../etc"), one("volumes[0].source", "not allowed")},
		{"traversal that stays", srv, bind("/srv/data/../data"), one("volumes[0].source", "not allowed")},
		{"dot", srv, bind("/srv/data/."), one("volumes[0].source", "not allowed")},
		{"relative", srv, bind("srv/data"), one("volumes[0].source", "not allowed")},
		{"empty", srv, bind(""), one("volumes[0].source", "not allowed")},
		{"NUL", srv, bind("/srv/data/\x00"), one("volumes[0].source", "not allowed")},
		{"relative setting allows nothing", Policy{AllowedHostPaths: []string{"", "."}}, bind("/etc"), one("volumes[0].source", "not allowed")},

		{"capability by other names", Policy{AllowedCapabilities: []string{"cap_net_admin"}}, caps("NET_ADMIN", "CAP_NET_ADMIN"), nil},
		{"all is not one", Policy{AllowedCapabilities: []string{"NET_ADMIN"}}, caps("ALL"), one("security.capAdd[0]", `"ALL"`)},
		{"device folder", Policy{AllowedDevices: []string{"/dev/dri"}}, security(Security{Devices: []string{"/dev/dri/card0", "/dev/dri2", "/dev/dri/../sda"}}),
			[]fault{{"security.devices[1]", "/dev/dri2"}, {"security.devices[2]", "sda"}}},
		{"sysctl prefix", Policy{AllowedSysctls: []string{"net.ipv4.*"}}, sysctl("net.ipv4.ip_forward"), nil},
		{"sysctl beside", Policy{AllowedSysctls: []string{"net.ipv4.*", "net.core"}}, sysctl("net.core.somaxconn"), one(`security.sysctls["net.core.somaxconn"]`, "not allowed")},
		{"sysctl with slashes", Policy{AllowedSysctls: []string{"*"}}, sysctl("net.ipv4/../../kernel"), one(`security.sysctls["net.ipv4/../../kernel"]`, "not allowed")},

		{"registry", Policy{AllowedRegistries: []string{"docker.io"}}, image("nginx"), nil},
		{"registry by old name", Policy{AllowedRegistries: []string{"docker.io"}}, image("index.docker.io/a/b"), nil},
		{"other registry", Policy{AllowedRegistries: []string{"ghcr.io"}}, image("nginx"), one("image", `policy.allowed_registries: ["docker.io"]`)},
		{"registry prefix", Policy{AllowedRegistries: []string{"ghcr.io/acme/"}}, image("ghcr.io/acme/a:1"), nil},
		{"registry beside", Policy{AllowedRegistries: []string{"ghcr.io/acme"}}, image("ghcr.io/acmeevil/a"), one("image", "not allowed")},
		{"registry as a path", Policy{AllowedRegistries: []string{"ghcr.io"}}, image("evil.io/ghcr.io/a"), one("image", "evil.io")},
		{"registry with a port", Policy{AllowedRegistries: []string{"ghcr.io"}}, image("ghcr.io:8443/a"), one("image", "ghcr.io:8443")},
		{"registry in capitals", Policy{AllowedRegistries: []string{"ghcr.io"}}, image("GHCR.io/a"), nil},
		{"image unreadable", Policy{AllowedRegistries: []string{"ghcr.io"}}, image("ghcr.io/../a"), one("image", "lower-case")},

		{"within", limits, spec(func(s *WorkloadSpec) {
			s.Resources, s.Replicas = Resources{CPU: quantity("2000m"), Memory: quantity("1Gi"), PIDs: 100}, new(3)
		}), nil},
		{"above", limits, spec(func(s *WorkloadSpec) {
			s.Resources, s.Replicas = Resources{CPU: quantity("2001m"), Memory: quantity("1025Mi"), PIDs: 101}, new(4)
		}), []fault{{"resources.cpu", "want at most 2 on this node (policy.max_cpu), got 2001m"}, {"resources.memory", "at most 1Gi"},
			{"resources.pids", "want 1 to 100"}, {"replicas", "at most 3"}}},
		{"unlimited is above", limits, resources(Resources{}),
			[]fault{{"resources.cpu", "must be set"}, {"resources.memory", "must be set"}, {"resources.pids", "got 0"}}},
		{"zero is unlimited", limits, resources(Resources{CPU: quantity("0"), Memory: quantity("-1"), PIDs: -1}),
			[]fault{{"resources.cpu", "must be set"}, {"resources.memory", "must be set"}, {"resources.pids", "got -1"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wantFaults(t, tt.policy.Check(tt.spec), ErrDenied, tt.want...)
			wantFaults(t, tt.policy.Check(tt.spec.WithDefaults()), ErrDenied, tt.want...)
		})
	}
}

func TestPolicyValidate(t *testing.T) {
	tests := []struct {
		name   string
		policy Policy
		want   []fault
	}{
		{"zero", Policy{}, nil},
		{"good", Policy{AllowedHostPaths: []string{"/srv", "/opt/"}, AllowedDevices: []string{"/dev/dri"}, AllowedCapabilities: []string{"NET_ADMIN", "CAP_CHOWN", "ALL"},
			AllowedSysctls: []string{"net.*", "kernel.shmmax", "*"}, AllowedRegistries: []string{"docker.io", "localhost:5000/team/"},
			MaxCPU: quantity("500m"), MaxMemory: quantity("1Gi"), MaxPIDs: 1, MaxReplicas: 1}, nil},
		{"paths", Policy{AllowedHostPaths: []string{"srv", "/a/../b", "", "/a\x00"}, AllowedDevices: []string{"/etc"}}, []fault{
			{"allowed_host_paths[0]", "absolute"}, {"allowed_host_paths[1]", "absolute"}, {"allowed_host_paths[2]", "absolute"}, {"allowed_host_paths[3]", "absolute"},
			{"allowed_devices[0]", "below /dev"}}},
		{"words", Policy{AllowedCapabilities: []string{"NET_ADMN"}, AllowedSysctls: []string{"net", "a*b", "net/*", "net.ipv4*"}}, []fault{
			{"allowed_capabilities[0]", `did you mean "NET_ADMIN"?`}, {"allowed_sysctls[0]", "such as"}, {"allowed_sysctls[1]", "such as"}, {"allowed_sysctls[2]", "such as"}, {"allowed_sysctls[3]", "such as"}}},
		{"registries", Policy{AllowedRegistries: []string{"https://ghcr.io", "ghcr.io/*", "", "acme", "ghcr.io/a:1"}}, []fault{
			{"allowed_registries[0]", "want a host"}, {"allowed_registries[1]", "want a host"}, {"allowed_registries[2]", "want a host"},
			{"allowed_registries[3]", "want a host"}, {"allowed_registries[4]", "want a host"}}},
		{"ceilings", Policy{MaxCPU: quantity("0"), MaxMemory: quantity("1Mi"), MaxPIDs: -1, MaxReplicas: -1}, []fault{
			{"max_cpu", "more than 0"}, {"max_memory", "at least 6Mi"}, {"max_pids", "got -1"}, {"max_replicas", "got -1"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wantFaults(t, tt.policy.Validate(), ErrInvalidSpec, tt.want...)
		})
	}
}
