package docker

import (
	"context"
	"errors"
	"fmt"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// rollBack puts back what ran before the attempt, and returns err with the outcome. It
// works beyond the end of ctx.
func (r *rollout) rollBack(ctx context.Context, err error) error {
	if !r.spec.RollsBack() {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout+2*r.spec.Grace())
	defer cancel()
	if fence := r.fence(ctx); fence != nil {
		if errors.Is(fence, drivers.ErrStale) {
			r.discard(ctx)
			return fence
		}
		// Not knowing whether the claim still holds, it is not for us to change anything.
		return fmt.Errorf("deploy %s: %w", r.spec.ID(), err)
	}
	r.report(drivers.PhaseRollingBack, wholeWorkload, err.Error(), nil)
	what, undone := r.putBack(ctx)
	var failure *drivers.RolloutError
	if !errors.As(err, &failure) && len(r.stopped) > 0 {
		// What ran was stopped for this: trying again would stop it again.
		failure = &drivers.RolloutError{Reason: "StartFailed", Message: err.Error(), Instance: wholeWorkload}
		err = failure
	}
	if !errors.As(err, &failure) {
		if undone != nil {
			return fmt.Errorf("deploy %s: %w; roll back: %v", r.spec.ID(), err, undone)
		}
		return fmt.Errorf("deploy %s: %w", r.spec.ID(), err)
	}
	switch {
	case undone != nil:
		failure.RollbackError = undone.Error()
	case what == sameAsBefore:
		failure.Message += "; it is the revision that ran before"
	case what == nothingBefore:
		failure.Message += "; nothing ran before, and nothing is left of it"
	default:
		failure.RolledBack = true
	}
	if failure.RolledBack {
		r.reportRolledBack(ctx, failure)
	}
	return failure
}

func (r *rollout) reportRolledBack(ctx context.Context, failure *drivers.RolloutError) {
	p := drivers.Progress{Phase: drivers.PhaseRolledBack, Reason: failure.Reason, Message: r.secrets.text(failure.Message), Instance: wholeWorkload}
	if status, err := r.d.GetStatus(ctx, r.spec.ID()); err == nil {
		p.Status = status
	}
	r.cmd.Report(p)
}

// backTo says what a roll back led to.
type backTo int

const (
	// previous: another revision runs again, or fewer instances of the same.
	previous backTo = iota
	// nothingBefore: the attempt was the first, nothing is left of it.
	nothingBefore
	// sameAsBefore: the attempt made nothing; what fails is what was there.
	sameAsBefore
)

// putBack removes what the command made and starts what ran before.
func (r *rollout) putBack(ctx context.Context) (backTo, error) {
	objects, err := r.d.observe(ctx, r.spec.ID())
	if err != nil {
		return 0, err
	}
	var ours, theirs []object
	var hooks []object
	for _, o := range objects {
		switch {
		case o.role != drivers.RoleInstance:
			hooks = append(hooks, o)
		case r.madeByCommand(o):
			ours = append(ours, o)
		default:
			theirs = append(theirs, o)
		}
	}
	target := rollbackRevision(theirs, r.cmd.GoodRevision)
	if len(ours) == 0 && len(hooks) == 0 && target == r.revision {
		return sameAsBefore, nil
	}
	// The ports and volumes of the new must be free before the old can run again.
	if err := r.d.discardAll(ctx, ours); err != nil {
		return 0, err
	}
	var back, leave []object
	for _, o := range theirs {
		if o.revision == target {
			back = append(back, o)
		} else {
			leave = append(leave, o)
		}
	}
	if err := r.startAgain(ctx, back); err != nil {
		return 0, err
	}
	if err := r.d.discardAll(ctx, append(leave, hooks...)); err != nil {
		return 0, err
	}
	if err := r.d.removeNewVolumes(ctx, r.spec.ID(), r.cmd); err != nil {
		return 0, err
	}
	if err := r.removeNewNetworks(ctx); err != nil {
		return 0, err
	}
	if len(back) == 0 {
		return nothingBefore, nil
	}
	return previous, nil
}

// madeByCommand says whether an instance was made for this command, by this attempt or
// an earlier one.
func (r *rollout) madeByCommand(o object) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.made[o.id] {
		return true
	}
	return r.cmd.ID != "" && o.labels[drivers.LabelCommand] == r.cmd.ID && o.sequence == r.cmd.Sequence
}

