package drivers

import "context"

// Command is the command on whose behalf a driver is called. It travels in the
// context so that the driver interface stays the one kranix-core compiles against.
type Command struct {
	// ID is the command's token (subjects.CommandID); it becomes a label.
	ID string
	// Sequence is the command's place in the order of all commands: a driver refuses
	// with ErrStale to replace or start anything while an object of the workload
	// carries a higher one.
	Sequence uint64
	// GoodRevision is the revision of the last deploy that succeeded: what a rollback
	// puts back. Empty when unknown; then a driver takes the newest one that runs.
	GoodRevision string
	// Baseline, for a restart, is what the instances were when the command was taken
	// up; nil means restart all. See InstanceMark.
	Baseline []InstanceMark
	// Fence returns nil while the caller still holds the workload's claim and an error
	// matching ErrStale when it was lost. A driver calls it after it has created and
	// before it starts something (or stops what ran before). It may block while the
	// bus cannot be reached. nil passes.
	Fence func(context.Context) error
	// Progress receives the steps of the operation. It does not block. May be nil.
	Progress func(Progress)
}

// InstanceMark identifies one life of an instance.
type InstanceMark struct {
	InstanceID string `json:"instanceId"`
	// StartedAt is the engine's start time of that life, RFC 3339 with nanoseconds,
	// compared as text.
	StartedAt string `json:"startedAt"`
}

// Progress is one step of a command.
type Progress struct {
	// Phase is one of the progress phases (PhasePulling, PhaseCreating, ...).
	Phase Phase
	// Reason is a word for machines, Message a sentence for people; both may be empty.
	Reason, Message string
	// Instance is the ordinal the step is about, -1 for the whole workload.
	Instance int
	// Current and Total are bytes (of a pull) or instances (of a rollout); Total is 0
	// when unknown.
	Current, Total int64
	// Status is the workload's state when the step changed it, or nil.
	Status *WorkloadStatus
}

type commandKey struct{}

// WithCommand returns a context that carries cmd to a driver.
func WithCommand(ctx context.Context, cmd Command) context.Context {
	return context.WithValue(ctx, commandKey{}, cmd)
}

// CommandFrom returns the command ctx carries, or the zero Command, whose methods all
// work: a driver used as a library needs no command.
func CommandFrom(ctx context.Context) Command {
	cmd, _ := ctx.Value(commandKey{}).(Command)
	return cmd
}

// Check passes the fence.
func (c Command) Check(ctx context.Context) error {
	if c.Fence == nil {
		return nil
	}
	return c.Fence(ctx)
}

// Report sends a step to whoever listens.
func (c Command) Report(p Progress) {
	if c.Progress != nil {
		c.Progress(p)
	}
}
