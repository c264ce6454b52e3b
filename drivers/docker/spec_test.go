package docker

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/kranix-io/kranix-runtime/drivers"
)

var update = flag.Bool("update", false, "write the golden files from what the code says now")

func quantity(s string) *resource.Quantity {
	q := resource.MustParse(s)
	return &q
}

// fullSpec uses every field that reaches the engine.
func fullSpec() *drivers.WorkloadSpec {
	return &drivers.WorkloadSpec{
		Name: "cart", Namespace: "shop", Image: "registry.example:5000/cart:1.2",
		Command: []string{"/bin/cart", "serve"}, Args: []string{"--port", "8080"},
		Env:  map[string]string{"B": "2", "A": "one; two $(three)"},
		User: "1000:1000", WorkingDir: "/srv", Hostname: "cart-host", TTY: true, Init: true,
		Secrets: []drivers.SecretUse{
			{Ref: drivers.SecretRef{File: "db/password"}, Env: "PASSWORD"},
			{Ref: drivers.SecretRef{Env: "TLS_KEY"}, File: "/run/secrets/tls.key"},
		},
		Ports: []drivers.Port{
			{Name: "http", ContainerPort: 8080, HostPort: 18080, HostAddress: "127.0.0.1"},
			{Name: "dns", ContainerPort: 53, Publish: true, Protocol: "udp"},
			{Name: "inner", ContainerPort: 9090},
		},
		Volumes: []drivers.Volume{
			{Source: "data", Target: "/data"},
			{Source: "shared", Target: "/shared", External: true, ReadOnly: true},
			{Type: drivers.VolumeBind, Source: "/srv/www", Target: "/www", ReadOnly: true},
			{Type: drivers.VolumeTmpfs, Target: "/scratch", Size: quantity("64Mi")},
		},
		Networks: []drivers.Network{
			{Name: "front", Aliases: []string{"shop-cart"}},
			{Name: "back"},
			{Name: "corp", External: true},
		},
		Labels: map[string]string{"team": "shop"},
		Resources: drivers.Resources{
			CPU: quantity("1500m"), Memory: quantity("256Mi"), PIDs: 100, Shm: quantity("128Mi"),
			Ulimits: []drivers.Ulimit{{Name: "nofile", Soft: 1024, Hard: 4096}},
			GPU:     &drivers.GPURequest{Vendor: "nvidia", Count: 2},
		},
		Restart: drivers.RestartPolicy{Policy: drivers.RestartOnFailure, Attempts: 4},
		Health: &drivers.HealthCheck{Exec: []string{"/bin/cart", "check"}, Interval: drivers.Duration(3 * time.Second),
			Timeout: drivers.Duration(time.Second), Retries: 2, StartPeriod: drivers.Duration(5 * time.Second)},
		Stop: drivers.Stop{Signal: "SIGINT", Grace: drivers.DurationPtr(1500 * time.Millisecond)},
		Security: drivers.Security{Privileged: true, HostPID: true, ReadOnlyRoot: true, NoNewPrivs: true,
			CapAdd: []string{"NET_ADMIN"}, CapDrop: []string{"ALL"}, Seccomp: "unconfined", AppArmor: "docker-default",
			Devices: []string{"/dev/fuse"}, Sysctls: map[string]string{"net.core.somaxconn": "1024"}},
		Logs:      drivers.LogConfig{MaxSize: quantity("5Mi"), MaxFiles: 7},
		PreDeploy: &drivers.Hook{Command: []string{"/bin/cart", "migrate"}},
	}
}

