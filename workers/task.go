package workers

import (
	"context"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// command is a command that passed the door.
type command struct {
	// id is the CommandID, seq the sequence in KRANIX_COMMANDS: the order of things.
	id   string
	seq  uint64
	verb subjects.Verb
	// w is the workload with its backend resolved, on this node.
	w       subjects.Workload
	subject string
	event   event.Event
	// spec is a deploy's, with defaults; specJSON as it was sent.
	spec     *drivers.WorkloadSpec
	specJSON []byte
	// published is the server's time of the command, deadline how long after that it
	// is overdue.
	published time.Time
	deadline  time.Duration
	// redriveOf is the command this one repeats; force lets it override newer ones.
	redriveOf string
	force     bool
	// assigned says that a placer handed the command to this node.
	assigned bool
	// raw is the message itself where it could not be understood.
	raw *arrival
}

// task is a command in this process: queued in its lane or being carried out.
type task struct {
	command
	// ctx ends with a cause when the task is to stop: superseded or shutdown.
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu sync.Mutex
	// msg is the latest delivery, nil when the task was resumed without one.
	msg  jetstream.Msg
	done bool
}

// maxAttribute bounds a CloudEvent attribute of a command, in bytes.
const maxAttribute = 1024

// sourceShown and idShown are the event's attributes as far as a result repeats them.
func (c *command) sourceShown() string { return shown(c.event.Source()) }
func (c *command) idShown() string     { return shown(c.event.ID()) }

func shown(attribute string) string {
	if len(attribute) > maxAttribute {
		return ""
	}
	return attribute
}

// supersedes says whether the command ends older ones of its workload as soon as it is
// here. A restart never does, and a redrive only once it is known that nothing newer
// forbids it.
func (c *command) supersedes() bool {
	return c.verb != subjects.Restart && (c.redriveOf == "" || c.force)
}

func newTask(parent context.Context, cmd command, msg jetstream.Msg) *task {
	t := &task{command: cmd, msg: msg}
	t.ctx, t.cancel = context.WithCancelCause(parent)
	return t
}

// redelivered replaces the delivery by a newer one of the same command. It returns
// false when the task has ended and the delivery is the caller's to deal with.
func (t *task) redelivered(msg jetstream.Msg) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done {
		return false
	}
	if msg != nil {
		t.msg = msg
	}
	return true
}

// finish ends the task and hands out its delivery, which may be nil.
func (t *task) finish() jetstream.Msg {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done = true
	t.cancel(nil)
	return t.msg
}

// alive tells the server that the command is being worked on.
func (t *task) alive() {
	t.mu.Lock()
	msg, done := t.msg, t.done
	t.mu.Unlock()
	if !done && msg != nil {
		// A lost sign of life costs a redelivery, which finds the task at work.
		_ = msg.InProgress()
	}
}
