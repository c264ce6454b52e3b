package workers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// What ends a task besides the driver's own errors.
var (
	// errShutdown is the cause of a context that ends because the worker does.
	errShutdown = errors.New("the worker is shutting down")
	// errAnswered: the command has its result already.
	errAnswered = errors.New("command has its result already")
	// errOverdue: the deadline passed before the work began.
	errOverdue = errors.New("deadline passed before the command was taken up")
)

// elsewhereError: the workload belongs to another node, which must do it.
type elsewhereError struct{ owner string }

func (e *elsewhereError) Error() string { return "the workload runs on node " + e.owner }

// action is what becomes of a command after an attempt.
type action int

const (
	// actSettle: the command gets its result.
	actSettle action = iota
	// actRetry: try again, counting the attempt; actWait: try again without counting.
	actRetry
	actWait
	// actLeave: the command is not ours to settle; it is delivered again.
	actLeave
	// actAck: nothing is left to do but to acknowledge.
	actAck
	// actForward: hand the command to the node that owns the workload.
	actForward
)

// disposition is the one place where an error becomes an action, an outcome and a
// reason. Order matters: what happened to the command comes before what the driver
// said about it.
func disposition(err error) (action, subjects.Outcome, string) {
	var (
		by        *supersededError
		elsewhere *elsewhereError
		refused   *refusal
		rollout   *drivers.RolloutError
	)
	switch {
	case err == nil:
		return actSettle, subjects.Done, ""
	case errors.Is(err, errAnswered):
		return actAck, "", ""
	case errors.Is(err, errShutdown), errors.Is(err, errClaimLost), errors.Is(err, errTakenOver):
		return actLeave, "", ""
	case errors.As(err, &by):
		return actSettle, subjects.Superseded, "Superseded"
	case errors.As(err, &elsewhere):
		return actForward, "", ""
	case errors.As(err, &refused):
		return actSettle, subjects.Rejected, refused.reason
	case errors.Is(err, errOverdue), errors.Is(err, context.DeadlineExceeded):
		return actSettle, subjects.Expired, "DeadlineExceeded"
	case errors.As(err, &rollout):
		if rollout.Reason == "DeadlineExceeded" {
			return actSettle, subjects.Expired, rollout.Reason
		}
		return actSettle, subjects.Failed, rollout.Reason
	case errors.Is(err, errUnreadable):
		return actSettle, subjects.Failed, "RecordUnreadable"
	case errors.Is(err, drivers.ErrStale):
		return actSettle, subjects.Superseded, "Stale"
	case errors.Is(err, drivers.ErrInvalidSpec):
		return actSettle, subjects.Rejected, "Invalid"
	case errors.Is(err, drivers.ErrUnsupported):
		return actSettle, subjects.Rejected, "Unsupported"
	case errors.Is(err, drivers.ErrDenied):
		var fields *drivers.FieldErrors
		if errors.As(err, &fields) {
			return actSettle, subjects.Rejected, "Denied"
		}
		return actSettle, subjects.Failed, "Denied"
	case errors.Is(err, drivers.ErrFailed):
		return actSettle, subjects.Failed, "Failed"
	case errors.Is(err, drivers.ErrNotFound):
		return actSettle, subjects.Failed, "NotFound"
	case errors.Is(err, drivers.ErrUnavailable):
		return actWait, subjects.Failed, "Unavailable"
	case errors.Is(err, drivers.ErrConflict):
		return actRetry, subjects.Failed, "Conflict"
	default:
		return actRetry, subjects.Failed, "EngineError"
	}
}

// ending is how a task ended, on its way to becoming a result.
type ending struct {
	outcome  subjects.Outcome
	reason   string
	err      error
	status   *drivers.WorkloadStatus
	attempts []subjects.AttemptData
	started  time.Time
	// absent says that the engine has nothing of the workload.
	absent bool
	// expires is when the TTL of what was deployed ends, zero for never.
	expires time.Time
}

