package workers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// carryOut takes a task from its lane to its result. It returns when the command is
// settled, handed over or left for redelivery.
func (w *Worker) carryOut(t *task) {
	pool := w.pools[t.w.Backend]
	w.observers[t.w.Backend].turned(t.w)
	end := ending{started: w.serverNow()}
	ctx, cancel := w.untilOverdue(t)
	defer cancel()
	slot := &slot{pool: pool}
	defer slot.leave()
	var c *claim
	err := slot.enter(ctx)
	if err == nil {
		c, err = w.takeUp(ctx, t, slot)
	}
	if c != nil {
		stop := w.keepClaim(t, c)
		defer stop()
	}
	if err == nil {
		w.cfg.Counters.InFlight(t.w.Backend).Inc()
		end.status, end.attempts, err = w.attempts(ctx, t, slot, c)
		w.cfg.Counters.InFlight(t.w.Backend).Dec()
	}
	slot.leave()
	act, outcome, reason := disposition(err)
	switch act {
	case actAck:
		if msg := t.finish(); msg != nil {
			_ = msg.Ack() // a lost ack costs a redelivery, answered the same way
		}
		return
	case actForward:
		w.forward(t, err)
		return
	case actLeave:
		w.leave(t, c, err)
		return
	case actRetry, actWait, actSettle:
	}
	end.outcome, end.reason, end.err = outcome, reason, err
	if err == nil {
		w.tell(t, end)
	}
	if end.status == nil && c != nil && outcome != subjects.Superseded {
		end.status, end.absent = w.lastStatus(pool, t.w)
	}
	if outcome == subjects.Done && t.verb == subjects.Deploy && t.spec.TTL > 0 {
		end.expires = w.serverNow().Add(t.spec.TTL.D()).UTC()
	}
	w.settle(t, c, end)
	w.afterwards(t, end)
}

// graceToAnswer is how long a command that is overdue already may look for the result it
// may have.
const graceToAnswer = 5 * time.Second

// untilOverdue bounds everything that is done for a command by its deadline.
func (w *Worker) untilOverdue(t *task) (context.Context, context.CancelFunc) {
	left := t.deadline - w.serverNow().Sub(t.published)
	return context.WithTimeout(t.ctx, max(left, graceToAnswer))
}

// keepClaim renews a claim, beside whatever is done under it, until stop is called.
func (w *Worker) keepClaim(t *task, c *claim) (stop func()) {
	ctx, cancel := context.WithCancel(w.settling)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		c.keep(ctx, func(err error) {
			if errors.Is(err, errClaimLost) {
				err = errTakenOver
			}
			t.cancel(err)
		})
	}()
	return func() { cancel(); <-kept }
}

// lastStatus reads the state for a result, as far as the engine answers; absent says
// that it answered that there is nothing.
func (w *Worker) lastStatus(pool *pool, on subjects.Workload) (status *drivers.WorkloadStatus, absent bool) {
	ctx, cancel := context.WithTimeout(w.settling, requestTimeout)
	defer cancel()
	status, err := pool.status(ctx, on.ID())
	if err != nil {
		return nil, errors.Is(err, drivers.ErrNotFound)
	}
	status.Node = w.cfg.Node
	return status, false
}

