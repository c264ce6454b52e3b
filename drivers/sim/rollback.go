package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// cleanTimeout bounds what is done after a rollout went wrong, besides the graces.
const cleanTimeout = time.Minute

// fail does what is left to do after err and returns the error for the caller.
func (r *rollout) fail(ctx context.Context, err error) error {
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout+r.spec.Grace())
	defer cancel()
	cause := context.Cause(ctx)
	switch {
	case cause == nil && errors.Is(err, drivers.ErrStale):
		// Somebody else holds the workload now and may have adopted what runs; what was
		// never started is of use to nobody.
		return errors.Join(err, r.discard(clean, true))
	case errors.Is(cause, drivers.ErrStale):
		return errors.Join(err, r.discard(clean, r.cmd.Check(clean) != nil))
	case errors.Is(cause, context.DeadlineExceeded):
		err = &drivers.RolloutError{Reason: "DeadlineExceeded", Instance: -1,
			Message: fmt.Sprintf("%s did not come up within its deadline", r.spec.ID())}
	case cause != nil, r.unfenced, errors.Is(err, drivers.ErrUnavailable):
		// The next attempt adopts what is there.
		return err
	}
	return r.rollBack(clean, err)
}

// discard removes what this attempt made; with unstarted, only what never ran.
func (r *rollout) discard(ctx context.Context, unstarted bool) error {
	var errs []error
	for _, c := range r.made {
		if !unstarted {
			errs = append(errs, r.driver.stop(ctx, c))
		}
		errs = append(errs, r.driver.do(ctx, OpRemove, c.Workload, &r.steer, func() error { return r.engine.remove(c, unstarted) }))
	}
	errs = append(errs, r.engine.dropVolumes(r.spec.ID(), r.volumes), r.engine.dropNetworks(r.driver.env.Node, r.spec.Namespace))
	return errors.Join(errs...)
}

// rollBack puts back what ran before and returns err with what became of it.
func (r *rollout) rollBack(ctx context.Context, err error) error {
	if !r.spec.RollsBack() {
		return err
	}
	switch lost := r.fence(ctx); {
	case errors.Is(lost, drivers.ErrStale):
		return errors.Join(lost, r.discard(ctx, true))
	case lost != nil:
		return errors.Join(err, lost)
	}
	put, backErr := r.putBack(ctx)
	var fault *drivers.RolloutError
	if !errors.As(err, &fault) {
		return errors.Join(err, backErr)
	}
	fault.RolledBack = put && backErr == nil
	if backErr != nil {
		fault.RollbackError = backErr.Error()
	}
	return fault
}

// putBack removes what the command made and starts what ran before. It says whether
// there was anything to put back.
func (r *rollout) putBack(ctx context.Context) (bool, error) {
	var failed, rest []*container
	for _, c := range r.engine.of(r.spec.ID(), r.driver.env.Node) {
		if r.mine(c) {
			failed = append(failed, c)
		} else if c.Role == drivers.RoleInstance {
			rest = append(rest, c)
		}
	}
	target := r.target(rest)
	if len(target) > 0 {
		r.report(drivers.PhaseRollingBack, -1)
	}
	errs := []error{r.driver.stopAll(ctx, failed)}
	for _, c := range failed {
		errs = append(errs, r.driver.remove(ctx, c))
	}
	for _, c := range target {
		errs = append(errs, r.driver.start(ctx, c))
	}
	for _, c := range target {
		errs = append(errs, r.driver.gate(ctx, c, gate{monitor: min(c.Spec.Monitor(), drivers.DefaultMonitor)}))
	}
	// What is left are halves of rollouts that never became good.
	for _, c := range rest {
		if slices.Contains(target, c) {
			continue
		}
		errs = append(errs, r.driver.stop(ctx, c), r.driver.remove(ctx, c))
	}
	if len(rest) == 0 {
		errs = append(errs, r.engine.dropVolumes(r.spec.ID(), r.volumes), r.engine.dropNetworks(r.driver.env.Node, r.spec.Namespace))
	}
	err := errors.Join(errs...)
	if len(target) > 0 && err == nil {
		r.report(drivers.PhaseRolledBack, -1)
	}
	return len(target) > 0, err
}

// mine says whether the command made c, in this attempt or an earlier one.
func (r *rollout) mine(c *container) bool {
	return slices.Contains(r.made, c) || (r.cmd.ID != "" && c.Command == r.cmd.ID && c.Sequence == r.cmd.Sequence)
}

// target picks the revision to go back to: the last good one or, when that is unknown,
// the newest.
func (r *rollout) target(rest []*container) []*container {
	if len(rest) == 0 {
		return nil
	}
	revision := r.cmd.GoodRevision
	if !slices.ContainsFunc(rest, func(c *container) bool { return c.Revision == revision }) {
		newest := slices.MaxFunc(rest, func(a, b *container) int { return a.Created.Compare(b.Created) })
		revision = newest.Revision
	}
	return slices.DeleteFunc(slices.Clone(rest), func(c *container) bool { return c.Revision != revision })
}
