package drivers

import (
	"encoding/json"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// WorkloadSpec is what a user asks for. It is the data of a deploy command, as JSON;
// the command-line client also takes it as YAML. Unknown fields are refused.
//
// Every field has a default that WithDefaults fills in; only Name and Image have none.
type WorkloadSpec struct {
	// Name and Namespace are DNS-1123 labels and, with the backend, the workload's
	// identity. Namespace defaults to "default".
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
	// Backend is the engine to use: docker, kubernetes, podman, compose, remote, edge,
	// sim. Empty is the runtime's default.
	Backend string `json:"backend,omitempty"`

	// Image is a reference as Docker writes them: "nginx:1.27", "registry:5000/a/b@sha256:...".
	Image string `json:"image"`
	// PullPolicy is "missing" (default), "always" or "never".
	PullPolicy PullPolicy `json:"pullPolicy,omitempty"`
	// Registry authenticates the pull; without it the node's own credentials are used.
	Registry *RegistryCredentials `json:"registry,omitempty"`

	// Command replaces the image's entrypoint, Args its command. Neither goes through
	// a shell.
	Command []string `json:"command,omitempty"`
	Args    []string `json:"args,omitempty"`
	// Env is the environment; names are [A-Za-z_][A-Za-z0-9_.-]*.
	Env map[string]string `json:"env,omitempty"`
	// Secrets are handed in by reference; values are never part of a spec.
	Secrets []SecretUse `json:"secrets,omitempty"`
	// User is "uid", "uid:gid" or names of the image's.
	User       string `json:"user,omitempty"`
	WorkingDir string `json:"workingDir,omitempty"`
	// Hostname defaults to the engine's choice.
	Hostname string `json:"hostname,omitempty"`
	// TTY allocates a terminal; streams are then not told apart.
	TTY bool `json:"tty,omitempty"`
	// Init runs an init process that reaps and forwards signals.
	Init bool `json:"init,omitempty"`

	Ports    []Port            `json:"ports,omitempty"`
	Volumes  []Volume          `json:"volumes,omitempty"`
	Networks []Network         `json:"networks,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`

	// Replicas is the number of instances, 1 by default, 0 to stop all and keep volumes.
	Replicas  *int          `json:"replicas,omitempty"`
	Resources Resources     `json:"resources,omitzero"`
	Restart   RestartPolicy `json:"restart,omitzero"`
	Health    *HealthCheck  `json:"health,omitempty"`
	Stop      Stop          `json:"stop,omitzero"`
	Update    Update        `json:"update,omitzero"`
	// PreDeploy runs to its end in the new image before anything of the old revision
	// is touched.
	PreDeploy *Hook     `json:"preDeploy,omitempty"`
	Security  Security  `json:"security,omitzero"`
	Logs      LogConfig `json:"logs,omitzero"`
	TTL       Duration  `json:"ttl,omitempty"`
	Deadline  Duration  `json:"deadline,omitempty"`
}

// PullPolicy says when an image is fetched.
type PullPolicy string

// The pull policies.
const (
	PullMissing PullPolicy = "missing"
	PullAlways  PullPolicy = "always"
	PullNever   PullPolicy = "never"
)

// SecretRef names a secret where the node keeps them. Exactly one field is set.
type SecretRef struct {
	// File is a path below the node's secrets directory, inside the folder of the
	// workload's namespace: "db/password" is <secrets_dir>/<namespace>/db/password.
	File string `json:"file,omitempty"`
	// Env is the environment variable KRANIX_SECRET_<NAMESPACE>_<Env> of the runtime,
	// the namespace in upper case with '-' as "__" (see SecretEnvName). Env begins with
	// a letter.
	Env string `json:"env,omitempty"`
}

// RegistryCredentials authenticate against the registry of the spec's image.
type RegistryCredentials struct {
	Username string `json:"username,omitempty"`
	// Password is the password or token.
	Password SecretRef `json:"password"`
}

// SecretUse hands a secret to the workload as an environment variable or as a file.
type SecretUse struct {
	Ref SecretRef `json:"ref"`
	// Env is the variable's name. Exactly one of Env and File is set.
	Env string `json:"env,omitempty"`
	// File is the absolute path in the container.
	File string `json:"file,omitempty"`
	// Mode is the file's mode in octal, "0400" by default; UID and GID own it.
	Mode string `json:"mode,omitempty"`
	UID  int    `json:"uid,omitempty"`
	GID  int    `json:"gid,omitempty"`
}

// Port makes a port of the container reachable.
type Port struct {
	// Name is a label by which status refers to the port.
	Name string `json:"name,omitempty"`
	// ContainerPort is 1 to 65535.
	ContainerPort int `json:"containerPort"`
	// HostPort publishes the port on the host; 0 lets the engine choose when Publish is
	// set.
	HostPort int `json:"hostPort,omitempty"`
	// Publish asks for a host port of the engine's choice.
	Publish bool `json:"publish,omitempty"`
	// HostAddress is the host's IP address to listen on, all by default.
	HostAddress string `json:"hostAddress,omitempty"`
	// Protocol is "tcp" (default), "udp" or "sctp".
	Protocol string `json:"protocol,omitempty"`
}

// VolumeType says where a volume's data lives.
type VolumeType string

// The volume types.
const (
	// VolumeNamed is a volume the workload owns; it survives updates and goes with
	// destroy unless Retain is set.
	VolumeNamed VolumeType = "volume"
	// VolumeBind is a path of the host, allowed by the node's policy only.
	VolumeBind VolumeType = "bind"
	// VolumeTmpfs is memory.
	VolumeTmpfs VolumeType = "tmpfs"
)

// Volume mounts storage.
type Volume struct {
	// Type is "volume" (default), "bind" or "tmpfs".
	Type VolumeType `json:"type,omitempty"`
	// Source is the volume's name (a label) or the host's absolute path.
	Source string `json:"source,omitempty"`
	// Target is the absolute path in the container.
	Target   string `json:"target"`
	ReadOnly bool   `json:"readOnly,omitempty"`
	// Retain keeps a named volume when the workload is destroyed.
	Retain bool `json:"retain,omitempty"`
	// External uses an existing volume of that name, which is never created or removed.
	External bool `json:"external,omitempty"`
	// Size bounds a tmpfs.
	Size *resource.Quantity `json:"size,omitempty"`
}

// Network joins a network.
type Network struct {
	// Name is a label. The network is shared by the workloads of a namespace that name
	// it, made by the first and removed with the last.
	Name string `json:"name"`
	// Aliases are further DNS names of the instances on this network; the workload's
	// name is always one.
	Aliases []string `json:"aliases,omitempty"`
	// External uses an existing network of that name, which is never created or removed.
	External bool `json:"external,omitempty"`
}

// Resources bound what one instance may use. Quantities are written as Kubernetes
// writes them: "500m", "1.5", "256Mi", "1G".
type Resources struct {
	// CPU is a hard limit in cores.
	CPU *resource.Quantity `json:"cpu,omitempty"`
	// Memory is a hard limit in bytes, swap included.
	Memory *resource.Quantity `json:"memory,omitempty"`
	// PIDs is the largest number of processes and threads.
	PIDs int64 `json:"pids,omitempty"`
	// Shm is the size of /dev/shm in bytes.
	Shm     *resource.Quantity `json:"shm,omitempty"`
	Ulimits []Ulimit           `json:"ulimits,omitempty"`
	GPU     *GPURequest        `json:"gpu,omitempty"`
}

// Ulimit is a limit of setrlimit(2); Name is in lower case without "RLIMIT_". -1 is
// unlimited.
type Ulimit struct {
	Name string `json:"name"`
	Soft int64  `json:"soft"`
	Hard int64  `json:"hard"`
}

// GPURequest asks for whole GPUs.
type GPURequest struct {
	// Vendor is "nvidia" or "amd".
	Vendor string `json:"vendor,omitempty"`
	// Count is the number of devices, at least 1.
	Count int `json:"count"`
	// Type is a product name or a part of it ("A100"); Memory the least per device.
	Type   string             `json:"type,omitempty"`
	Memory *resource.Quantity `json:"memory,omitempty"`
}

// Restart policies.
const (
	RestartAlways        = "always"
	RestartOnFailure     = "on-failure"
	RestartNo            = "no"
	RestartUnlessStopped = "unless-stopped"
)

// RestartPolicy says what happens when an instance ends by itself.
type RestartPolicy struct {
	// Policy is "always" (default), "on-failure", "unless-stopped" or "no".
	Policy string `json:"policy,omitempty"`
	// Attempts bounds the restarts of "on-failure"; 0 is unlimited.
	Attempts int `json:"attempts,omitempty"`
}

// HealthCheck decides whether an instance is healthy. Exactly one of Exec, HTTP and
// TCP is set.
type HealthCheck struct {
	// Exec runs in the container, without a shell; exit code 0 is healthy.
	Exec []string   `json:"exec,omitempty"`
	HTTP *HTTPProbe `json:"http,omitempty"`
	TCP  *TCPProbe  `json:"tcp,omitempty"`
	// Interval defaults to 10s, Timeout to 5s, Retries (failures in a row) to 3.
	Interval Duration `json:"interval,omitempty"`
	Timeout  Duration `json:"timeout,omitempty"`
	Retries  int      `json:"retries,omitempty"`
	// StartPeriod is the time after start in which failures do not count.
	StartPeriod Duration `json:"startPeriod,omitempty"`
}

// HTTPProbe is healthy when a GET is answered with 200 to 399.
type HTTPProbe struct {
	// Port is the container's port; Path defaults to "/", Scheme to "http" ("https"
	// does not verify the certificate, as Kubernetes probes do not).
	Port   int    `json:"port"`
	Path   string `json:"path,omitempty"`
	Scheme string `json:"scheme,omitempty"`
	// Headers are sent with the request.
	Headers map[string]string `json:"headers,omitempty"`
}

// TCPProbe is healthy when a connection is accepted.
type TCPProbe struct {
	Port int `json:"port"`
}

// Stop says how an instance is asked to end.
type Stop struct {
	// Signal defaults to the image's, else SIGTERM.
	Signal string `json:"signal,omitempty"`
	// Grace is the time until SIGKILL, 10s by default.
	Grace *Duration `json:"grace,omitempty"`
}

// Update orders.
const (
	StartFirst = "start-first"
	StopFirst  = "stop-first"
)

// Update says how a new revision replaces an old one.
type Update struct {
	// Order is "start-first" or "stop-first". Empty takes start-first where two
	// revisions can coexist and stop-first otherwise (see CoexistenceFault).
	Order string `json:"order,omitempty"`
	// Parallelism is how many instances are replaced at a time, 1 by default.
	Parallelism int `json:"parallelism,omitempty"`
	// Monitor is how long a started instance must stay up before it counts, 2s by
	// default, "0s" for not at all.
	Monitor *Duration `json:"monitor,omitempty"`
	// Rollback puts back what ran before when the new revision does not come up; true
	// by default.
	Rollback *bool `json:"rollback,omitempty"`
}

// Hook is a command that must succeed.
type Hook struct {
	// Command runs in the spec's image with its environment, volumes and networks.
	Command []string `json:"command"`
	// Timeout is 5m by default.
	Timeout Duration `json:"timeout,omitempty"`
}

// Security restricts or, where the node's policy allows it, widens what an instance
// may do.
type Security struct {
	Privileged   bool `json:"privileged,omitempty"`
	HostNetwork  bool `json:"hostNetwork,omitempty"`
	HostPID      bool `json:"hostPID,omitempty"`
	ReadOnlyRoot bool `json:"readOnlyRoot,omitempty"`
	NoNewPrivs   bool `json:"noNewPrivileges,omitempty"`
	// CapAdd and CapDrop name capabilities without "CAP_"; "ALL" drops all.
	CapAdd  []string `json:"capAdd,omitempty"`
	CapDrop []string `json:"capDrop,omitempty"`
	// Seccomp and AppArmor are "" (the engine's default), "unconfined" or, for
	// AppArmor, the name of a loaded profile.
	Seccomp  string `json:"seccomp,omitempty"`
	AppArmor string `json:"appArmor,omitempty"`
	// Devices are paths of the host's devices.
	Devices []string          `json:"devices,omitempty"`
	Sysctls map[string]string `json:"sysctls,omitempty"`
}

// LogConfig says what becomes of an instance's output.
type LogConfig struct {
	// Ship publishes the lines on kranix.log; true by default.
	Ship *bool `json:"ship,omitempty"`
	// MaxSize rotates the engine's log file at this size (10Mi by default), MaxFiles
	// keeps that many (3 by default).
	MaxSize  *resource.Quantity `json:"maxSize,omitempty"`
	MaxFiles int                `json:"maxFiles,omitempty"`
}

// Duration is a time.Duration written as Go writes it: "1m30s".
type Duration time.Duration

// D returns d as a time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String implements fmt.Stringer.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalJSON writes the duration as a string.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads a string such as "90s"; a bare number is refused because its
// unit would be a guess.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("want a duration as a string with a unit, such as \"30s\", got %s", b)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("want a duration such as \"30s\" or \"1m30s\", got %q", s)
	}
	*d = Duration(v)
	return nil
}

