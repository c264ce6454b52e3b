package drivers

import (
	"errors"
	"fmt"
	"strings"
)

// The error classes. A class exists only where a caller acts differently; an error
// that is none of them is an engine failure, retried a bounded number of times.
var (
	// ErrNotFound: the workload, or something the spec refers to, does not exist.
	// Final for a command; a status query shows "not found".
	ErrNotFound = errors.New("not found")
	// ErrAlreadyExists: something of that name exists and is what was asked for.
	ErrAlreadyExists = errors.New("already exists")
	// ErrInvalidSpec: the request is malformed; the command is rejected.
	ErrInvalidSpec = errors.New("invalid spec")
	// ErrUnsupported: the backend cannot honour the request; the command is rejected.
	ErrUnsupported = errors.New("unsupported")
	// ErrUnavailable: the engine, a registry or the network did not answer; retried
	// until the command's deadline, without counting as an attempt while the engine
	// itself does not answer.
	ErrUnavailable = errors.New("unavailable")
	// ErrDenied: policy, a registry or the engine refuses. Final: rejected where the
	// error names a field, failed otherwise.
	ErrDenied = errors.New("denied")
	// ErrConflict: a resource is taken by something we do not own (a port, a name);
	// retried a bounded number of times, then failed.
	ErrConflict = errors.New("conflict")
	// ErrStale: a newer command or another worker took over; the command is superseded.
	ErrStale = errors.New("stale")
	// ErrFailed: the engine did as it was told and the workload did not come up. Final:
	// doing the same again would fail the same way.
	ErrFailed = errors.New("workload failed")
)

// Error is an error of one class. Err, when set, is the cause.
type Error struct {
	// Class is one of the Err values above.
	Class error
	// Op is a verb phrase: "start container", "pull image nginx:latest".
	Op string
	// Hint tells the user what to do; may be empty.
	Hint string
	Err  error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	} else {
		fmt.Fprintf(&b, ": %v", e.Class)
	}
	if e.Hint != "" {
		fmt.Fprintf(&b, " (%s)", e.Hint)
	}
	return b.String()
}

// Unwrap makes errors.Is see both the class and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Class}
	}
	return []error{e.Class, e.Err}
}

// FieldError is a fault of one field.
type FieldError struct {
	// Path is the field's path as the user wrote it: "ports[0].hostPort".
	Path string `json:"path"`
	// Message says what is wrong and what would be right.
	Message string `json:"message"`
}

// FieldErrors is all faults of one request.
type FieldErrors struct {
	// Class is ErrInvalidSpec, ErrUnsupported or ErrDenied.
	Class  error
	Fields []FieldError
}

func (e *FieldErrors) Error() string {
	parts := make([]string, 0, len(e.Fields))
	for _, f := range e.Fields {
		if f.Path == "" {
			parts = append(parts, f.Message)
			continue
		}
		parts = append(parts, f.Path+": "+f.Message)
	}
	return e.Class.Error() + ": " + strings.Join(parts, "; ")
}

// Unwrap returns the class.
func (e *FieldErrors) Unwrap() error { return e.Class }

// Add records a fault.
func (e *FieldErrors) Add(path, format string, args ...any) {
	e.Fields = append(e.Fields, FieldError{Path: path, Message: fmt.Sprintf(format, args...)})
}

// ErrOrNil returns e when it holds a fault.
func (e *FieldErrors) ErrOrNil() error {
	if len(e.Fields) == 0 {
		return nil
	}
	return e
}

// RolloutError says why a workload did not come up, with the evidence a person needs
// to see why. It matches ErrFailed.
type RolloutError struct {
	// Reason is a word for machines: "Crashed", "OOMKilled", "Unhealthy",
	// "HookFailed", "DeadlineExceeded".
	Reason string `json:"reason"`
	// Message is a sentence for people.
	Message string `json:"message"`
	// Instance is the ordinal of the instance that failed, -1 for none.
	Instance int `json:"instance"`
	ExitCode int `json:"exitCode,omitempty"`
	// HealthOutput is what the last health check printed, LastLogs the last lines of
	// the instance; both truncated by the driver (4 KiB, 20 lines).
	HealthOutput string   `json:"healthOutput,omitempty"`
	LastLogs     []string `json:"lastLogs,omitempty"`
	// RolledBack says that what ran before runs again; RollbackError why it does not.
	RolledBack    bool   `json:"rolledBack"`
	RollbackError string `json:"rollbackError,omitempty"`
}

func (e *RolloutError) Error() string {
	s := e.Message
	switch {
	case e.RolledBack:
		s += "; rolled back"
	case e.RollbackError != "":
		s += "; roll back: " + e.RollbackError
	}
	return s
}

// Unwrap returns ErrFailed.
func (e *RolloutError) Unwrap() error { return ErrFailed }
