package drivers

import (
	"context"
	"time"
)

// RuntimeDriver drives one engine. kranix-core compiles against it, so its method set
// is fixed; what only some engines can do is an optional interface found by type
// assertion (Watcher, LogReader, StatsReader, ImageManager, SpecChecker, Identifier).
//
// All methods return errors that match one of the classes in errors.go with errors.Is;
// an error that matches none is an engine failure worth a bounded number of retries.
type RuntimeDriver interface {
	// Deploy makes the workload be what spec says and returns once the rollout is
	// decided: every instance started, healthy where a health check is given, and
	// undisturbed for the monitor window. spec must have passed WithDefaults and
	// Validate. Deploying what already runs changes nothing.
	//
	// While it works it reports its steps to Command.Progress; PhaseRunning, with the
	// status, as soon as all instances have been started and before they are known to
	// be healthy. A deadline of ctx that passes is a rollout that failed, with reason
	// "DeadlineExceeded": it is rolled back like any other.
	//
	// When the new revision does not come up, what ran before is put back (unless
	// spec.Update.Rollback is false) and the error is a *RolloutError (ErrFailed).
	//
	// Cancelled with a cause that matches ErrStale, Deploy removes what this attempt
	// made before it returns; cancelled otherwise (shutdown), it leaves everything in
	// place for the next attempt to adopt.
	//
	// Errors: ErrInvalidSpec, ErrUnsupported, ErrDenied (registry, policy), ErrNotFound
	// (image or a referenced secret, network, volume), ErrConflict (port taken, a
	// foreign object holds the name), ErrStale, ErrFailed, ErrUnavailable.
	Deploy(ctx context.Context, spec *WorkloadSpec) (*WorkloadStatus, error)

	// Destroy stops the workload and removes everything it owns, and nothing else. It
	// returns nil when nothing is left, which includes a workload that never was.
	// Errors: ErrStale, ErrUnavailable.
	Destroy(ctx context.Context, workloadID string) error

	// Restart stops and starts the workload's instances, keeping their revision. With
	// Command.Baseline set, only instances that still are what the baseline recorded
	// are restarted, so that a repeated call restarts none twice.
	// Errors: ErrNotFound, ErrStale, ErrUnavailable, ErrFailed (an instance did not
	// come up again).
	Restart(ctx context.Context, workloadID string) error

	// GetStatus reads the workload's state from the engine. Errors: ErrNotFound,
	// ErrUnavailable.
	GetStatus(ctx context.Context, workloadID string) (*WorkloadStatus, error)

	// ListWorkloads reads the state of all workloads of a namespace, of all namespaces
	// when it is empty, ordered by ID. Errors: ErrUnavailable.
	ListWorkloads(ctx context.Context, namespace string) ([]*WorkloadStatus, error)

	// StreamLogs returns log lines without their line ends. podID is a workload ID or
	// "<workload ID>/<ordinal>". The channel is closed at the end of the logs, or when
	// ctx ends if opts.Follow is set; a caller cancels ctx to stop reading. nil opts
	// means everything so far. Errors: ErrNotFound, ErrInvalidSpec (options),
	// ErrUnavailable.
	StreamLogs(ctx context.Context, podID string, opts *LogOptions) (<-chan string, error)

	// Ping says whether the engine answers now. Errors: ErrUnavailable, ErrDenied.
	Ping(ctx context.Context) error

	// Backend is the name the driver is registered under, for example "docker".
	Backend() string
}

// Watcher is implemented by drivers whose engine reports changes as they happen.
type Watcher interface {
	// Watch delivers a change for every workload this driver owns whose state may have
	// changed, until ctx ends; then the channel is closed. Lost engine events are
	// announced by a Change with Resync set, after which the watcher is complete again.
	// The first value is always such a resync.
	Watch(ctx context.Context) (<-chan Change, error)
}

// ChangeKind says what happened to an instance.
type ChangeKind string

// The kinds of change. A watcher reports the closest one; the state itself is always
// read with GetStatus.
const (
	ChangeStarted   ChangeKind = "started"
	ChangeExited    ChangeKind = "exited"
	ChangeOOMKilled ChangeKind = "oom-killed"
	ChangeHealth    ChangeKind = "health"
	ChangeRemoved   ChangeKind = "removed"
	ChangeOther     ChangeKind = "other"
)

// Change is a hint that a workload should be looked at.
type Change struct {
	// WorkloadID is empty when Resync is set.
	WorkloadID string
	Kind       ChangeKind
	Instance   int
	// InstanceID is the engine's identifier of the instance, when known.
	InstanceID string
	// ExitCode is meaningful for ChangeExited and ChangeOOMKilled.
	ExitCode int
	// At is the engine's time of the event.
	At time.Time
	// Resync asks the receiver to compare everything: events may have been missed.
	Resync bool
}

