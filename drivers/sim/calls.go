package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// do makes a call to the engine: it may take time, fail, or fail after it worked.
func (d *Driver) do(ctx context.Context, op Op, workloadID string, st *steering, f func() error) error {
	if err := d.before(ctx, op, workloadID); err != nil && !errors.Is(err, errReplyLost) {
		return err
	} else if err != nil {
		return errors.Join(f(), err)
	}
	if len(st.fail) > 0 {
		if err := d.engine.steeredFailure(op, workloadID, st.fail); err != nil {
			return err
		}
	}
	return f()
}

// errReplyLost marks the error of a call that is to be carried out all the same.
var errReplyLost = errors.New("reply lost")

// before is what happens to every call before it is carried out.
func (d *Driver) before(ctx context.Context, op Op, workloadID string) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	e := d.engine
	e.mu.Lock()
	down := e.down || e.closed
	e.mu.Unlock()
	if down {
		return &drivers.Error{Class: drivers.ErrUnavailable, Op: fmt.Sprintf("%s on engine %s", op, e.cfg.ID), Err: errors.New("connection refused")}
	}
	if d.cfg.Intercept != nil {
		if err := d.cfg.Intercept(ctx, op, workloadID); err != nil {
			return err
		}
	}
	if l, ok := d.cfg.Latency[op]; ok {
		if err := sleep(ctx, e.cfg.Clock, l.Base+d.jitter(l.Jitter)); err != nil {
			return fmt.Errorf("%s: %w", op, err)
		}
	}
	if len(d.cfg.Failures) == 0 {
		return nil
	}
	return d.failure(op, workloadID)
}

func (d *Driver) jitter(most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Duration(d.rand.Int64N(int64(most)))
}

// failure returns the configured failure that applies to a call.
func (d *Driver) failure(op Op, workloadID string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, f := range d.cfg.Failures {
		if f.Op != op || (f.Workload != "" && f.Workload != workloadID) {
			continue
		}
		d.calls[i]++
		n := d.calls[i]
		every := max(1, f.Every)
		switch {
		case n%every != 0, f.Times > 0 && n/every > f.Times:
			continue
		case f.Probability > 0 && d.rand.Float64() >= f.Probability:
			continue
		}
		return f.error(op)
	}
	return nil
}

func (f Failure) error(op Op) error {
	cause := errors.New("simulated failure")
	if f.Message != "" {
		cause = errors.New(f.Message)
	}
	if f.LoseReply {
		cause = fmt.Errorf("%w: %w", errReplyLost, cause)
	}
	if f.Class == nil {
		return fmt.Errorf("%s: %w", op, cause)
	}
	return &drivers.Error{Class: f.Class, Op: string(op), Err: cause}
}

// steeredFailure returns the failure of SIM_FAIL that applies to a call.
func (e *Engine) steeredFailure(op Op, workloadID string, fail []Failure) error {
	i := slices.IndexFunc(fail, func(f Failure) bool { return f.Op == op })
	if i < 0 {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	counts := e.failed[workloadID]
	if counts == nil {
		counts = map[string]int{}
		e.failed[workloadID] = counts
	}
	if counts[string(op)]++; fail[i].Times > 0 && counts[string(op)] > fail[i].Times {
		return nil
	}
	return fail[i].error(op)
}
