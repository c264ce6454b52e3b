// Package config is the runtime's configuration: one YAML file, environment variables
// over it, flags over both.
//
// Every key is a field of Config below; its tags name the key, its path and type decide
// the environment variable (KRANIX_<SECTION>_<KEY>). Load reads, Validate checks, both
// report every fault at once with the key and the line or variable it came from. Write
// prints the effective values with secrets masked.
//
// The package opens no connection and changes nothing; it does not know what the
// sections are used for.
package config

import (
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Config is the whole configuration. Field order is the order of the file.
type Config struct {
	Runtime    Runtime    `key:"runtime"`
	Node       Node       `key:"node"`
	NATS       NATS       `key:"nats"`
	Policy     Policy     `key:"policy"`
	Docker     Docker     `key:"docker"`
	Kubernetes Kubernetes `key:"kubernetes"`
	Podman     Podman     `key:"podman"`
	Compose    Compose    `key:"compose"`
	Remote     Remote     `key:"remote"`
	Sim        Sim        `key:"sim"`
	GPU        GPU        `key:"gpu"`
	Ephemeral  Ephemeral  `key:"ephemeral"`
	EdgeAgent  EdgeAgent  `key:"edge_agent"`
	ImageCache ImageCache `key:"image_cache"`
	Metrics    Metrics    `key:"metrics"`
	Logs       Logs       `key:"logs"`
	Tracing    Tracing    `key:"tracing"`
}

// Runtime is how this process works.
type Runtime struct {
	// DefaultBackend is used when a spec names none.
	DefaultBackend string `key:"default_backend"`
	// Backends are the engines to serve. Empty is every built-in engine that answers at
	// start, never sim.
	Backends []string `key:"backends"`
	// DataDir holds the embedded server's store and this node's own state.
	DataDir string `key:"data_dir"`
	// LogLevel is debug, info, warn or error; LogFormat text or json.
	LogLevel  string `key:"log_level"`
	LogFormat string `key:"log_format"`
	// Concurrency is how many commands a backend works on at a time; "default" is for
	// backends not named.
	Concurrency map[string]int `key:"concurrency"`
	// Deadline is how long a command may take when it names no deadline of its own.
	Deadline time.Duration `key:"deadline"`
	// MaxAttempts bounds the attempts after engine failures.
	MaxAttempts int `key:"max_attempts"`
	// AckWait is how long a dead worker's command waits before another gets it, Lease
	// how long its claim on the workload lasts.
	AckWait time.Duration `key:"ack_wait"`
	Lease   time.Duration `key:"lease"`
	// DrainTimeout bounds the wait for running commands at shutdown.
	DrainTimeout time.Duration `key:"drain_timeout"`
}

// Node is this machine.
type Node struct {
	// Name is a DNS-1123 label; the host name made into one when empty.
	Name string `key:"name"`
	// SecretsDir is where secrets by file are looked up, LockDir where one file per
	// engine makes sure that one node serves it.
	SecretsDir string            `key:"secrets_dir"`
	LockDir    string            `key:"lock_dir"`
	Labels     map[string]string `key:"labels"`
}

// The modes of NATS.
const (
	NATSEmbedded = "embedded"
	NATSExternal = "external"
)

// SyncAlways is the value of nats.sync that makes every acknowledgement durable.
const SyncAlways = "always"

// NATS is the bus: a server inside this process, or one elsewhere.
type NATS struct {
	// Mode is embedded or external.
	Mode string `key:"mode"`
	// Listen is the embedded server's address. Beyond loopback it needs authentication.
	Listen string `key:"listen"`
	// URLs are the servers of mode external.
	URLs []string `key:"urls"`
	// Credentials is a .creds file (mode external).
	Credentials string `key:"credentials"`
	// User with Password or PasswordFile, or NKeySeedFile: what this process presents,
	// and, embedded, what the server asks of everyone.
	User         string `key:"user"`
	Password     Secret `key:"password"`
	PasswordFile string `key:"password_file"`
	NKeySeedFile string `key:"nkey_seed_file"`
	// TLSCA verifies the other side; TLSCert and TLSKey are this process's own.
	TLSCA   string `key:"tls_ca"`
	TLSCert string `key:"tls_cert"`
	TLSKey  string `key:"tls_key"`
	// Domain is the JetStream domain, APIPrefix a prefix for accounts that import
	// JetStream; at most one is set. Embedded, Domain names the server's own.
	Domain    string `key:"domain"`
	APIPrefix string `key:"api_prefix"`
	// Replicas of streams and buckets, 1 to 5; the embedded server has 1.
	Replicas int `key:"replicas"`
	// StoreDir is the embedded server's store, <data_dir>/jetstream when empty.
	StoreDir string `key:"store_dir"`
	// Sync is "always", or the interval after which what was acknowledged is on disk: a
	// power cut loses up to that much.
	Sync string `key:"sync"`
}

// Policy is what this node allows a spec to ask for; each key is the field of
// drivers.Policy of that name.
type Policy struct {
	AllowPrivileged     bool               `key:"allow_privileged"`
	AllowHostNetwork    bool               `key:"allow_host_network"`
	AllowHostPID        bool               `key:"allow_host_pid"`
	AllowUnconfined     bool               `key:"allow_unconfined"`
	AllowExternal       bool               `key:"allow_external"`
	AllowedHostPaths    []string           `key:"allowed_host_paths"`
	AllowedDevices      []string           `key:"allowed_devices"`
	AllowedCapabilities []string           `key:"allowed_capabilities"`
	AllowedSysctls      []string           `key:"allowed_sysctls"`
	AllowedRegistries   []string           `key:"allowed_registries"`
	MaxCPU              *resource.Quantity `key:"max_cpu"`
	MaxMemory           *resource.Quantity `key:"max_memory"`
	MaxPIDs             int                `key:"max_pids"`
	MaxReplicas         int                `key:"max_replicas"`
}

// Docker is the Docker engine.
type Docker struct {
	Host string `key:"host"`
	// APIVersion is the highest to use; it is negotiated down to what the engine speaks.
	APIVersion string `key:"api_version"`
}

// Sim is the simulated engine, for trying things out and for tests.
type Sim struct {
	// StateFile keeps its state across restarts; empty keeps it in memory.
	StateFile string `key:"state_file"`
	// Latency is how long a call takes: ping, pull, hook, create, start, stop, remove,
	// inspect, list, logs, stats.
	Latency map[string]time.Duration `key:"latency"`
	// LogRate is the lines per second each instance prints.
	LogRate float64 `key:"log_rate"`
}

// Kubernetes is a cluster.
type Kubernetes struct {
	Kubeconfig       string `key:"kubeconfig"`
	Context          string `key:"context"`
	DefaultNamespace string `key:"default_namespace"`
}

// Podman is the Podman engine. An empty Socket is found, rootless first.
type Podman struct {
	Socket string `key:"socket"`
}

// Compose is Docker Compose.
type Compose struct {
	// Command runs it: "docker compose" or "docker-compose".
	Command string `key:"command"`
}

// Remote is engines reached over SSH.
type Remote struct {
	SSHKeyPath     string `key:"ssh_key_path"`
	KnownHostsPath string `key:"known_hosts_path"`
}

// GPU is the device inventory.
type GPU struct {
	Enabled          bool   `key:"enabled"`
	DefaultVendor    string `key:"default_vendor"`
	NvidiaDevicePath string `key:"nvidia_device_path"`
	AMDDevicePath    string `key:"amd_device_path"`
}

// Ephemeral is environments per pull request.
type Ephemeral struct {
	Enabled         bool          `key:"enabled"`
	DefaultTTL      time.Duration `key:"default_ttl"`
	MaxEnvironments int           `key:"max_environments"`
	NamespacePrefix string        `key:"namespace_prefix"`
	// AutoTeardown tears down what has expired.
	AutoTeardown    bool          `key:"auto_teardown"`
	TeardownOnMerge bool          `key:"teardown_on_merge"`
	TeardownOnClose bool          `key:"teardown_on_close"`
	CleanupInterval time.Duration `key:"cleanup_interval"`
}

// EdgeAgent is this process as an edge node.
type EdgeAgent struct {
	Enabled bool `key:"enabled"`
	// NodeID is generated and kept when empty; NodeName is the host name, IPAddress
	// detected.
	NodeID    string `key:"node_id"`
	NodeName  string `key:"node_name"`
	IPAddress string `key:"ip_address"`
	// Port is the control plane's leaf-node port.
	Port              int           `key:"port"`
	HeartbeatInterval time.Duration `key:"heartbeat_interval"`
	// AuthToken is a one-time join token.
	AuthToken Secret `key:"auth_token"`
}

// ImageCache is images kept near.
type ImageCache struct {
	Enabled         bool          `key:"enabled"`
	CacheSizeGB     int           `key:"cache_size_gb"`
	MaxCachedImages int           `key:"max_cached_images"`
	TTL             time.Duration `key:"ttl"`
	PrepullImages   []string      `key:"prepull_images"`
	RegistryMirrors []string      `key:"registry_mirrors"`
}

// Metrics is per-workload metrics and the Prometheus endpoint.
type Metrics struct {
	Enabled bool `key:"enabled"`
	// CollectionInterval is the time between readings of a workload.
	CollectionInterval time.Duration `key:"collection_interval"`
	// RetentionPeriod is how long KRANIX_METRICS keeps them.
	RetentionPeriod time.Duration `key:"retention_period"`
	// ExposeEndpoint serves /metrics on MetricsAddress:MetricsPort. Port 0 is any.
	ExposeEndpoint bool   `key:"expose_endpoint"`
	MetricsAddress string `key:"metrics_address"`
	MetricsPort    int    `key:"metrics_port"`
}

// Logs is the shipping of workloads' output.
type Logs struct {
	// Ship publishes lines on kranix.log; a spec may opt out, not in.
	Ship bool `key:"ship"`
	// LinesPerSecond and BytesPerSecond bound one instance; what is over is declared as a
	// gap. 0 is unlimited.
	LinesPerSecond int   `key:"lines_per_second"`
	BytesPerSecond Bytes `key:"bytes_per_second"`
	// RetentionPeriod and MaxBytes bound KRANIX_LOGS.
	RetentionPeriod time.Duration `key:"retention_period"`
	MaxBytes        Bytes         `key:"max_bytes"`
}

// Tracing is the export of traces. Trace context is passed on in any case.
type Tracing struct {
	Enabled     bool    `key:"enabled"`
	Endpoint    string  `key:"endpoint"`
	SampleRatio float64 `key:"sample_ratio"`
}

// Secret is a value that is never printed: its text forms are a mask.
type Secret string

// mask stands for a secret that is set.
const mask = "********"

// String returns a mask, or nothing when the secret is empty.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// GoString keeps %#v from printing the value.
func (s Secret) GoString() string { return s.String() }

// Reveal returns the value.
func (s Secret) Reveal() string { return string(s) }
