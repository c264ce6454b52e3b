package drivers

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"
)

func quantity(s string) *resource.Quantity { q := resource.MustParse(s); return &q }

// fault is a wanted fault: its path, and a part of its message.
type fault struct{ path, message string }

// wantFaults checks that err reports exactly the wanted faults, in order.
func wantFaults(t *testing.T, err error, class error, want ...fault) {
	t.Helper()
	if len(want) == 0 {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	if !errors.Is(err, class) {
		t.Fatalf("got %v, want class %v", err, class)
	}
	got, ok := errors.AsType[*FieldErrors](err)
	if !ok {
		t.Fatalf("got %T, want *FieldErrors", err)
	}
	for i := range max(len(got.Fields), len(want)) {
		switch {
		case i >= len(got.Fields):
			t.Errorf("missing fault %+v", want[i])
		case i >= len(want):
			t.Errorf("unwanted fault %+v", got.Fields[i])
		case got.Fields[i].Path != want[i].path || !strings.Contains(got.Fields[i].Message, want[i].message):
			t.Errorf("got  %+v\nwant %+v", got.Fields[i], want[i])
		}
	}
}

// validateCase changes a minimal valid spec.
type validateCase struct {
	name string
	spec func(*WorkloadSpec)
	want []fault
}

func runValidate(t *testing.T, tests []validateCase) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &WorkloadSpec{Name: "cart", Image: "nginx:1.27"}
			tt.spec(s)
			wantFaults(t, s.Validate(), ErrInvalidSpec, tt.want...)
			// Defaults neither cause nor cure a fault.
			wantFaults(t, s.WithDefaults().Validate(), ErrInvalidSpec, tt.want...)
		})
	}
}

func one(path, message string) []fault { return []fault{{path, message}} }

func TestValidateIdentity(t *testing.T) {
	runValidate(t, []validateCase{
		{"minimal", func(s *WorkloadSpec) {}, nil},
		{"no name", func(s *WorkloadSpec) { s.Name = "" }, one("name", "is required")},
		{"upper case", func(s *WorkloadSpec) { s.Name = "Cart" }, one("name", "DNS-1123")},
		{"dot", func(s *WorkloadSpec) { s.Name = "a.b" }, one("name", "DNS-1123")},
		{"wildcard", func(s *WorkloadSpec) { s.Name = ">" }, one("name", "DNS-1123")},
		{"slash", func(s *WorkloadSpec) { s.Namespace = "a/b" }, one("namespace", "DNS-1123")},
		{"traversal", func(s *WorkloadSpec) { s.Namespace = ".." }, one("namespace", "DNS-1123")},
		{"shell", func(s *WorkloadSpec) { s.Name = "a;reboot" }, one("name", "DNS-1123")},
		{"63 is allowed", func(s *WorkloadSpec) { s.Name = strings.Repeat("a", 63) }, nil},
		{"64 is not", func(s *WorkloadSpec) { s.Name = strings.Repeat("a", 64) }, one("name", "DNS-1123")},
		{"backend", func(s *WorkloadSpec) { s.Backend = "Docker!" }, one("backend", "the name of a backend")},
		{"pull policy", func(s *WorkloadSpec) { s.PullPolicy = "Always" }, one("pullPolicy", `want missing, always, never, got "Always"`)},
		{"registry", func(s *WorkloadSpec) { s.Registry = &RegistryCredentials{Username: "a\nb"} },
			[]fault{{"registry.username", "control character U+000A"}, {"registry.password", "exactly one of file and env"}}},
		{"everything at once", func(s *WorkloadSpec) { *s = WorkloadSpec{Replicas: new(-1)} },
			[]fault{{"name", "is required"}, {"image", "is required"}, {"replicas", "want 0 to 1000, got -1"}}},
	})
}

