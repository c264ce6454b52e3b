package config

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kranix-io/kranix-runtime/subjects"
)

// Host is what the defaults depend on: who runs the process, and where.
type Host struct {
	// UID is the effective user; 0 gets the system's directories.
	UID int
	// Name is the host name.
	Name string
	// Environ is the environment as "KEY=value" pairs.
	Environ []string
}

// ThisHost reads the host of this process.
func ThisHost() Host {
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	return Host{UID: os.Geteuid(), Name: name, Environ: os.Environ()}
}

// Getenv returns the value of a variable. A variable that is empty counts as unset, as
// in service files that set NAME= to clear it.
func (h Host) Getenv(name string) string {
	for _, kv := range h.Environ {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			return v
		}
	}
	return ""
}

// Default is the configuration without a file or variables. What depends on other keys
// (node.name, nats.store_dir) stays empty here and is filled in by Load.
func Default(h Host) *Config {
	d := directories(h)
	return &Config{
		Runtime: Runtime{
			DefaultBackend: "kubernetes",
			DataDir:        d.data,
			LogLevel:       "info",
			LogFormat:      "text",
			Concurrency:    map[string]int{"default": 16},
			Deadline:       time.Hour,
			MaxAttempts:    5,
			AckWait:        10 * time.Second,
			Lease:          10 * time.Second,
			DrainTimeout:   30 * time.Second,
		},
		Node: Node{SecretsDir: d.secrets, LockDir: d.lock},
		NATS: NATS{
			Mode:     NATSEmbedded,
			Listen:   "127.0.0.1:4222",
			Replicas: 1,
			Sync:     SyncAlways,
		},
		Docker:     Docker{Host: "unix:///var/run/docker.sock", APIVersion: "1.45"},
		Kubernetes: Kubernetes{DefaultNamespace: "default"},
		Podman:     Podman{Socket: "unix:///run/user/1000/podman/podman.sock"},
		Compose:    Compose{Command: "docker compose"},
		Remote:     Remote{SSHKeyPath: "~/.ssh/id_rsa", KnownHostsPath: "~/.ssh/known_hosts"},
		GPU: GPU{
			DefaultVendor:    "nvidia",
			NvidiaDevicePath: "/dev/nvidia0",
			AMDDevicePath:    "/dev/kfd",
		},
		Ephemeral: Ephemeral{
			DefaultTTL:      2 * time.Hour,
			MaxEnvironments: 10,
			NamespacePrefix: "ephem-",
			AutoTeardown:    true,
			TeardownOnMerge: true,
			TeardownOnClose: true,
			CleanupInterval: 5 * time.Minute,
		},
		EdgeAgent:  EdgeAgent{Port: 50052, HeartbeatInterval: 30 * time.Second},
		ImageCache: ImageCache{CacheSizeGB: 100, MaxCachedImages: 50, TTL: 168 * time.Hour},
		Metrics: Metrics{
			Enabled:            true,
			CollectionInterval: 30 * time.Second,
			RetentionPeriod:    24 * time.Hour,
			ExposeEndpoint:     true,
			MetricsAddress:     "127.0.0.1",
			MetricsPort:        9090,
		},
		Logs: Logs{
			Ship:            true,
			LinesPerSecond:  5000,
			BytesPerSecond:  4 << 20,
			RetentionPeriod: subjects.DefaultLogAge,
			MaxBytes:        subjects.DefaultLogBytes,
		},
		Tracing: Tracing{SampleRatio: 1},
	}
}

type dirs struct{ data, secrets, lock string }

// directories follows the file system hierarchy for root and the XDG base directories
// for everyone else; without a home directory they are empty, which Validate reports.
func directories(h Host) dirs {
	const name = "kranix-runtime"
	if h.UID == 0 {
		return dirs{data: "/var/lib/" + name, secrets: "/etc/kranix/secrets", lock: "/run/" + name}
	}
	base := func(variable, belowHome string) string {
		if dir := h.Getenv(variable); dir != "" {
			return dir
		}
		if home := h.Getenv("HOME"); home != "" {
			return filepath.Join(home, belowHome)
		}
		return ""
	}
	var d dirs
	if state := base("XDG_STATE_HOME", ".local/state"); state != "" {
		d.data = filepath.Join(state, name)
		d.lock = filepath.Join(d.data, "locks")
	}
	if conf := base("XDG_CONFIG_HOME", ".config"); conf != "" {
		d.secrets = filepath.Join(conf, "kranix", "secrets")
	}
	if run := h.Getenv("XDG_RUNTIME_DIR"); run != "" {
		d.lock = filepath.Join(run, name)
	}
	return d
}