// takeUp claims the workload for the task. Whether the command has its result already
// is asked while the record is read. Errors: those of claims.acquire, errAnswered,
// errOverdue, *elsewhereError, *refusal.
func (w *Worker) takeUp(ctx context.Context, t *task, slot *slot) (*claim, error) {
	if t.verb == subjects.Restart {
		if err := w.awaitPredecessors(ctx, t, slot); err != nil {
			return nil, err
		}
	}
	original, err := w.redriven(ctx, t)
	if err != nil {
		return nil, err
	}
	type answer struct {
		result *subjects.ResultData
		err    error
	}
	asked := make(chan answer, 1)
	go func() {
		r, err := w.findAnswer(ctx, t.command.w, t.id)
		asked <- answer{r, err}
	}()
	first := sync.OnceValue(func() answer { return <-asked })
	defer first()
	answered := first
	// unrecorded is a result that a predecessor published before it could write what it
	// means into the record.
	var unrecorded *subjects.ResultData
	c, err := w.claims.acquire(ctx, request{
		w: t.w, id: t.id, seq: t.seq, verb: t.verb,
		prepare: func(rec *record) error {
			unrecorded = nil
			switch a := answered(); {
			case a.err != nil:
				return a.err
			case a.result != nil && rec.lacks(&t.command):
				unrecorded = a.result
				return nil
			case a.result != nil:
				return errAnswered
			case w.serverNow().Sub(t.published) > t.deadline:
				return errOverdue
			case slot.pool.hostLocal && rec.Owner != "" && rec.Owner != w.cfg.Node:
				return &elsewhereError{owner: rec.Owner}
			case original != 0 && !t.force && rec.SpecSeq > original && rec.SpecSeq != t.seq:
				return &refusal{command: t.command, reason: "NewerExists", message: fmt.Sprintf(
					"redrive of command %d: command %d is newer; redrive with force to override it", original, rec.SpecSeq)}
			}
			if t.verb == subjects.Deploy && slot.pool.hostLocal {
				// From here on something of the workload may exist on this engine.
				rec.Owner = w.cfg.Node
			}
			return nil
		},
		idle: func(ctx context.Context, wait *pause) error {
			// Who waited asks again: the result may have come meanwhile.
			answered = func() answer {
				r, err := w.findAnswer(ctx, t.command.w, t.id)
				return answer{r, err}
			}
			return slot.idle(ctx, wait)
		},
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, errOverdue
	}
	if err == nil && unrecorded != nil {
		return nil, w.completeRecord(ctx, t, c, *unrecorded)
	}
	return c, err
}

// completeRecord writes what an earlier process of this or another worker decided but
// did not live to record. It returns errAnswered, or what kept it from writing.
func (w *Worker) completeRecord(ctx context.Context, t *task, c *claim, r subjects.ResultData) error {
	end := ending{outcome: r.Outcome}
	if len(r.Status) > 0 {
		end.status = new(drivers.WorkloadStatus)
		if err := json.Unmarshal(r.Status, end.status); err != nil {
			end.status = nil
		}
	}
	if r.Outcome == subjects.Done && t.verb == subjects.Deploy && t.spec.TTL > 0 {
		end.expires = r.FinishedAt.Add(t.spec.TTL.D())
	}
	if err := c.release(ctx, func(rec *record) { end.writeTo(rec, &t.command) }); err != nil {
		return err
	}
	w.afterwards(t, end)
	return errAnswered
}

// findAnswer returns the result the command has, nil for none.
func (w *Worker) findAnswer(ctx context.Context, on subjects.Workload, commandID string) (*subjects.ResultData, error) {
	for wait := newPause(20*time.Millisecond, time.Second); ; {
		try, cancel := context.WithTimeout(ctx, requestTimeout)
		_, e, err := subjects.FindResultOf(try, w.cfg.JS, on, commandID)
		cancel()
		switch {
		case errors.Is(err, subjects.ErrNoResult):
			return nil, nil
		case errors.Is(err, subjects.ErrEvent):
			return &subjects.ResultData{}, nil // something stands where the result belongs
		case errors.Is(err, subjects.ErrSubject):
			return nil, nil
		case err == nil:
			r := &subjects.ResultData{}
			if err := json.Unmarshal(e.Data(), r); err != nil {
				return &subjects.ResultData{}, nil
			}
			return r, nil
		}
		if err := wait.sleep(ctx); err != nil {
			return nil, err
		}
	}
}

// redriven returns the sequence of the command that t repeats, 0 for none.
func (w *Worker) redriven(ctx context.Context, t *task) (uint64, error) {
	if t.redriveOf == "" {
		return 0, nil
	}
	r, err := w.findAnswer(ctx, t.w, t.redriveOf)
	if err != nil {
		return 0, err
	}
	if r == nil || r.Sequence == 0 {
		const fault = "no command of this workload with that ID has a result"
		return 0, &refusal{command: t.command, reason: "Invalid", message: subjects.ExtRedriveOf + ": " + fault,
			fields: []subjects.FieldFault{{Path: subjects.ExtRedriveOf, Message: fault}}}
	}
	return r.Sequence, nil
}

// awaitPredecessors holds a restart back until the deploy or destroy published before it
// has been taken up: after a shutdown, or through another consumer, the restart may be
// delivered first.
func (w *Worker) awaitPredecessors(ctx context.Context, t *task, slot *slot) error {
	for wait := newPause(10*time.Millisecond, 500*time.Millisecond); ; {
		waiting, err := w.hasPredecessor(ctx, t)
		if err == nil && !waiting {
			return nil
		}
		if err := slot.idle(ctx, wait); err != nil {
			return err
		}
	}
}

// hasPredecessor says whether the workload's latest deploy or destroy comes before the
// task and has not been settled: that it was taken up is not enough, it may have been
// given back since.
func (w *Worker) hasPredecessor(ctx context.Context, t *task) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for _, verb := range []subjects.Verb{subjects.Deploy, subjects.Destroy} {
		filter, err := subjects.CommandsFilter(t.w.Backend, "", t.w.Namespace, t.w.Name, verb)
		if err != nil {
			return false, err
		}
		raw, err := w.commands.GetLastMsgForSubject(ctx, filter)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		if raw.Sequence > t.seq {
			continue
		}
		rec, _, err := w.records.get(ctx, t.w)
		if err != nil {
			return false, err
		}
		if rec.SettledSeq >= raw.Sequence {
			continue
		}
		cmd, _ := w.door.open(ctx, arrival{subject: raw.Subject, header: raw.Header, data: raw.Data, seq: raw.Sequence, published: raw.Time})
		settled, err := w.findAnswer(ctx, t.w, cmd.id)
		if err != nil || settled == nil {
			return err == nil, err
		}
	}
	return false, nil
}