func TestValidateProcess(t *testing.T) {
	runValidate(t, []validateCase{
		{"good", func(s *WorkloadSpec) {
			s.Command, s.Args = []string{"sh", "-c"}, []string{"echo $HOME; ls | wc -l &\n\texit 0", ""}
			s.Env = map[string]string{"A": "", "_b.c-d": "two\nlines\tand `shell` $(stuff)"}
			s.User, s.WorkingDir, s.Hostname = "1000:staff", "/srv", "web.example.com"
		}, nil},
		{"empty program", func(s *WorkloadSpec) { s.Command = []string{""} }, one("command[0]", "want a program")},
		{"NUL", func(s *WorkloadSpec) { s.Args = []string{"a", "b\x00c"} }, one("args[1]", "U+0000 at byte 1")},
		{"escape", func(s *WorkloadSpec) { s.Args = []string{"\x1b[2J"} }, one("args[0]", "U+001B")},
		{"C1 control", func(s *WorkloadSpec) { s.Args = []string{"\u009b"} }, one("args[0]", "U+009B")},
		{"not UTF-8", func(s *WorkloadSpec) { s.Args = []string{"ab\xff"} }, one("args[0]", "not valid UTF-8 at byte 2")},
		{"replacement character", func(s *WorkloadSpec) { s.Args = []string{"\ufffd"} }, nil},
		{"too many words", func(s *WorkloadSpec) { s.Args = make([]string, 1001) }, one("args", "want 0 to 1000, got 1001")},
		{"env name", func(s *WorkloadSpec) { s.Env = map[string]string{"A=B": ""} }, one(`env["A=B"]`, "begins with a letter or '_'")},
		{"env digit first", func(s *WorkloadSpec) { s.Env = map[string]string{"1A": ""} }, one(`env["1A"]`, "begins with a letter or '_'")},
		{"env empty name", func(s *WorkloadSpec) { s.Env = map[string]string{"": ""} }, one(`env[""]`, "want a name")},
		{"env NUL", func(s *WorkloadSpec) { s.Env = map[string]string{"A": "\x00"} }, one("env.A", "U+0000")},
		{"env value too long", func(s *WorkloadSpec) { s.Env = map[string]string{"A": strings.Repeat("x", MaxEnvBytes)} },
			one("env.A", "at most 131069 are allowed")},
		{"process too large", func(s *WorkloadSpec) {
			for range 9 {
				s.Args = append(s.Args, strings.Repeat("x", MaxEnvBytes))
			}
		}, one("env", "command, args and env are 1179657 bytes together")},
		{"user", func(s *WorkloadSpec) { s.User = "a b" }, one("user", `got "a b"`)},
		{"user without group", func(s *WorkloadSpec) { s.User = "0:" }, one("user", "uid:gid")},
		{"user too many parts", func(s *WorkloadSpec) { s.User = "0:0:0" }, one("user", "uid:gid")},
		{"user out of range", func(s *WorkloadSpec) { s.User = "2147483648" }, one("user", "uid:gid")},
		{"user option", func(s *WorkloadSpec) { s.User = "--privileged" }, one("user", "uid:gid")},
		{"relative directory", func(s *WorkloadSpec) { s.WorkingDir = "srv" }, one("workingDir", "want an absolute path")},
		{"traversal", func(s *WorkloadSpec) { s.WorkingDir = "/srv/../etc" }, one("workingDir", `such as "/etc"`)},
		{"hostname", func(s *WorkloadSpec) { s.Hostname = "-a" }, one("hostname", "host name")},
		{"hostname too long", func(s *WorkloadSpec) { s.Hostname = strings.Repeat("a.", 31) + "ab" }, one("hostname", "at most 63 bytes")},
	})
}

func TestValidateLabels(t *testing.T) {
	label := func(k, v string) func(*WorkloadSpec) {
		return func(s *WorkloadSpec) { s.Labels = map[string]string{k: v} }
	}
	runValidate(t, []validateCase{
		{"proxy's", label("traefik.http.routers.r.tls.domains[0].main", "Host(`a`) && Path(`/b`)"), nil},
		{"Kubernetes'", label("app.kubernetes.io/name", "cart"), nil},
		{"ours", label("io.kranix.workload", "a/b"), one(`labels["io.kranix.workload"]`, "the runtime's own")},
		{"ours in disguise", label("IO.Kranix.node", "a"), one(`labels["IO.Kranix.node"]`, "the runtime's own")},
		{"close to ours", label("io.kranixx", "a"), nil},
		{"empty key", label("", "a"), one(`labels[""]`, "want a name")},
		{"equals sign", label("a=b", "c"), one(`labels["a=b"]`, "want a name")},
		{"long key", label(strings.Repeat("k", 256), "c"), one(`labels["`+strings.Repeat("k", 64)+`"...]`, "want a name")},
		{"long value", label("a", strings.Repeat("x", 16<<10+1)), one("labels.a", "at most 16384 are allowed")},
		{"line end in value", label("a", "b\nc"), one("labels.a", "U+000A")},
		{"too large together", func(s *WorkloadSpec) {
			s.Labels = map[string]string{}
			for i := range 5 {
				s.Labels[fmt.Sprintf("l%d", i)] = strings.Repeat("x", 16<<10)
			}
		}, one("labels", "are 81930 bytes together")},
	})
}