// LogLine is one complete line of an instance's output.
type LogLine struct {
	// Time is the engine's timestamp of the line, in UTC with nanoseconds.
	Time time.Time
	// Stream is "stdout" or "stderr" ("stdout" for a TTY).
	Stream string
	// Instance is the ordinal, InstanceID the engine's identifier of the copy that
	// printed the line.
	Instance   int
	InstanceID string
	// Line is the text without its line end; lines the engine split are rejoined, up
	// to MaxLogLine bytes.
	Line []byte
	// Truncated says that the line was longer than MaxLogLine; the rest follows as
	// further lines, all but the last of them truncated.
	Truncated bool
	// Gap says that lines of this instance before this one may be lost: the engine has
	// rotated its log on beyond what was read last.
	Gap bool
}

// MaxLogLine is the longest line, in bytes, that a LogReader rejoins.
const MaxLogLine = 1 << 20

// LogReader is implemented by drivers that can tell streams and times apart.
type LogReader interface {
	// ReadLogs calls fn for every line, in time order per instance, until the logs or
	// ctx end (nil and ctx's error respectively), or fn returns an error, which is
	// returned as it is. With opts.Follow it continues across restarts of an instance
	// and log rotation, until the instance is removed. workloadID may end in
	// "/<ordinal>". fn is never called concurrently.
	ReadLogs(ctx context.Context, workloadID string, opts *LogOptions, fn func(LogLine) error) error
}

// LogOptions selects log lines. The zero value is everything so far.
type LogOptions struct {
	// Follow waits for lines to come.
	Follow bool
	// Tail, when above 0, starts that many lines before the end of each instance's logs.
	Tail int
	// Since and Until bound the lines by their timestamps (inclusive, exclusive), to the
	// nanosecond, when not zero.
	Since, Until time.Time
	// Stream is "stdout", "stderr" or empty for both.
	Stream string
	// Timestamps puts an RFC 3339 time and a space before each line of StreamLogs.
	Timestamps bool
}

// InstanceStats is one reading of an instance's resource use. Counters are cumulative
// since the instance started.
type InstanceStats struct {
	Instance   int       `json:"instance"`
	InstanceID string    `json:"instanceId"`
	At         time.Time `json:"at"`
	// CPUNanoseconds is the CPU time used, user and system, in nanoseconds.
	CPUNanoseconds uint64 `json:"cpuNanoseconds"`
	// MemoryBytes is the working set: usage less inactive file cache (as the kubelet
	// computes it). MemoryLimitBytes is 0 when there is no limit.
	MemoryBytes      uint64 `json:"memoryBytes"`
	MemoryLimitBytes uint64 `json:"memoryLimitBytes,omitempty"`
	PIDs             uint64 `json:"pids,omitempty"`
}

// StatsReader is implemented by drivers that can read resource use.
type StatsReader interface {
	// ReadStats reads all running instances of a workload; instances that do not run
	// are left out. Errors: ErrNotFound, ErrUnavailable.
	ReadStats(ctx context.Context, workloadID string) ([]InstanceStats, error)
}

// Image is an image an engine holds.
type Image struct {
	ID string `json:"id"`
	// References are the names it is known by, canonical ("docker.io/library/nginx:1.27").
	References []string  `json:"references,omitempty"`
	Bytes      int64     `json:"bytes"`
	Created    time.Time `json:"created"`
}

// ImageManager is implemented by drivers whose engine holds images of its own.
type ImageManager interface {
	// PullImage fetches an image, whatever is there already, reporting progress to the
	// command in ctx. Errors: ErrNotFound, ErrDenied, ErrUnavailable.
	PullImage(ctx context.Context, ref string, credentials *RegistryCredentials) (*Image, error)
	// ListImages lists all images.
	ListImages(ctx context.Context) ([]Image, error)
	// RemoveImage removes an image no container uses; ErrConflict when one does,
	// ErrNotFound when there is none.
	RemoveImage(ctx context.Context, ref string) error
}

// SpecChecker is implemented by drivers that can tell before any work whether they
// honour a spec.
type SpecChecker interface {
	// CheckSpec returns FieldErrors (ErrUnsupported or ErrInvalidSpec) with the path of
	// every field the backend cannot honour, or nil. It does not touch the engine.
	CheckSpec(spec *WorkloadSpec) error
}

// EngineInfo describes an engine. ID is unique to the engine's data, not to its
// address: two sockets of one engine have one ID.
type EngineInfo struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Version    string `json:"version"`
	APIVersion string `json:"apiVersion,omitempty"`
	OS         string `json:"os,omitempty"`
	Arch       string `json:"arch,omitempty"`
	CPUs       int    `json:"cpus,omitempty"`
	// MemoryBytes is the host's memory.
	MemoryBytes int64 `json:"memoryBytes,omitempty"`
}

// Identifier is implemented by drivers that can name their engine. A driver whose
// engine's state belongs to one host implements it: the engine is then served by one
// node only.
type Identifier interface {
	EngineInfo(ctx context.Context) (*EngineInfo, error)
}

// Closer is implemented by drivers that hold connections or goroutines. Close ends
// both; workloads are not touched.
type Closer interface {
	Close() error
}
