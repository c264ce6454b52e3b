package drivers

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"
)

// validSpec draws specs that must pass Validate.
func validSpec() *rapid.Generator[*WorkloadSpec] {
	return rapid.Custom(func(t *rapid.T) *WorkloadSpec {
		label := rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?`)
		text := rapid.StringMatching(`[ -~äé\n\t]{0,20}`)
		s := &WorkloadSpec{
			Name:       label.Draw(t, "name"),
			Namespace:  optional(t, label, "namespace"),
			Backend:    optional(t, label, "backend"),
			Image:      rapid.StringMatching(`([a-z]{1,8}\.[a-z]{2,3}(:[1-9][0-9]{0,3})?/)?[a-z0-9]{1,8}([._-][a-z0-9]{1,8})?(/[a-z0-9]{1,8})?(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,10})?(@sha256:[0-9a-f]{64})?`).Draw(t, "image"),
			PullPolicy: rapid.SampledFrom([]PullPolicy{"", PullMissing, PullAlways, PullNever}).Draw(t, "pullPolicy"),
			Args:       rapid.SliceOfN(text, 0, 3).Draw(t, "args"),
			Env:        rapid.MapOfN(rapid.StringMatching(`[A-Za-z_][A-Za-z0-9_.-]{0,8}`), text, 0, 3).Draw(t, "env"),
			User:       rapid.SampledFrom([]string{"", "0", "1000:1000", "www-data", "app:staff"}).Draw(t, "user"),
			WorkingDir: rapid.SampledFrom([]string{"", "/", "/srv/app"}).Draw(t, "workingDir"),
			Hostname:   rapid.SampledFrom([]string{"", "web", "web.example.com"}).Draw(t, "hostname"),
			TTY:        rapid.Bool().Draw(t, "tty"),
			Labels:     rapid.MapOfN(rapid.StringMatching(`[a-z0-9]([a-z0-9./_-]{0,9}[a-z0-9\]])?`), rapid.StringMatching(`[ -~]{0,20}`), 0, 3).Draw(t, "labels"),
			TTL:        drawDuration(t, "ttl", time.Second, MaxTTL),
			Deadline:   drawDuration(t, "deadline", time.Second, MaxDeadline),
			Resources: Resources{
				CPU:    drawQuantity(t, "cpu", `[1-9][0-9]{0,2}m?|0\.[1-9]|1e1`),
				Memory: drawQuantity(t, "memory", `[1-9][0-9]{1,2}(Mi|M|Gi|G)|[1-9][0-9]{7,9}|1\.5Gi`),
				Shm:    drawQuantity(t, "shm", `[1-9][0-9]?Mi`),
				PIDs:   rapid.Int64Range(0, maxPIDs).Draw(t, "pids"),
			},
			Restart: RestartPolicy{Policy: rapid.SampledFrom([]string{"", RestartAlways, RestartNo, RestartOnFailure}).Draw(t, "restart")},
			Stop:    Stop{Signal: rapid.SampledFrom([]string{"", "SIGINT", "TERM", "15", "SIGRTMIN+3"}).Draw(t, "signal")},
			Update:  Update{Order: rapid.SampledFrom([]string{"", StopFirst}).Draw(t, "order"), Parallelism: rapid.IntRange(0, 10).Draw(t, "parallelism")},
		}
		if rapid.Bool().Draw(t, "ptrs") {
			s.Replicas = new(rapid.IntRange(0, MaxReplicas).Draw(t, "replicas"))
			s.Stop.Grace = new(drawDuration(t, "grace", 0, maxWait))
			s.Update.Monitor = new(drawDuration(t, "monitor", 0, maxWait))
			s.Update.Rollback = new(rapid.Bool().Draw(t, "rollback"))
			s.Logs.Ship = new(rapid.Bool().Draw(t, "ship"))
			s.Logs.MaxSize = drawQuantity(t, "maxSize", `[1-9]Mi`)
			s.PreDeploy = &Hook{Command: []string{"migrate", text.Draw(t, "hook")}, Timeout: drawDuration(t, "timeout", time.Second, maxWait)}
			s.Registry = &RegistryCredentials{Username: "robot", Password: SecretRef{Env: "PULL"}}
			s.Resources.GPU = &GPURequest{Vendor: "nvidia", Count: 2, Type: "A100", Memory: drawQuantity(t, "gpu", `[1-9]0Gi`)}
			s.Resources.Ulimits = []Ulimit{{Name: "nofile", Soft: 1024, Hard: -1}}
			s.Health = rapid.SampledFrom([]*HealthCheck{
				{Exec: []string{"true"}}, {TCP: &TCPProbe{Port: 80}, Retries: 5},
				{HTTP: &HTTPProbe{Port: 80, Path: "/healthz", Headers: map[string]string{"Host": "a"}}, Interval: Duration(time.Second)},
			}).Draw(t, "health")
			s.Security = Security{NoNewPrivs: true, CapAdd: []string{"NET_ADMIN"}, CapDrop: []string{"ALL"},
				Devices: []string{"/dev/fuse"}, Sysctls: map[string]string{"net.core.somaxconn": "1024"}}
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "ports") {
			s.Ports = append(s.Ports, Port{ContainerPort: 8000 + i, Publish: rapid.Bool().Draw(t, "publish"),
				Protocol: rapid.SampledFrom([]string{"", "tcp", "udp"}).Draw(t, "protocol")})
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "mounts") {
			s.Volumes = append(s.Volumes, rapid.SampledFrom([]Volume{
				{Source: fmt.Sprintf("data%d", i), Target: fmt.Sprintf("/data/%d", i)},
				{Type: VolumeBind, Source: "/srv", Target: fmt.Sprintf("/srv/%d", i), ReadOnly: true},
				{Type: VolumeTmpfs, Target: fmt.Sprintf("/tmp/%d", i), Size: resource.NewQuantity(1<<20, resource.BinarySI)},
			}).Draw(t, "volume"))
			s.Networks = append(s.Networks, Network{Name: fmt.Sprintf("net%d", i), Aliases: []string{"db"}})
			s.Secrets = append(s.Secrets, SecretUse{Ref: SecretRef{File: "db/password"}, File: fmt.Sprintf("/run/secrets/%d", i)})
		}
		return s
	})
}

func optional(t *rapid.T, g *rapid.Generator[string], name string) string {
	if rapid.Bool().Draw(t, "has "+name) {
		return g.Draw(t, name)
	}
	return ""
}

func drawDuration(t *rapid.T, name string, low, high time.Duration) Duration {
	if rapid.Bool().Draw(t, "no "+name) {
		return 0
	}
	return Duration(rapid.Int64Range(int64(low), int64(high)).Draw(t, name))
}

func drawQuantity(t *rapid.T, name, pattern string) *resource.Quantity {
	if rapid.Bool().Draw(t, "no "+name) {
		return nil
	}
	q := resource.MustParse(rapid.StringMatching(pattern).Draw(t, name))
	return &q
}