func TestValidateNetwork(t *testing.T) {
	ports := func(p ...Port) func(*WorkloadSpec) { return func(s *WorkloadSpec) { s.Ports = p } }
	networks := func(n ...Network) func(*WorkloadSpec) { return func(s *WorkloadSpec) { s.Networks = n } }
	runValidate(t, []validateCase{
		{"good", ports(Port{Name: "http", ContainerPort: 80, HostPort: 8080, HostAddress: "127.0.0.1"},
			Port{ContainerPort: 53, HostPort: 53, Protocol: "udp"}, Port{ContainerPort: 53, HostPort: 53},
			Port{ContainerPort: 80, Publish: true, HostAddress: "::1"}), nil},
		{"container port 0", ports(Port{}), one("ports[0].containerPort", "want 1 to 65535, got 0")},
		{"port too high", ports(Port{ContainerPort: 65536, HostPort: -1}),
			[]fault{{"ports[0].containerPort", "got 65536"}, {"ports[0].hostPort", "want 0 to 65535, got -1"}}},
		{"protocol", ports(Port{ContainerPort: 80, Protocol: "TCP"}), one("ports[0].protocol", "want tcp, udp, sctp")},
		{"address", ports(Port{ContainerPort: 80, HostPort: 80, HostAddress: "localhost"}), one("ports[0].hostAddress", "IPv4 or IPv6")},
		{"address with zone", ports(Port{ContainerPort: 80, HostPort: 80, HostAddress: "fe80::1%eth0"}), one("ports[0].hostAddress", "IPv4 or IPv6")},
		{"address octal", ports(Port{ContainerPort: 80, HostPort: 80, HostAddress: "010.0.0.1"}), one("ports[0].hostAddress", "IPv4 or IPv6")},
		{"address without port", ports(Port{ContainerPort: 80, HostAddress: "10.0.0.1"}), one("ports[0].hostAddress", "no effect")},
		{"name", ports(Port{ContainerPort: 80, Name: "HTTP"}), one("ports[0].name", "DNS-1123")},
		{"names repeat", ports(Port{ContainerPort: 80, Name: "a"}, Port{ContainerPort: 81, Name: "a"}), one("ports[1].name", "ports[0] already")},
		{"port repeats", ports(Port{ContainerPort: 80}, Port{ContainerPort: 80, Protocol: "tcp"}), one("ports[1]", "repeats ports[0]")},
		{"one port on two", ports(Port{ContainerPort: 80, HostPort: 80}, Port{ContainerPort: 80, HostPort: 81}), nil},
		{"host port clashes", ports(Port{ContainerPort: 80, HostPort: 80}, Port{ContainerPort: 81, HostPort: 80, Protocol: "tcp"}),
			one("ports[1].hostPort", "80/tcp is bound by ports[0] already")},
		{"wildcard clashes", ports(Port{ContainerPort: 80, HostPort: 80, HostAddress: "10.0.0.1"}, Port{ContainerPort: 81, HostPort: 80, HostAddress: "0.0.0.0"}),
			one("ports[1].hostPort", "bound by ports[0]")},
		{"all clashes with IPv6", ports(Port{ContainerPort: 80, HostPort: 80, HostAddress: "::1"}, Port{ContainerPort: 81, HostPort: 80}),
			one("ports[1].hostPort", "bound by ports[0]")},
		{"other spelling clashes", ports(Port{ContainerPort: 80, HostPort: 80, HostAddress: "::1"}, Port{ContainerPort: 81, HostPort: 80, HostAddress: "0:0:0:0:0:0:0:1"}),
			one("ports[1].hostPort", "bound by ports[0]")},
		{"mapped address clashes", ports(Port{ContainerPort: 80, HostPort: 80, HostAddress: "10.0.0.1"}, Port{ContainerPort: 81, HostPort: 80, HostAddress: "::ffff:10.0.0.1"}),
			one("ports[1].hostPort", "bound by ports[0]")},
		{"families do not clash", ports(Port{ContainerPort: 80, HostPort: 80, HostAddress: "0.0.0.0"}, Port{ContainerPort: 81, HostPort: 80, HostAddress: "::"}), nil},
		{"addresses do not clash", ports(Port{ContainerPort: 80, HostPort: 80, HostAddress: "10.0.0.1"}, Port{ContainerPort: 81, HostPort: 80, HostAddress: "10.0.0.2"}), nil},
		{"replicas share a host port", func(s *WorkloadSpec) {
			s.Replicas = new(2)
			s.Ports = []Port{{ContainerPort: 80, HostPort: 80}, {ContainerPort: 81, Publish: true}}
		}, one("ports[0].hostPort", "each of 2 replicas")},
		{"host network with ports and networks", func(s *WorkloadSpec) {
			s.Security.HostNetwork = true
			s.Ports, s.Networks = []Port{{ContainerPort: 80}}, []Network{{Name: "a"}}
		}, []fault{{"ports", "security.hostNetwork"}, {"networks", "security.hostNetwork"}}},
		{"networks", networks(Network{Name: "a", Aliases: []string{"db", "db.internal"}}, Network{Name: "b", External: true}), nil},
		{"network name", networks(Network{}), one("networks[0].name", "DNS-1123")},
		{"container's network", networks(Network{Name: "container:abc", External: true}), one("networks[0].name", "DNS-1123")},
		{"the host's by name", networks(Network{Name: "host", External: true}), one("networks[0].name", "reserve")},
		{"network repeats", networks(Network{Name: "a"}, Network{Name: "a"}), one("networks[1].name", "networks[0] already")},
		{"aliases", networks(Network{Name: "a", Aliases: []string{"x", "a b", "x"}}),
			[]fault{{"networks[0].aliases[1]", "DNS name"}, {"networks[0].aliases[2]", "repeats networks[0].aliases[0]"}}},
	})
}

