package drivers

import (
	"fmt"
	"strings"
	"time"
)

// Phase is a word for where a workload or an instance is. It is a subject token.
type Phase string

// The phases a workload or an instance can be in.
const (
	// PhasePending: accepted, nothing of it exists yet.
	PhasePending Phase = "pending"
	// PhaseStarting: instances exist and not all of them run yet.
	PhaseStarting Phase = "starting"
	// PhaseRunning: all instances run; there is no health check, or it has not decided.
	PhaseRunning Phase = "running"
	// PhaseHealthy: all instances run and their health checks pass.
	PhaseHealthy Phase = "healthy"
	// PhaseUnhealthy: an instance runs and its health check fails.
	PhaseUnhealthy Phase = "unhealthy"
	// PhaseDegraded: some instances run, others do not.
	PhaseDegraded Phase = "degraded"
	// PhaseRestarting: an instance exited and its restart policy brings it back.
	PhaseRestarting Phase = "restarting"
	// PhaseCompleted: all instances ended with exit code 0 and stay ended.
	PhaseCompleted Phase = "completed"
	// PhaseFailed: ended with an error and not restarted.
	PhaseFailed Phase = "failed"
	// PhaseStopped: stopped on request.
	PhaseStopped Phase = "stopped"
	// PhaseDestroyed: nothing of it is left.
	PhaseDestroyed Phase = "destroyed"
)

// The phases a command reports while it works, besides the above.
const (
	PhaseAccepted    Phase = "accepted"
	PhasePulling     Phase = "pulling"
	PhasePulled      Phase = "pulled"
	PhaseHook        Phase = "hook"
	PhaseCreating    Phase = "creating"
	PhaseUpdating    Phase = "updating"
	PhaseStopping    Phase = "stopping"
	PhaseRollingBack Phase = "rolling-back"
	PhaseRolledBack  Phase = "rolled-back"
	PhaseRetrying    Phase = "retrying"
)

// The phases that report what happened to one instance.
const (
	PhaseCrashed   Phase = "crashed"
	PhaseOOMKilled Phase = "oom-killed"
)

// WorkloadStatus is the observed state of a workload.
type WorkloadStatus struct {
	// ID is "<namespace>/<name>".
	ID        string `json:"id"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Backend   string `json:"backend"`
	Node      string `json:"node,omitempty"`

	Phase Phase `json:"phase"`
	// Reason is a word for machines, Message a sentence for people.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`

	// Revision is the template that runs, Sequence and CommandID the command that made
	// it so.
	Revision  string `json:"revision,omitempty"`
	Sequence  uint64 `json:"sequence,omitempty"`
	CommandID string `json:"commandId,omitempty"`

	Image   string `json:"image,omitempty"`
	ImageID string `json:"imageId,omitempty"`

	// Desired is the number of instances asked for, Ready of those that run and, where
	// there is a health check, are healthy.
	Desired int `json:"desired"`
	Ready   int `json:"ready"`

	// Instances is ordered by ordinal, then by age.
	Instances []InstanceStatus `json:"instances,omitempty"`

	// ObservedAt is when the driver read the state.
	ObservedAt time.Time `json:"observedAt"`
}

// InstanceStatus is the observed state of one instance.
type InstanceStatus struct {
	Instance int `json:"instance"`
	// ID is the engine's identifier.
	ID       string `json:"id"`
	Name     string `json:"name,omitempty"`
	Phase    Phase  `json:"phase"`
	Reason   string `json:"reason,omitempty"`
	Message  string `json:"message,omitempty"`
	Revision string `json:"revision,omitempty"`
	// ExitCode is set when the instance has ended.
	ExitCode  *int `json:"exitCode,omitempty"`
	OOMKilled bool `json:"oomKilled,omitempty"`
	// Restarts counts the engine's restarts of this instance.
	Restarts int `json:"restarts,omitempty"`
	// HealthOutput is what the last health check printed, at most 4 KiB.
	HealthOutput string `json:"healthOutput,omitempty"`
	// StartedAt and FinishedAt are the engine's times, RFC 3339 with nanoseconds.
	StartedAt  string          `json:"startedAt,omitempty"`
	FinishedAt string          `json:"finishedAt,omitempty"`
	Address    string          `json:"address,omitempty"`
	Ports      []PublishedPort `json:"ports,omitempty"`
}

// PublishedPort is a port of an instance that can be reached on its host.
type PublishedPort struct {
	Name          string `json:"name,omitempty"`
	ContainerPort int    `json:"containerPort"`
	HostAddress   string `json:"hostAddress,omitempty"`
	HostPort      int    `json:"hostPort"`
	Protocol      string `json:"protocol"`
}

// Marks returns the identities of the instances' present lives, for Command.Baseline.
// It is never nil.
func (s *WorkloadStatus) Marks() []InstanceMark {
	marks := make([]InstanceMark, 0, len(s.Instances))
	for _, i := range s.Instances {
		marks = append(marks, InstanceMark{InstanceID: i.ID, StartedAt: i.StartedAt})
	}
	return marks
}

// WorkloadID joins a namespace and a name.
func WorkloadID(namespace, name string) string { return namespace + "/" + name }

// ParseWorkloadID splits a workload ID and checks both parts. Errors: ErrInvalidSpec.
func ParseWorkloadID(id string) (namespace, name string, err error) {
	namespace, name, ok := strings.Cut(id, "/")
	if !ok || !IsLabel(namespace) || !IsLabel(name) {
		return "", "", &Error{Class: ErrInvalidSpec, Op: fmt.Sprintf("parse workload ID %q", id),
			Err: fmt.Errorf("want <namespace>/<name>, both DNS-1123 labels")}
	}
	return namespace, name, nil
}

// ParseInstanceID splits "<namespace>/<name>[/<ordinal>]"; ordinal is -1 when absent.
// Errors: ErrInvalidSpec.
func ParseInstanceID(id string) (workloadID string, ordinal int, err error) {
	ordinal = -1
	workloadID = id
	if parts := strings.Split(id, "/"); len(parts) == 3 {
		workloadID = parts[0] + "/" + parts[1]
		n, ok := parseOrdinal(parts[2])
		if !ok {
			return "", 0, &Error{Class: ErrInvalidSpec, Op: fmt.Sprintf("parse instance ID %q", id),
				Err: fmt.Errorf("want <namespace>/<name>/<ordinal>")}
		}
		ordinal = n
	}
	if _, _, err := ParseWorkloadID(workloadID); err != nil {
		return "", 0, err
	}
	return workloadID, ordinal, nil
}

func parseOrdinal(s string) (int, bool) {
	if s == "" || len(s) > 5 || (len(s) > 1 && s[0] == '0') {
		return 0, false
	}
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// IsLabel says whether s is a DNS-1123 label: 1 to 63 of a-z, 0-9 and '-', no '-' at
// either end (RFC 1123 section 2.1, as Kubernetes applies it).
func IsLabel(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