// result makes the data of the command's result.
func (e ending) result(cmd *command, node string, now time.Time) subjects.ResultData {
	r := subjects.ResultData{
		Outcome: e.outcome, CommandID: cmd.id, Source: cmd.sourceShown(), ID: cmd.idShown(), Verb: cmd.verb,
		Sequence: cmd.seq, Reason: e.reason, Attempts: len(e.attempts), StartedAt: e.started.UTC(), FinishedAt: now.UTC(), Node: node,
	}
	if e.outcome == subjects.Done {
		r.Attempts++
	}
	if e.err != nil {
		r.Message = e.err.Error()
	}
	var (
		by      *supersededError
		refused *refusal
		fields  *drivers.FieldErrors
		rollout *drivers.RolloutError
	)
	switch {
	case errors.As(e.err, &by):
		r.SupersededBy = by.by
	case errors.As(e.err, &refused):
		r.Message, r.Fields = refused.message, refused.fields
	case errors.As(e.err, &fields):
		for _, f := range fields.Fields {
			r.Fields = append(r.Fields, subjects.FieldFault(f))
		}
	case errors.As(e.err, &rollout):
		r.RolledBack, r.Evidence = rollout.RolledBack, fitEvidence(rollout)
	}
	if e.status != nil {
		r.Status = fitStatus(e.status)
	}
	r.Message = truncate(r.Message, maxTextBytes)
	return r
}

// flushTimeout is how long a result waits for the events before it. They are published
// all the same; a stream of events that cannot be written must not keep commands from
// being settled.
const flushTimeout = 5 * time.Second

// settle gives a task its one result: dead letter, events, result, record, ack, in
// that order, each only after the one before is durable. It keeps trying while the bus
// is away and gives up only when the drain ends, in which case the command is
// delivered again and settled then.
func (w *Worker) settle(t *task, c *claim, e ending) {
	on := t.w.On(w.cfg.Node)
	data := e.result(&t.command, w.cfg.Node, w.serverNow())
	result, err := resultEvent(on, &t.command, data)
	if err != nil {
		w.log.Error("result cannot be made", "workload", t.w.ID(), "sequence", t.seq, "error", err)
		return
	}
	earlier, flushed := false, false
	settled := w.keepTrying(w.settling, "settle "+t.w.String(), func(ctx context.Context) error {
		if e.needsDeadLetter() {
			if err := w.leaveDeadLetter(ctx, &t.command, e); err != nil {
				return err
			}
		}
		if !flushed {
			flushed = true
			w.flush(ctx, t.w)
		}
		won, standing, err := subjects.PublishResult(ctx, w.cfg.JS, on, t.id, result)
		if isPermanent(err) {
			// How it ended must be said, whatever else cannot be.
			if result, err = resultEvent(on, &t.command, data.Bare()); err == nil {
				won, standing, err = subjects.PublishResult(ctx, w.cfg.JS, on, t.id, result)
			}
		}
		if err != nil {
			return fmt.Errorf("publish result: %w", err)
		}
		if !won {
			// Decided before, or by somebody else: what stands is the truth.
			var theirs subjects.ResultData
			if err := json.Unmarshal(standing.Data(), &theirs); err == nil {
				e.outcome = theirs.Outcome
			}
			earlier = true
		}
		if c != nil {
			if err := c.release(ctx, func(rec *record) { e.writeTo(rec, &t.command) }); err != nil && !errors.Is(err, drivers.ErrStale) {
				return err
			}
		}
		if msg := t.finish(); msg != nil {
			return msg.Ack()
		}
		return nil
	})
	t.finish()
	switch {
	case !settled:
	case earlier:
		w.log.Info("command had its result", "workload", t.w.ID(), "backend", t.w.Backend, "verb", t.verb, "sequence", t.seq,
			"command", t.id, "outcome", e.outcome)
	default:
		w.cfg.Counters.CommandSettled(t.w.Backend, string(t.verb), string(e.outcome), w.serverNow().Sub(t.published).Seconds())
		w.log.Info("command settled", append([]any{"workload", t.w.ID(), "backend", t.w.Backend, "verb", t.verb, "sequence", t.seq,
			"command", t.id, "outcome", e.outcome}, e.why()...)...)
	}
}