func TestValidateStorage(t *testing.T) {
	volumes := func(v ...Volume) func(*WorkloadSpec) { return func(s *WorkloadSpec) { s.Volumes = v } }
	secrets := func(u ...SecretUse) func(*WorkloadSpec) { return func(s *WorkloadSpec) { s.Secrets = u } }
	ref := SecretRef{File: "db/password"}
	runValidate(t, []validateCase{
		{"good", volumes(Volume{Source: "data", Target: "/data", Retain: true}, Volume{Type: VolumeBind, Source: "/srv", Target: "/data/srv", ReadOnly: true},
			Volume{Type: VolumeTmpfs, Target: "/tmp", Size: quantity("64Mi")}, Volume{Source: "shared", Target: "/x", External: true}), nil},
		{"type", volumes(Volume{Type: "nfs", Target: "/a"}), one("volumes[0].type", "want volume, bind, tmpfs")},
		{"host path as name", volumes(Volume{Source: "/etc", Target: "/a"}), one("volumes[0].source", "a host path needs type bind")},
		{"traversal in name", volumes(Volume{Source: "../etc", Target: "/a"}), one("volumes[0].source", "DNS-1123")},
		{"bind without source", volumes(Volume{Type: VolumeBind, Target: "/a"}), one("volumes[0].source", "is required")},
		{"bind traversal", volumes(Volume{Type: VolumeBind, Source: "/srv/../etc", Target: "/a"}), one("volumes[0].source", `such as "/etc"`)},
		{"bind relative", volumes(Volume{Type: VolumeBind, Source: "srv", Target: "/a"}), one("volumes[0].source", "absolute")},
		{"bind options", volumes(Volume{Type: VolumeBind, Source: "/srv:/etc", Target: "/a"}), one("volumes[0].source", "':'")},
		{"tmpfs source", volumes(Volume{Type: VolumeTmpfs, Source: "a", Target: "/a"}), one("volumes[0].source", "has none")},
		{"no target", volumes(Volume{Source: "a"}), one("volumes[0].target", "is required")},
		{"target root", volumes(Volume{Source: "a", Target: "/"}), one("volumes[0].target", "root")},
		{"target in proc", volumes(Volume{Source: "a", Target: "/proc/sys"}), one("volumes[0].target", "/proc")},
		{"target not clean", volumes(Volume{Source: "a", Target: "/a/"}), one("volumes[0].target", `such as "/a", got "/a/"`)},
		{"target control", volumes(Volume{Source: "a", Target: "/a\n"}), one("volumes[0].target", "U+000A")},
		{"target repeats", volumes(Volume{Source: "a", Target: "/a"}, Volume{Source: "b", Target: "/a"}), one("volumes[1].target", "target of volumes[0].target already")},
		{"options of others", volumes(Volume{Type: VolumeTmpfs, Target: "/a", Retain: true, External: true}),
			[]fault{{"volumes[0].retain", "the workload owns"}, {"volumes[0].external", "named volumes"}}},
		{"retain external", volumes(Volume{Source: "a", Target: "/a", Retain: true, External: true}), one("volumes[0].retain", "the workload owns")},
		{"size of a volume", volumes(Volume{Source: "a", Target: "/a", Size: quantity("1Gi")}), one("volumes[0].size", "is for tmpfs")},
		{"size", volumes(Volume{Type: VolumeTmpfs, Target: "/a", Size: quantity("0")}), one("volumes[0].size", "more than 0")},
		{"one volume twice", volumes(Volume{Source: "a", Target: "/a"}, Volume{Source: "a", Target: "/b", ReadOnly: true}), nil},
		{"one volume, two opinions", volumes(Volume{Source: "a", Target: "/a"}, Volume{Source: "a", Target: "/b", Retain: true}),
			one("volumes[1]", "retain or external differ")},

		{"secrets", secrets(SecretUse{Ref: ref, Env: "A"}, SecretUse{Ref: SecretRef{Env: "TOKEN_1"}, File: "/run/secrets/t", Mode: "0440", UID: 1, GID: 2}), nil},
		{"no reference", secrets(SecretUse{Env: "A"}), one("secrets[0].ref", "exactly one")},
		{"both references", secrets(SecretUse{Ref: SecretRef{File: "a", Env: "B"}, Env: "A"}), one("secrets[0].ref", "exactly one")},
		{"neither env nor file", secrets(SecretUse{Ref: ref}), one("secrets[0]", "exactly one of env and file")},
		{"both env and file", secrets(SecretUse{Ref: ref, Env: "A", File: "/a"}), one("secrets[0]", "exactly one of env and file")},
		{"reference traversal", secrets(SecretUse{Ref: SecretRef{File: "../other/key"}, Env: "A"}), one("secrets[0].ref.file", "inside the namespace's folder")},
		{"reference inner traversal", secrets(SecretUse{Ref: SecretRef{File: "a/../../b"}, Env: "A"}), one("secrets[0].ref.file", "inside the namespace's folder")},
		{"reference absolute", secrets(SecretUse{Ref: SecretRef{File: "/etc/shadow"}, Env: "A"}), one("secrets[0].ref.file", "inside the namespace's folder")},
		{"reference to the folder", secrets(SecretUse{Ref: SecretRef{File: "."}, Env: "A"}), one("secrets[0].ref.file", "inside the namespace's folder")},
		{"reference backslash", secrets(SecretUse{Ref: SecretRef{File: `..\a`}, Env: "A"}), one("secrets[0].ref.file", "inside the namespace's folder")},
		{"reference NUL", secrets(SecretUse{Ref: SecretRef{File: "a\x00b"}, Env: "A"}), one("secrets[0].ref.file", "U+0000")},
		{"reference env", secrets(SecretUse{Ref: SecretRef{Env: "_A"}, Env: "A"}), one("secrets[0].ref.env", "beginning with a letter")},
		{"reference env beyond ASCII", secrets(SecretUse{Ref: SecretRef{Env: "A\u0141"}, Env: "A"}), one("secrets[0].ref.env", "beginning with a letter")},
		{"env name", secrets(SecretUse{Ref: ref, Env: "A=B"}), one("secrets[0].env", "want a name")},
		{"env repeats", secrets(SecretUse{Ref: ref, Env: "A"}, SecretUse{Ref: ref, Env: "A"}), one("secrets[1].env", "secrets[0] already")},
		{"env set by env", func(s *WorkloadSpec) {
			s.Env, s.Secrets = map[string]string{"A": ""}, []SecretUse{{Ref: ref, Env: "A"}}
		}, one("secrets[0].env", "set by env already")},
		{"mode", secrets(SecretUse{Ref: ref, File: "/a", Mode: "4755"}), one("secrets[0].mode", "octal")},
		{"mode words", secrets(SecretUse{Ref: ref, File: "/a", Mode: "u=r"}), one("secrets[0].mode", "octal")},
		{"mode of a variable", secrets(SecretUse{Ref: ref, Env: "A", UID: 1}), one("secrets[0]", "are for secrets that are files")},
		{"owner", secrets(SecretUse{Ref: ref, File: "/a", UID: -1, GID: 1 << 31}), []fault{{"secrets[0].uid", "got -1"}, {"secrets[0].gid", "got 2147483648"}}},
		{"file over volume", func(s *WorkloadSpec) {
			s.Volumes, s.Secrets = []Volume{{Source: "a", Target: "/a"}}, []SecretUse{{Ref: ref, File: "/a"}}
		}, one("secrets[0].file", "target of volumes[0].target already")},
		{"below a file", func(s *WorkloadSpec) {
			s.Volumes, s.Secrets = []Volume{{Source: "a", Target: "/s/a/b"}}, []SecretUse{{Ref: ref, File: "/s"}}
		}, one("volumes[0].target", "lies below the file of secrets[0]")},
		{"secret on a tmpfs", func(s *WorkloadSpec) {
			s.Secrets = []SecretUse{{Ref: ref, File: "/tmp/x/key"}}
			s.Volumes = []Volume{{Type: VolumeTmpfs, Target: "/tmp"}}
		}, one("secrets[0].file", "lies on volumes[0]")},
	})
}

