package workers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

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
	case errors.Is(err, drivers.ErrStale):
		return actSettle, subjects.Superseded, "Stale"
	case errors.Is(err, drivers.ErrInvalidSpec):
		return actSettle, subjects.Rejected, "Invalid"
	case errors.Is(err, drivers.ErrUnsupported):
		return actSettle, subjects.Rejected, "Unsupported"
	case errors.Is(err, drivers.ErrDenied):
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
	// expires is when the TTL of what was deployed ends, zero for never.
	expires time.Time
}

// result makes the data of the command's result.
func (e ending) result(cmd *command, node string, now time.Time) subjects.ResultData {
	r := subjects.ResultData{
		Outcome: e.outcome, CommandID: cmd.id, Source: cmd.event.Source(), ID: cmd.event.ID(), Verb: cmd.verb,
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

// settle gives a task its one result: dead letter, events, result, record, ack, in
// that order, each only after the one before is durable. It keeps trying while the bus
// is away and gives up only when the drain ends, in which case the command is
// delivered again and settled then.
func (w *Worker) settle(t *task, c *claim, e ending) {
	ctx := w.settling
	earlier := false
	w.keepTrying(ctx, "settle "+t.w.String(), func(ctx context.Context) error {
		if e.needsDeadLetter() {
			if err := w.publishDeadLetter(ctx, &t.command, e); isPermanent(err) {
				w.log.Error("dead letter cannot be published", "workload", t.w.ID(), "sequence", t.seq, "error", err)
			} else if err != nil {
				return err
			}
		}
		if err := w.outbox.flush(ctx, t.w); err != nil {
			return err
		}
		subject := t.w.On(w.cfg.Node)
		data := e.result(&t.command, w.cfg.Node, w.cfg.Now())
		won, outcome, err := w.publishResult(ctx, subject, &t.command, data)
		if isPermanent(err) {
			// How it ended must be said, whatever else cannot be.
			data.Status, data.Evidence, data.Fields = nil, nil, nil
			won, outcome, err = w.publishResult(ctx, subject, &t.command, data)
		}
		if err != nil {
			return err
		}
		if !won {
			// Decided before, or by somebody else: what stands is the truth.
			e.outcome, earlier = outcome, true
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
	if earlier {
		w.log.Info("command had its result", "workload", t.w.ID(), "backend", t.w.Backend, "verb", t.verb, "sequence", t.seq,
			"command", t.id, "outcome", e.outcome)
		return
	}
	w.cfg.Counters.CommandSettled(t.w.Backend, string(t.verb), string(e.outcome), w.serverNow().Sub(t.published).Seconds())
	w.log.Info("command settled", "workload", t.w.ID(), "backend", t.w.Backend, "verb", t.verb, "sequence", t.seq,
		"command", t.id, "outcome", e.outcome, "reason", e.reason, "error", e.err)
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
		if rec.GoodSeq == 0 {
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

// publishResult publishes on the command's own subject, or reads who was first.
func (w *Worker) publishResult(ctx context.Context, on subjects.Workload, cmd *command, data subjects.ResultData) (won bool, outcome subjects.Outcome, err error) {
	e, err := subjects.NewEvent(on.Source(), subjects.ResultType(data.Outcome), on.ID(), data, map[string]string{
		subjects.ExtCommandID: cmd.id, subjects.ExtSequence: subjects.PadSequence(cmd.seq),
	})
	if err != nil {
		return false, "", fmt.Errorf("make result: %w", err)
	}
	won, winner, err := subjects.PublishResult(ctx, w.cfg.JS, on, cmd.id, e)
	if err != nil {
		return false, "", fmt.Errorf("publish result: %w", err)
	}
	if won {
		return true, data.Outcome, nil
	}
	var theirs subjects.ResultData
	if err := json.Unmarshal(winner.Data(), &theirs); err != nil {
		return false, "", fmt.Errorf("read the result that was first: %w", err)
	}
	return false, theirs.Outcome, nil
}

// keepTrying repeats fn while the bus is away, until it succeeds or ctx ends.
func (w *Worker) keepTrying(ctx context.Context, what string, fn func(context.Context) error) {
	for wait := newPause(50*time.Millisecond, 2*time.Second); ; {
		try, cancel := context.WithTimeout(ctx, 2*requestTimeout)
		err := fn(try)
		cancel()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			w.log.Warn("left for redelivery", "what", what, "error", err)
			return
		}
		w.log.Warn("trying again", "what", what, "error", err)
		if wait.sleep(ctx) != nil {
			return
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