// DurationPtr returns a pointer to d, for the fields where zero and absent differ.
func DurationPtr(d time.Duration) *Duration { v := Duration(d); return &v }

// ID is the workload ID, "<namespace>/<name>".
func (s *WorkloadSpec) ID() string { return WorkloadID(s.Namespace, s.Name) }

// ReplicaCount is Replicas or its default.
func (s *WorkloadSpec) ReplicaCount() int {
	if s.Replicas == nil {
		return 1
	}
	return *s.Replicas
}

// Monitor is Update.Monitor or its default.
func (s *WorkloadSpec) Monitor() time.Duration {
	if s.Update.Monitor == nil {
		return DefaultMonitor
	}
	return s.Update.Monitor.D()
}

// Grace is Stop.Grace or its default.
func (s *WorkloadSpec) Grace() time.Duration {
	if s.Stop.Grace == nil {
		return DefaultGrace
	}
	return s.Stop.Grace.D()
}

// RollsBack is Update.Rollback or its default.
func (s *WorkloadSpec) RollsBack() bool { return s.Update.Rollback == nil || *s.Update.Rollback }

// ShipsLogs is Logs.Ship or its default.
func (s *WorkloadSpec) ShipsLogs() bool { return s.Logs.Ship == nil || *s.Logs.Ship }