func TestValidateResources(t *testing.T) {
	resources := func(r Resources) func(*WorkloadSpec) { return func(s *WorkloadSpec) { s.Resources = r } }
	runValidate(t, []validateCase{
		{"good", resources(Resources{CPU: quantity("1500m"), Memory: quantity("6Mi"), Shm: quantity("1"), PIDs: 100,
			Ulimits: []Ulimit{{"nofile", 1024, 2048}, {"core", -1, -1}, {"nproc", 5, -1}},
			GPU:     &GPURequest{Vendor: "amd", Count: 1, Type: "MI300X", Memory: quantity("40Gi")}}), nil},
		{"no CPU", resources(Resources{CPU: quantity("0")}), one("resources.cpu", "more than 0")},
		{"negative", resources(Resources{CPU: quantity("-1"), Memory: quantity("-1Gi"), PIDs: -1}),
			[]fault{{"resources.cpu", "got -1"}, {"resources.memory", "got -1Gi"}, {"resources.pids", "got -1"}}},
		{"CPU too fine", resources(Resources{CPU: quantity("100u")}), one("resources.cpu", "a multiple of 1m")},
		{"CPU absurd", resources(Resources{CPU: quantity("5k")}), one("resources.cpu", "at most 4096 cores")},
		{"memory too small", resources(Resources{Memory: quantity("512")}), one("resources.memory", "want at least 6Mi, got 512")},
		{"memory fractional", resources(Resources{Memory: quantity("512m")}), one("resources.memory", `want whole bytes, got 512m ("m" is a thousandth`)},
		{"overflow binary", resources(Resources{Memory: quantity("8Ei")}), one("resources.memory", "at most 1Pi")},
		{"overflow decimal", resources(Resources{Memory: quantity("100E")}), one("resources.memory", "at most 1Pi")},
		{"overflow to small", resources(Resources{Memory: quantity("18446744073719551616")}), one("resources.memory", "at most 1Pi")},
		{"shm", resources(Resources{Shm: quantity("0.5")}), one("resources.shm", "whole bytes")},
		{"ulimit name", resources(Resources{Ulimits: []Ulimit{{"nofiles", 1, 1}}}), one("resources.ulimits[0].name", `did you mean "nofile"?`)},
		{"ulimit values", resources(Resources{Ulimits: []Ulimit{{"nofile", -2, -3}, {"core", 2, 1}, {"cpu", -1, 5}}}),
			[]fault{{"resources.ulimits[0].soft", "got -2"}, {"resources.ulimits[0].hard", "got -3"},
				{"resources.ulimits[1].soft", "hard limit 1"}, {"resources.ulimits[2].soft", "hard limit 5"}}},
		{"ulimit repeats", resources(Resources{Ulimits: []Ulimit{{"core", 1, 1}, {"core", 2, 2}}}), one("resources.ulimits[1].name", "resources.ulimits[0] already")},
		{"gpu", resources(Resources{GPU: &GPURequest{Vendor: "intel", Type: "a\x00", Memory: quantity("1")}}),
			[]fault{{"resources.gpu.vendor", "want nvidia, amd"}, {"resources.gpu.count", "got 0"}, {"resources.gpu.type", "U+0000"}, {"resources.gpu.memory", "at least 1Mi"}}},
	})
}

