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

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// carryOut takes a task from its lane to its result. It returns when the command is
// settled, handed over or left for redelivery.
func (w *Worker) carryOut(t *task) {
	pool := w.pools[t.w.Backend]
	end := ending{started: w.serverNow()}
	var c *claim
	err := pool.enter(t.ctx)
	if err == nil {
		w.cfg.Counters.InFlight(t.w.Backend).Inc()
		if c, err = w.takeUp(t, pool); err == nil {
			end.status, end.attempts, err = w.attempts(t, pool, c)
		}
		w.cfg.Counters.InFlight(t.w.Backend).Dec()
		pool.leave()
	}
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
		end.status = w.lastStatus(pool, t.w)
	}
	if outcome == subjects.Done && t.verb == subjects.Deploy && t.spec.TTL > 0 {
		end.expires = w.serverNow().Add(t.spec.TTL.D()).UTC()
	}
	w.settle(t, c, end)
	if outcome != subjects.Superseded {
		w.afterwards(t, end)
	}
}

// tell reports what a command achieved, before its result says that it is done.
func (w *Worker) tell(t *task, end ending) {
	from := origin{&t.command, len(end.attempts) + 1}
	switch {
	case t.verb == subjects.Destroy:
		w.observers[t.w.Backend].gone(w.settling, t.w, from, "", "")
	case end.status != nil:
		w.observers[t.w.Backend].renewed(t.w)
		w.observers[t.w.Backend].report(w.settling, end.status, from, subjects.WorkloadEvent{})
	}
}

// lastStatus reads the state for a result, as far as the engine answers.
func (w *Worker) lastStatus(pool *pool, on subjects.Workload) *drivers.WorkloadStatus {
	ctx, cancel := context.WithTimeout(w.settling, requestTimeout)
	defer cancel()
	status, err := pool.driver.GetStatus(ctx, on.ID())
	if err != nil {
		return nil
	}
	status.Node = w.cfg.Node
	return status
}

// takeUp claims the workload for the task. Whether the command has its result already
// is asked while the record is read. Errors: those of claims.acquire, errAnswered,
// errOverdue, *elsewhereError, *refusal.
func (w *Worker) takeUp(t *task, pool *pool) (*claim, error) {
	original, err := w.redriven(t)
	if err != nil {
		return nil, err
	}
	answer := make(chan error, 1)
	go func() { answer <- w.findAnswer(t) }()
	answered := sync.OnceValue(func() error { return <-answer })
	defer answered()
	c, err := w.claims.acquire(t.ctx, t.w, t.seq, t.verb, func(rec *record) error {
		if err := answered(); err != nil {
			return err
		}
		switch {
		case w.serverNow().Sub(t.published) > t.deadline:
			return errOverdue
		case pool.hostLocal && rec.Owner != "" && rec.Owner != w.cfg.Node:
			return &elsewhereError{owner: rec.Owner}
		case original != 0 && !t.force && rec.GoodSeq > original:
			return &refusal{command: t.command, reason: "NewerExists", message: fmt.Sprintf(
				"redrive of command %d: command %d is newer and in force; redrive with force to override it", original, rec.GoodSeq)}
		}
		if t.verb == subjects.Deploy && pool.hostLocal {
			// From here on something of the workload may exist on this engine.
			rec.Owner = w.cfg.Node
		}
		return nil
	})
	var by *supersededError
	if errors.As(err, &by) {
		// A duplicate of a command settled long ago is older than what came since, too.
		if answer := answered(); answer != nil {
			return nil, answer
		}
	}
	return c, err
}

// findAnswer returns errAnswered when the command has its result.
func (w *Worker) findAnswer(t *task) error {
	for wait := newPause(20*time.Millisecond, time.Second); ; {
		ctx, cancel := context.WithTimeout(t.ctx, requestTimeout)
		_, _, err := subjects.FindResultOf(ctx, w.cfg.JS, t.w, t.id)
		cancel()
		switch {
		case err == nil, errors.Is(err, subjects.ErrEvent):
			return errAnswered
		case errors.Is(err, subjects.ErrNoResult):
			return nil
		}
		if err := wait.sleep(t.ctx); err != nil {
			return err
		}
	}
}

// redriven returns the sequence of the command that t repeats, 0 for none.
func (w *Worker) redriven(t *task) (uint64, error) {
	if t.redriveOf == "" {
		return 0, nil
	}
	for wait := newPause(20*time.Millisecond, time.Second); ; {
		ctx, cancel := context.WithTimeout(t.ctx, requestTimeout)
		_, e, err := subjects.FindResultOf(ctx, w.cfg.JS, t.w, t.redriveOf)
		cancel()
		if errors.Is(err, subjects.ErrNoResult) || errors.Is(err, subjects.ErrSubject) {
			return 0, &refusal{command: t.command, reason: "Invalid", message: "redriveof: no command of this workload with that ID has a result",
				fields: []subjects.FieldFault{{Path: subjects.ExtRedriveOf, Message: "no command of this workload with that ID has a result"}}}
		}
		if err == nil {
			var r subjects.ResultData
			if err := json.Unmarshal(e.Data(), &r); err != nil {
				return 0, fmt.Errorf("read result of redriven command: %w", err)
			}
			return r.Sequence, nil
		}
		if err := wait.sleep(t.ctx); err != nil {
			return 0, err
		}
	}
}

// attempts tries the command until it succeeds, fails for good or is taken away. The
// pool's slot, held by the caller, is given to others during pauses.
func (w *Worker) attempts(t *task, pool *pool, c *claim) (*drivers.WorkloadStatus, []subjects.AttemptData, error) {
	left := t.deadline - w.serverNow().Sub(t.published)
	ctx, cancel := context.WithTimeout(t.ctx, left)
	defer cancel()
	keeping, stopKeeping := context.WithCancel(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		c.keep(keeping, func(err error) {
			if errors.Is(err, errClaimLost) {
				err = errTakenOver
			}
			t.cancel(err)
		})
	}()
	defer func() { stopKeeping(); <-kept }()

	rec := c.record()
	tried := rec.attemptsFor(t.seq)
	pauses := newPause(w.cfg.RetryMin, w.cfg.RetryMax)
	w.say(ctx, t, origin{&t.command, len(tried) + 1}, subjects.WorkloadEvent{Phase: string(drivers.PhaseAccepted)})
	for {
		attempt := len(tried) + 1
		status, err := w.attempt(ctx, t, pool, c, attempt)
		if err == nil {
			return status, tried, nil
		}
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, drivers.ErrFailed) {
			// The driver's words about a context that ended say less than why it did.
			return nil, tried, fmt.Errorf("%w (%w)", cause, err)
		}
		act, _, reason := disposition(err)
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
		pool.leave()
		pauses.jitter()
		pauseErr := pauses.sleep(ctx)
		enterErr := pool.enter(w.settling) // the slot is the caller's to give back
		if pauseErr != nil || enterErr != nil {
			return nil, tried, fmt.Errorf("%w (%w)", errors.Join(pauseErr, enterErr), err)
		}
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
		return pool.driver.GetStatus(ctx, id)
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
	status, err := pool.driver.GetStatus(ctx, t.w.ID())
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