// attempts tries the command until it succeeds, fails for good or is taken away. The
// slot is given to others during pauses.
func (w *Worker) attempts(ctx context.Context, t *task, slot *slot, c *claim) (*drivers.WorkloadStatus, []subjects.AttemptData, error) {
	rec := c.record()
	tried := rec.attemptsFor(t.seq)
	pauses := newPause(w.cfg.RetryMin, w.cfg.RetryMax)
	w.say(ctx, t, origin{&t.command, len(tried) + 1}, subjects.WorkloadEvent{Phase: string(drivers.PhaseAccepted)})
	for {
		attempt := len(tried) + 1
		status, err := w.attempt(ctx, t, slot.pool, c, attempt)
		if err == nil {
			return status, tried, nil
		}
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, drivers.ErrFailed) {
			// The driver's words about a context that ended say less than why it did.
			if errors.Is(err, cause) {
				return nil, tried, cause
			}
			return nil, tried, fmt.Errorf("%w (%w)", cause, err)
		}
		act, _, reason := disposition(err)
		if act == actWait && slot.pool.answers(ctx) {
			act = actRetry // the engine is there: something it needs, a registry, is not
		}
		if act == actRetry {
			tried = append(tried, subjects.AttemptData{Attempt: attempt, At: w.serverNow().UTC(), Error: truncate(err.Error(), maxTextBytes/4)})
			if err := c.update(ctx, func(rec *record) { rec.AttemptsOf, rec.Attempts = t.seq, tried }); err != nil {
				return nil, tried, err
			}
			if len(tried) >= w.cfg.MaxAttempts {
				return nil, tried, err
			}
		} else if act != actWait {
			return nil, tried, err
		}
		w.log.Warn("attempt failed", "workload", t.w.ID(), "backend", t.w.Backend, "sequence", t.seq, "attempt", attempt, "error", err)
		w.say(ctx, t, origin{&t.command, attempt}, subjects.WorkloadEvent{
			Phase: string(drivers.PhaseRetrying), Reason: reason, Message: err.Error(),
		})
		pauses.jitter()
		if ended := slot.idle(ctx, pauses); ended != nil {
			return nil, tried, fmt.Errorf("%w (%w)", ended, err)
		}
	}
}

// tell reports what a command achieved, before its result says that it is done.
func (w *Worker) tell(t *task, end ending) {
	from := origin{&t.command, len(end.attempts) + 1}
	obs := w.observers[t.w.Backend]
	obs.turned(t.w)
	switch {
	case t.verb == subjects.Destroy:
		obs.gone(w.settling, t.w, from, "", "")
	case end.status != nil:
		obs.renewed(t.w)
		obs.report(w.settling, end.status, from, subjects.WorkloadEvent{})
	}
}

// jitter spreads the next pause by a quarter, so that what failed together does not
// come back together.
func (p *pause) jitter() {
	p.next -= time.Duration(rand.Int64N(int64(p.next)/4 + 1))
}