func TestValidateLifecycle(t *testing.T) {
	health := func(h HealthCheck) func(*WorkloadSpec) { return func(s *WorkloadSpec) { s.Health = &h } }
	exec := []string{"true"}
	runValidate(t, []validateCase{
		{"replicas", func(s *WorkloadSpec) { s.Replicas = new(1001) }, one("replicas", "want 0 to 1000")},
		{"no replicas", func(s *WorkloadSpec) { s.Replicas = new(0) }, nil},
		{"restart policy", func(s *WorkloadSpec) { s.Restart.Policy = "Always" }, one("restart.policy", "want always, on-failure, unless-stopped, no")},
		{"attempts", func(s *WorkloadSpec) { s.Restart.Attempts = 3 }, one("restart.attempts", "on-failure")},
		{"negative attempts", func(s *WorkloadSpec) { s.Restart = RestartPolicy{RestartOnFailure, -1} }, one("restart.attempts", "got -1")},
		{"signal", func(s *WorkloadSpec) { s.Stop.Signal = "SIGFOO" }, one("stop.signal", "such as SIGTERM")},
		{"signal number", func(s *WorkloadSpec) { s.Stop.Signal = "65" }, one("stop.signal", "such as SIGTERM")},
		{"signal zero", func(s *WorkloadSpec) { s.Stop.Signal = "0" }, one("stop.signal", "such as SIGTERM")},
		{"signal lower case", func(s *WorkloadSpec) { s.Stop.Signal = "sigterm" }, one("stop.signal", "such as SIGTERM")},
		{"durations", func(s *WorkloadSpec) {
			s.Stop.Grace, s.Update.Monitor = DurationPtr(-time.Second), DurationPtr(25*time.Hour)
			s.TTL, s.Deadline = Duration(time.Millisecond), Duration(7*24*time.Hour)
		}, []fault{{"stop.grace", "got -1s"}, {"ttl", "got 1ms"}, {"deadline", "got 168h0m0s"}, {"update.monitor", "got 25h0m0s"}}},
		{"hook", func(s *WorkloadSpec) { s.PreDeploy = &Hook{Timeout: -1} },
			[]fault{{"preDeploy.command", "is required"}, {"preDeploy.timeout", "got -1ns"}}},
		{"hook program", func(s *WorkloadSpec) { s.PreDeploy = &Hook{Command: []string{""}} }, one("preDeploy.command[0]", "want a program")},
		{"update", func(s *WorkloadSpec) { s.Update = Update{Order: "canary", Parallelism: -1} },
			[]fault{{"update.order", "want start-first, stop-first"}, {"update.parallelism", "got -1"}}},
		{"start-first", func(s *WorkloadSpec) {
			s.Update.Order = StartFirst
			s.Ports = []Port{{ContainerPort: 80, Publish: true}}
		}, nil},
		{"start-first with a host port", func(s *WorkloadSpec) {
			s.Update.Order = StartFirst
			s.Ports = []Port{{ContainerPort: 80, HostPort: 80}}
		},
			one("update.order", "ports[0].hostPort 80")},
		{"logs", func(s *WorkloadSpec) { s.Logs = LogConfig{MaxSize: quantity("1"), MaxFiles: -1} },
			[]fault{{"logs.maxSize", "at least 4Ki"}, {"logs.maxFiles", "got -1"}}},

		{"health exec", health(HealthCheck{Exec: exec}), nil},
		{"health none", health(HealthCheck{}), one("health", "got 0")},
		{"health two", health(HealthCheck{Exec: exec, TCP: &TCPProbe{Port: 1}}), one("health", "got 2")},
		{"health program", health(HealthCheck{Exec: []string{""}}), one("health.exec[0]", "want a program")},
		{"health tcp", health(HealthCheck{TCP: &TCPProbe{}}), one("health.tcp.port", "got 0")},
		{"health http", health(HealthCheck{HTTP: &HTTPProbe{Port: 1, Path: "a", Scheme: "ftp", Headers: map[string]string{"A": "b\r\nC: d", "B C": ""}}}),
			[]fault{{"health.http.path", "begins with '/'"}, {"health.http.scheme", "want http, https"},
				{"health.http.headers.A", "U+000D"}, {`health.http.headers["B C"]`, "name of an HTTP header"}}},
		{"health path with line end", health(HealthCheck{HTTP: &HTTPProbe{Port: 1, Path: "/a HTTP/1.1"}}), one("health.http.path", "no space")},
		{"health times", health(HealthCheck{Exec: exec, Interval: -1, Timeout: 1, StartPeriod: Duration(48 * time.Hour), Retries: -1}),
			[]fault{{"health.interval", "got -1ns"}, {"health.timeout", "got 1ns"}, {"health.startPeriod", "got 48h0m0s"}, {"health.retries", "got -1"}}},
	})
}

