package workers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/subjects"
)

// intake pulls messages of one consumer until ctx ends. Taking in is not carrying out:
// a message waits in its lane, kept alive, and holds up no other workload's.
func (w *Worker) intake(ctx context.Context, stream string, cfg jetstream.ConsumerConfig, receive func(context.Context, jetstream.Msg)) {
	for wait := newPause(100*time.Millisecond, 5*time.Second); ctx.Err() == nil; {
		err := w.pull(ctx, stream, cfg, receive)
		if err == nil || ctx.Err() != nil {
			return
		}
		w.log.Warn("commands cannot be pulled, trying again", "consumer", cfg.Durable, "error", err)
		_ = wait.sleep(ctx) // the loop's condition sees the end
	}
}

// pull consumes until ctx ends (nil) or the consumer is lost.
func (w *Worker) pull(ctx context.Context, stream string, cfg jetstream.ConsumerConfig, receive func(context.Context, jetstream.Msg)) error {
	consumer, err := w.cfg.JS.CreateOrUpdateConsumer(ctx, stream, cfg)
	if err != nil {
		return fmt.Errorf("create consumer %s: %w", cfg.Durable, err)
	}
	batch := min(pullBatch, w.cfg.MaxQueued)
	msgs, err := consumer.Messages(jetstream.PullMaxMessages(batch))
	if err != nil {
		return fmt.Errorf("pull from consumer %s: %w", cfg.Durable, err)
	}
	// Stop, not Drain: what is buffered here and not taken in goes to another worker
	// when its ack wait has passed, or to us after the restart.
	stop := context.AfterFunc(ctx, msgs.Stop)
	defer stop()
	defer msgs.Stop()
	for {
		if err := w.room(ctx); err != nil {
			return nil
		}
		msg, err := msgs.Next()
		switch {
		case err == nil:
			receive(ctx, msg)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, jetstream.ErrNoHeartbeat):
			// The bus is away; the iterator asks again by itself when it is back.
		default:
			return fmt.Errorf("pull from consumer %s: %w", cfg.Durable, err)
		}
	}
}

// pullBatch is how many messages are asked for at a time: enough to keep a
// synchronous server busy, few enough that a second worker gets its share.
const pullBatch = 64