func TestTranslate(t *testing.T) {
	to := target{node: "n1", cmd: drivers.Command{ID: "abcdef", Sequence: 42}, revision: "rrrrrrrrrrrr",
		imageID: "sha256:0123", networks: map[string]string{"kranix.shop.front": "id-of-front", "corp": "id-of-corp"}, secretEnv: []string{"PASSWORD=from the resolver"}}
	cases := []struct {
		name    string
		spec    *drivers.WorkloadSpec
		ordinal int
	}{
		{"full", fullSpec(), 0},
		{"hook", fullSpec(), hook},
		{"minimal", &drivers.WorkloadSpec{Name: "cart", Image: "busybox"}, 3},
		{"probe", &drivers.WorkloadSpec{Name: "cart", Image: "busybox",
			Health: &drivers.HealthCheck{HTTP: &drivers.HTTPProbe{Port: 80}}}, 0},
		{"host-network", &drivers.WorkloadSpec{Name: "cart", Image: "busybox",
			Security: drivers.Security{HostNetwork: true}}, 0},
		{"restart-no", &drivers.WorkloadSpec{Name: "job", Image: "busybox",
			Restart: drivers.RestartPolicy{Policy: drivers.RestartNo}}, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			to := to
			to.ordinal = c.ordinal
			b, err := translate(c.spec.WithDefaults(), to)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(b, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", "translate", c.name+".json")
			if *update {
				if err := os.WriteFile(file, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.TrimSpace(string(want)) != string(got) {
				t.Errorf("the translation differs from %s; run with -update and read the difference:\n%s", file, got)
			}
		})
	}
}

func TestTranslateKeepsSecretsOutOfLabels(t *testing.T) {
	b, err := translate(fullSpec().WithDefaults(), target{node: "n1", secretEnv: []string{"PASSWORD=hunter22"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range b.Config.Labels {
		if strings.Contains(value, "hunter22") {
			t.Errorf("label %s holds a secret's value", name)
		}
	}
	if back, err := decodeSpec(b.Config.Labels[drivers.LabelSpec]); err != nil || back.Revision("x") != fullSpec().Revision("x") {
		t.Errorf("the spec does not survive its label: %+v, %v", back, err)
	}
}

func TestTranslateIgnoresLabelsThatAreOurs(t *testing.T) {
	s := &drivers.WorkloadSpec{Name: "cart", Image: "busybox", Labels: map[string]string{drivers.LabelNode: "other"}}
	b, err := translate(s.WithDefaults(), target{node: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Config.Labels[drivers.LabelNode]; got != "n1" {
		t.Errorf("a user's label replaced the node's: %q", got)
	}
}

func TestCheckSpec(t *testing.T) {
	cases := []struct {
		name  string
		spec  drivers.WorkloadSpec
		paths []string
	}{
		{"plain", drivers.WorkloadSpec{}, nil},
		{"nvidia by count", drivers.WorkloadSpec{Resources: drivers.Resources{GPU: &drivers.GPURequest{Vendor: "nvidia", Count: 1}}}, nil},
		{"gpu by type and memory", drivers.WorkloadSpec{Resources: drivers.Resources{
			GPU: &drivers.GPURequest{Count: 1, Type: "A100", Memory: quantity("40Gi")}}},
			[]string{"resources.gpu.type", "resources.gpu.memory"}},
		{"amd", drivers.WorkloadSpec{Resources: drivers.Resources{GPU: &drivers.GPURequest{Vendor: "amd", Count: 1}}},
			[]string{"resources.gpu.vendor"}},
		{"host network and others", drivers.WorkloadSpec{Security: drivers.Security{HostNetwork: true},
			Networks: []drivers.Network{{Name: "front"}}}, []string{"networks"}},
		{"secret file at a read-only root", drivers.WorkloadSpec{Security: drivers.Security{ReadOnlyRoot: true},
			Secrets: []drivers.SecretUse{{File: "/password"}}}, []string{"secrets[0].file"}},
		{"too little memory", drivers.WorkloadSpec{Resources: drivers.Resources{Memory: quantity("4Mi")}},
			[]string{"resources.memory"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := (&Driver{}).CheckSpec(&c.spec)
			var faults *drivers.FieldErrors
			if len(c.paths) == 0 {
				if err != nil {
					t.Fatalf("got %v, want nil", err)
				}
				return
			}
			if !errors.As(err, &faults) || !errors.Is(err, drivers.ErrUnsupported) {
				t.Fatalf("got %v, want FieldErrors of ErrUnsupported", err)
			}
			var got []string
			for _, f := range faults.Fields {
				got = append(got, f.Path)
			}
			if strings.Join(got, " ") != strings.Join(c.paths, " ") {
				t.Errorf("paths %v, want %v", got, c.paths)
			}
		})
	}
}