func TestValidateSecurity(t *testing.T) {
	security := func(sec Security) func(*WorkloadSpec) { return func(s *WorkloadSpec) { s.Security = sec } }
	runValidate(t, []validateCase{
		{"good", security(Security{CapAdd: []string{"NET_ADMIN"}, CapDrop: []string{"ALL"}, Seccomp: "unconfined", AppArmor: "my-profile",
			Devices: []string{"/dev/fuse", "/dev/dri/renderD128"}, Sysctls: map[string]string{"net.core.somaxconn": "1024", "kernel.shmmax": "1"}}), nil},
		{"capability prefix", security(Security{CapAdd: []string{"CAP_NET_ADMIN"}}), one("security.capAdd[0]", `write it "NET_ADMIN"`)},
		{"capability case", security(Security{CapDrop: []string{"chown"}}), one("security.capDrop[0]", `write it "CHOWN"`)},
		{"capability typo", security(Security{CapAdd: []string{"NET_ADMN"}}), one("security.capAdd[0]", `did you mean "NET_ADMIN"?`)},
		{"capability twice", security(Security{CapAdd: []string{"KILL", "KILL"}}), one("security.capAdd[1]", "listed twice")},
		{"capability in both", security(Security{CapAdd: []string{"KILL"}, CapDrop: []string{"KILL"}}), one("security.capDrop[0]", "in security.capAdd too")},
		{"seccomp", security(Security{Seccomp: "/etc/passwd"}), one("security.seccomp", "want unconfined")},
		{"apparmor", security(Security{AppArmor: "a,b=c"}), one("security.appArmor", "loaded profile")},
		{"devices", security(Security{Devices: []string{"/etc/shadow", "/dev/../etc", "/dev/a:/dev/b:rwm", "/dev/fuse", "/dev/fuse"}}),
			[]fault{{"security.devices[0]", "below /dev"}, {"security.devices[1]", `such as "/etc"`}, {"security.devices[2]", "':'"}, {"security.devices[4]", "repeats security.devices[3]"}}},
		{"sysctls", security(Security{Sysctls: map[string]string{"kernel.core_pattern": "|/a", "net/core/somaxconn": "1", "net..a": "1", "net.a": ""}}),
			[]fault{{`security.sysctls["kernel.core_pattern"]`, "not namespaced"}, {`security.sysctls["net..a"]`, "want a name"},
				{`security.sysctls["net.a"]`, "want a value"}, {`security.sysctls["net/core/somaxconn"]`, "want a name"}}},
		{"sysctl of the host", security(Security{HostNetwork: true, Sysctls: map[string]string{"net.ipv4.ip_forward": "1"}}),
			one(`security.sysctls["net.ipv4.ip_forward"]`, "the host's network")},
	})
}