// attempt calls the driver once. A panic in a driver is an engine failure: it must not
// take the other workloads' commands with it.
func (w *Worker) attempt(ctx context.Context, t *task, pool *pool, c *claim, attempt int) (status *drivers.WorkloadStatus, err error) {
	defer func() {
		if p := recover(); p != nil {
			w.log.Error("driver panicked", "workload", t.w.ID(), "backend", t.w.Backend, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("driver %s panicked: %v", pool.name, p)
		}
	}()
	rec := c.record()
	cmd := drivers.Command{
		ID: t.id, Sequence: t.seq, GoodRevision: rec.GoodRevision, Fence: c.fence,
		Progress: func(p drivers.Progress) { w.progress(ctx, t, attempt, p) },
	}
	id := t.w.ID()
	switch t.verb {
	case subjects.Deploy:
		return pool.driver.Deploy(drivers.WithCommand(ctx, cmd), t.spec)
	case subjects.Destroy:
		return nil, pool.driver.Destroy(drivers.WithCommand(ctx, cmd), id)
	case subjects.Restart:
		if cmd.Baseline, err = w.baseline(ctx, t, pool, c); err != nil {
			return nil, err
		}
		if err := pool.driver.Restart(drivers.WithCommand(ctx, cmd), id); err != nil {
			return nil, err
		}
		return pool.status(ctx, id)
	}
	return nil, fmt.Errorf("%w: verb %q", drivers.ErrUnsupported, t.verb)
}

// baseline records, before anything is restarted, what the instances are, or reads
// what an earlier delivery of the same command recorded.
func (w *Worker) baseline(ctx context.Context, t *task, pool *pool, c *claim) ([]drivers.InstanceMark, error) {
	rec := c.record()
	if rec.BaselineOf == t.seq && rec.Baseline != nil {
		return rec.Baseline, nil
	}
	status, err := pool.status(ctx, t.w.ID())
	if err != nil {
		return nil, err
	}
	marks := status.Marks()
	err = c.update(ctx, func(rec *record) { rec.BaselineOf, rec.Baseline = t.seq, marks })
	return marks, err
}

// progress turns a driver's step into an event. It does not hold up the driver: bytes
// of a pull are dropped where they cannot be sent, because the next ones replace them.
func (w *Worker) progress(ctx context.Context, t *task, attempt int, p drivers.Progress) {
	data := subjects.WorkloadEvent{Phase: string(p.Phase), Reason: p.Reason, Message: p.Message}
	if p.Instance >= 0 {
		data.Instance = &p.Instance
	}
	if p.Current != 0 || p.Total != 0 {
		data.Progress = &subjects.ProgressData{Current: p.Current, Total: p.Total}
	}
	if p.Status != nil {
		p.Status.Node = w.cfg.Node
		w.observers[t.w.Backend].report(ctx, p.Status, origin{&t.command, attempt}, data)
		return
	}
	if p.Phase == drivers.PhaseRunning {
		return // the status that comes with it, or after it, says so
	}
	if p.Phase == drivers.PhasePulling {
		if it, err := w.outbox.eventItem(t.w, data, origin{&t.command, attempt}); err == nil {
			w.outbox.offer(t.w, it)
		}
		return
	}
	w.say(ctx, t, origin{&t.command, attempt}, data)
}

// say publishes an event of a command.
func (w *Worker) say(ctx context.Context, t *task, from origin, data subjects.WorkloadEvent) {
	it, err := w.outbox.eventItem(t.w, data, from)
	if err == nil {
		err = w.outbox.put(ctx, t.w, it)
	}
	if err != nil {
		w.log.Debug("event not published", "workload", t.w.ID(), "phase", data.Phase, "error", err)
	}
}

// afterwards brings what is observed in line with what was decided.
func (w *Worker) afterwards(t *task, end ending) {
	obs := w.observers[t.w.Backend]
	obs.turned(t.w)
	switch {
	case t.verb == subjects.Destroy && end.outcome == subjects.Done:
		w.expiries.forget(t.w)
	case t.verb == subjects.Deploy && end.outcome == subjects.Done:
		w.expiries.set(t.w, t.seq, end.expires)
	}
	obs.look(t.w.ID())
}

// leave gives a command back without a result: it is delivered again, here after a
// restart or to another worker.
func (w *Worker) leave(t *task, c *claim, cause error) {
	if c != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), requestTimeout)
		defer cancel()
		if err := c.release(ctx, func(*record) {}); err != nil && !errors.Is(err, drivers.ErrStale) {
			w.log.Warn("claim not released, its lease runs out instead", "workload", t.w.ID(), "error", err)
		}
	}
	msg := t.finish()
	if msg == nil || errors.Is(cause, errClaimLost) || errors.Is(cause, errTakenOver) {
		return // only the holder of the claim may nak
	}
	if err := msg.Nak(); err != nil {
		w.log.Warn("not given back, the ack wait runs out instead", "workload", t.w.ID(), "error", err)
	}
}