// rollbackRevision is the revision to go back to: the one of the last deploy that
// succeeded, or else the newest that ever ran. It is empty when there is none.
func rollbackRevision(candidates []object, good string) string {
	newest := ""
	var sequence uint64
	for _, o := range candidates {
		if good != "" && o.revision == good {
			return good
		}
		if neverRan(o) {
			continue
		}
		if newest == "" || o.sequence >= sequence {
			newest, sequence = o.revision, o.sequence
		}
	}
	return newest
}

func neverRan(o object) bool { return o.state == "created" }

// startAgain starts the instances that this or an interrupted attempt stopped, and
// waits until they stay up.
func (r *rollout) startAgain(ctx context.Context, back []object) error {
	return parallel(ctx, len(back), func(ctx context.Context, i int) error {
		o := back[i]
		spec := o.spec()
		if spec == nil {
			spec = r.spec
		}
		if !r.comesBack(ctx, o, spec) {
			return nil
		}
		c, err := r.start(ctx, o)
		if err != nil {
			return err
		}
		_, err = r.d.pass(ctx, c, gate{spec: spec, monitor: min(spec.Monitor(), drivers.DefaultMonitor), fresh: !o.up()})
		return err
	})
}

// comesBack says whether an instance is to run again: a job that has done its work must
// not do it twice.
func (r *rollout) comesBack(ctx context.Context, o object, spec *drivers.WorkloadSpec) bool {
	r.mu.Lock()
	stopped := r.stopped[o.id]
	r.mu.Unlock()
	if stopped || o.up() || !isJob(spec) {
		return true
	}
	c, err := r.d.inspect(ctx, o.id)
	return err != nil || c.State.ExitCode != 0
}

// removeNewNetworks removes the spec's networks if nothing else uses them.
func (r *rollout) removeNewNetworks(ctx context.Context) error {
	if len(r.spec.Networks) == 0 {
		return nil
	}
	return r.d.removeUnusedNetworks(ctx, r.spec.Namespace)
}

// discard removes what this attempt made, for one that was overtaken. It works beyond
// the end of ctx, and does what it can: the newer command removes the rest.
//
// While the claim is still ours, all of it goes. Once the claim is lost, its new holder
// may have adopted and started our containers, so only what never ran goes; the engine
// itself refuses to remove the others, and the new holder makes again what it misses.
// That goes for volumes and networks too: after a destroy nobody else would remove them.
func (r *rollout) discard(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout+r.spec.Grace())
	defer cancel()
	held := r.cmd.Check(ctx) == nil
	objects, err := r.d.observe(ctx, r.spec.ID())
	if err != nil {
		r.d.log.Warn("leave behind what a superseded deploy made", "workload", r.spec.ID(), "error", err)
		return
	}
	var ours []object
	for _, o := range objects {
		r.mu.Lock()
		made := r.made[o.id]
		r.mu.Unlock()
		if made {
			ours = append(ours, o)
		}
	}
	err = parallel(ctx, len(ours), func(ctx context.Context, i int) error {
		if held {
			return r.d.discardAll(ctx, ours[i:i+1])
		}
		if !neverRan(ours[i]) {
			return nil
		}
		return r.d.remove(ctx, ours[i].id, ours[i].name, false)
	})
	if err == nil {
		err = r.d.removeNewVolumes(ctx, r.spec.ID(), r.cmd)
	}
	if err == nil {
		err = r.removeNewNetworks(ctx)
	}
	if err != nil {
		r.d.log.Warn("leave behind what a superseded deploy made", "workload", r.spec.ID(), "error", err)
	}
}