// room waits until another command fits in memory.
func (w *Worker) room(ctx context.Context) error {
	for wait := newPause(time.Millisecond, 50*time.Millisecond); w.lanes.len() >= w.cfg.MaxQueued; {
		if err := wait.sleep(ctx); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// receive takes a command in.
func (w *Worker) receive(ctx context.Context, msg jetstream.Msg) {
	meta, err := msg.Metadata()
	if err != nil {
		w.log.Error("message without metadata", "subject", msg.Subject(), "error", err)
		return
	}
	w.admit(ctx, arrival{
		subject: msg.Subject(), header: msg.Headers(), data: msg.Data(), seq: meta.Sequence.Stream, published: meta.Timestamp,
	}, msg)
}

// receiveUnserved refuses what nobody serves and passes over the rest, which comes
// through the consumers of its pool or node.
func (w *Worker) receiveUnserved(ctx context.Context, msg jetstream.Msg) {
	served, err := w.isServed(ctx, msg.Subject())
	young := false
	if meta, metaErr := msg.Metadata(); metaErr == nil {
		young = w.serverNow().Sub(meta.Timestamp) < arriveWithin
	}
	switch {
	case err != nil, !served && young && w.namesNode(msg.Subject()):
		_ = msg.NakWithDelay(time.Second) // lost, it costs an ack wait
	case served:
		_ = msg.Ack() // delivered again it is passed over again
	default:
		w.receive(ctx, msg)
	}
}

// arriveWithin is how long a command for a node that was never on the bus waits for it:
// it may be starting.
const arriveWithin = 5 * time.Second

// namesNode says whether a command's subject names a node other than this one.
func (w *Worker) namesNode(subject string) bool {
	s, err := subjects.Parse(subject)
	return err == nil && s.Workload.Node != subjects.Any && s.Workload.Node != w.cfg.Node
}

// isServed says whether a worker, here or elsewhere on the bus, takes in commands of a
// subject: every one that ever did has left its consumer.
func (w *Worker) isServed(ctx context.Context, subject string) (bool, error) {
	backend, node := subjects.Any, subjects.Any
	if s, err := subjects.Parse(subject); err == nil {
		backend, node = s.Workload.Backend, s.Workload.Node
	} else if t := strings.Split(subject, "."); len(t) > 3 {
		backend, node = t[2], t[3]
	}
	if backend == subjects.Any {
		backend = w.cfg.DefaultBackend
	}
	if w.pools[backend] != nil && (node == subjects.Any || node == w.cfg.Node) {
		return true, nil
	}
	name := subjects.PoolConsumer(backend, false, w.consumerOptions()).Durable
	if node != subjects.Any {
		name = subjects.NodeConsumer(backend, node, false, w.consumerOptions()).Durable
	}
	if backend == "" || strings.ContainsAny(name, " *>/\\") {
		return false, nil // no consumer can have such a name
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := w.commands.Consumer(ctx, name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return false, nil
	}
	return err == nil, err
}

// receiveAssignment takes in a command that a placer handed to this node: the
// assignment names it, the command itself is read from where it was published.
func (w *Worker) receiveAssignment(ctx context.Context, msg jetstream.Msg) {
	e, err := subjects.Decode(msg.Headers(), msg.Data())
	var data subjects.AssignmentData
	if err == nil {
		err = json.Unmarshal(e.Data(), &data)
	}
	if err != nil || data.Sequence == 0 {
		w.log.Error("assignment cannot be read", "subject", msg.Subject(), "error", err)
		_ = msg.TermWithReason("not a readable assignment")
		return
	}
	if err := w.resume(ctx, data.Sequence, msg); err != nil {
		w.log.Warn("assigned command not read", "sequence", data.Sequence, "error", err)
		_ = msg.NakWithDelay(time.Second)
	}
}

// resume reads a command from the stream and takes it in, with the delivery of
// whatever named it.
func (w *Worker) resume(ctx context.Context, seq uint64, msg jetstream.Msg) error {
	raw, err := w.commands.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		// A replica that lags behind says so, too.
		info, infoErr := w.commands.Info(ctx)
		if infoErr != nil || seq >= info.State.FirstSeq {
			return fmt.Errorf("read command %d: %w", seq, err)
		}
		if msg != nil {
			return msg.TermWithReason("the command has aged out")
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read command %d: %w", seq, err)
	}
	w.admit(ctx, arrival{
		subject: raw.Subject, header: raw.Header, data: raw.Data, seq: raw.Sequence, published: raw.Time, assigned: msg != nil,
	}, msg)
	return nil
}

// admit passes a message through the door into its lane, or settles its refusal.
func (w *Worker) admit(ctx context.Context, in arrival, msg jetstream.Msg) {
	cmd, err := w.door.open(ctx, in)
	w.cfg.Counters.CommandReceived(cmd.w.Backend, string(cmd.verb))
	t := newTask(w.working, cmd, msg)
	if err == nil {
		w.lanes.add(t)
		return
	}
	w.lanes.aside(func() {
		w.settle(t, nil, ending{outcome: subjects.Rejected, reason: reasonOf(err), err: err, started: w.serverNow()})
	})
}

func reasonOf(err error) string {
	var refused *refusal
	if errors.As(err, &refused) {
		return refused.reason
	}
	return "Invalid"
}

// forward hands a pool command to the node that owns its workload. The assignment is
// durable before the command is acknowledged.
func (w *Worker) forward(t *task, cause error) {
	var elsewhere *elsewhereError
	if !errors.As(cause, &elsewhere) {
		w.leave(t, nil, cause)
		return
	}
	s, err := subjects.Parse(t.subject)
	if err == nil && s.Workload.Node != subjects.Any {
		w.settle(t, nil, ending{outcome: subjects.Rejected, reason: "Invalid", started: w.serverNow(), err: &refusal{
			command: t.command, reason: "Invalid", message: fmt.Sprintf("node: %v; publish to that node or to the pool", cause),
			fields: []subjects.FieldFault{{Path: "node", Message: cause.Error()}},
		}})
		return
	}
	on := t.w.On(elsewhere.owner)
	w.keepTrying(w.settling, "assign "+on.String(), func(ctx context.Context) error {
		subject, err := subjects.Assignment(on)
		if err != nil {
			return err
		}
		msg, err := message(subject, t.w, subjects.TypeAssignment, subjects.AssignmentData{Sequence: t.seq}, &t.command)
		if err != nil {
			return err
		}
		msg.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("asg|%d|%s", t.seq, elsewhere.owner))
		if _, err := w.cfg.JS.PublishMsg(ctx, msg); err != nil {
			return err
		}
		if m := t.finish(); m != nil {
			return m.Ack()
		}
		return nil
	})
	t.finish()
}