func TestValidateAcceptsValidSpecs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if err := validSpec().Draw(t, "spec").Validate(); err != nil {
			t.Fatal(err)
		}
	})
}

// Every string of a spec is checked: none of them may carry a NUL byte to an engine.
func TestValidateFindsNULInEveryString(t *testing.T) {
	paths := map[string]bool{}
	collectStrings(fullSpec(t), func(path string) { paths[path] = true })
	if len(paths) < 50 {
		t.Fatalf("found only %d strings in a spec", len(paths))
	}
	for path := range paths {
		s := fullSpec(t)
		before := faultsAt(s.Validate(), path)
		setString(s, path, "a\x00b")
		after := faultsAt(s.Validate(), path)
		if len(after) == 0 || fmt.Sprint(before) == fmt.Sprint(after) {
			t.Errorf("a NUL byte in %s is not reported: %v", path, after)
		}
	}
}

func TestValidateReportIsBoundedAndRepeatsNoSecrets(t *testing.T) {
	s := &WorkloadSpec{Name: "a", Image: "https://user:hunter2@host/app"}
	s.Secrets = []SecretUse{{Ref: SecretRef{Env: "hunter2!"}, Env: "A"}, {Ref: SecretRef{File: "/hunter2"}, Env: "B"}}
	s.Env = map[string]string{"X": "hunter2\x00"}
	s.Registry = &RegistryCredentials{Username: "hunter2\x00", Password: SecretRef{Env: "hunter2!"}}
	for range 500 {
		s.Args = append(s.Args, "hunter2\x00")
	}
	err := s.Validate()
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a value is repeated: %v", err)
	}
	fields := err.(*FieldErrors).Fields
	if len(fields) != maxFaults+1 || fields[maxFaults].Message != "406 more faults are not listed" {
		t.Errorf("got %d faults, the last %+v", len(fields), fields[len(fields)-1])
	}
}