// why is what a log line says of an ending that was not as asked.
func (e ending) why() []any {
	if e.err == nil {
		return nil
	}
	return []any{"reason", e.reason, "error", e.err}
}

// flush has the events of a command published before its result, within bounds.
func (w *Worker) flush(ctx context.Context, on subjects.Workload) {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if err := w.outbox.flush(ctx, on); err != nil && w.settling.Err() == nil {
		w.log.Warn("events are late: the result goes before them", "workload", on.ID(), "error", err)
	}
}

// leaveDeadLetter publishes the evidence unless the command has its result already: then
// it was delivered again, or somebody else decided.
func (w *Worker) leaveDeadLetter(ctx context.Context, cmd *command, e ending) error {
	r, err := w.findAnswer(ctx, cmd.w, cmd.id)
	if err != nil || r != nil {
		return err
	}
	err = w.publishDeadLetter(ctx, cmd, e)
	if isPermanent(err) {
		w.log.Error("dead letter cannot be published", "workload", cmd.w.ID(), "sequence", cmd.seq, "error", err)
		return nil
	}
	return err
}

// resultEvent makes the event of a result. Publishing it again is not a second result.
func resultEvent(on subjects.Workload, cmd *command, data subjects.ResultData) (event.Event, error) {
	return subjects.NewEvent(on.Source(), subjects.ResultType(data.Outcome), on.ID(), data, map[string]string{
		subjects.ExtCommandID: cmd.id, subjects.ExtSequence: subjects.PadSequence(cmd.seq),
	})
}

// writeTo puts what the ending means for the workload into its record.
func (e ending) writeTo(rec *record, cmd *command) {
	rec.AttemptsOf, rec.Attempts = 0, nil
	rec.BaselineOf, rec.Baseline = 0, nil
	switch {
	case e.outcome == subjects.Superseded || e.outcome == subjects.Rejected:
		return
	case cmd.verb == subjects.Restart:
		rec.OpSeq = max(rec.OpSeq, cmd.seq)
		return
	}
	rec.SettledSeq, rec.Outcome = max(rec.SettledSeq, cmd.seq), e.outcome
	switch {
	case e.outcome != subjects.Done:
		if rec.GoodSeq == 0 && e.absent {
			rec.Owner = ""
		}
	case cmd.verb == subjects.Destroy:
		rec.Destroyed, rec.Spec, rec.Owner = true, nil, ""
		rec.GoodSeq, rec.GoodRevision, rec.ExpiresAt = 0, "", time.Time{}
	default:
		rec.Destroyed, rec.Spec = false, cmd.specJSON
		rec.GoodSeq, rec.ExpiresAt = cmd.seq, e.expires
		if e.status != nil {
			rec.GoodRevision = e.status.Revision
		}
	}
}

// tryTimeout bounds one try of several requests.
const tryTimeout = 2*requestTimeout + flushTimeout

// keepTrying repeats fn while the bus is away, until it succeeds or ctx ends, and says
// whether it did.
func (w *Worker) keepTrying(ctx context.Context, what string, fn func(context.Context) error) bool {
	for wait := newPause(50*time.Millisecond, 2*time.Second); ; {
		try, cancel := context.WithTimeout(ctx, tryTimeout)
		err := fn(try)
		cancel()
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			w.log.Warn("left for redelivery", "what", what, "error", err)
			return false
		}
		w.log.Warn("trying again", "what", what, "error", err)
		if wait.sleep(ctx) != nil {
			return false
		}
	}
}

// encode is for the contract's own types, which always encode.
func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return b
}
