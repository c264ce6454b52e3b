package docker

import (
	"context"
	"errors"
	"fmt"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sync/errgroup"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// bringUp makes the instances of the wanted revision run, and stops those of other
// revisions. It removes none: until the rollout has succeeded they are the way back.
func (r *rollout) bringUp(ctx context.Context) error {
	wanted := make([]int, r.spec.ReplicaCount())
	for i := range wanted {
		wanted[i] = i
	}
	if !r.replaces() {
		return r.startTogether(ctx, wanted)
	}
	return r.replace(ctx, wanted)
}

// replaces says whether instances of other revisions are in the way.
func (r *rollout) replaces() bool {
	for _, o := range instances(r.objects) {
		if o.revision != r.revision && o.up() {
			return true
		}
	}
	return false
}

// startTogether starts all instances at once: there is nothing they could disturb.
func (r *rollout) startTogether(ctx context.Context, ordinals []int) error {
	made := make([]object, len(ordinals))
	if !r.allUp(ordinals) {
		r.report(drivers.PhaseCreating, wholeWorkload, "", nil)
	}
	err := parallel(ctx, len(ordinals), func(ctx context.Context, i int) (err error) {
		made[i], err = r.create(ctx, ordinals[i])
		return err
	})
	if err != nil {
		return err
	}
	fresh := anyDown(made)
	if fresh {
		if err := r.fence(ctx); err != nil {
			return err
		}
		r.report(drivers.PhaseStarting, wholeWorkload, "", nil)
	}
	started := make([]inspected, len(made))
	err = parallel(ctx, len(made), func(ctx context.Context, i int) (err error) {
		started[i], err = r.startOrRecreate(ctx, made[i])
		return err
	})
	if err != nil {
		return err
	}
	if fresh {
		r.reportUp(started)
	}
	g, ctx := errgroup.WithContext(ctx)
	for i := range started {
		g.Go(func() (err error) {
			started[i], err = r.gate(ctx, started[i], !made[i].up())
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err //nolint:wrapcheck // the gate's errors say what they are about
	}
	r.started = started
	return nil
}

func (r *rollout) allUp(ordinals []int) bool {
	for _, ordinal := range ordinals {
		if o, ok := r.find(instanceName(r.spec, r.revision, ordinal)); !ok || !o.up() {
			return false
		}
	}
	return true
}

func anyDown(objects []object) bool {
	for _, o := range objects {
		if !o.up() {
			return true
		}
	}
	return false
}

// startOrRecreate starts an instance, and makes it anew when it disappeared: a worker
// that lost its claim removes what it made and never started, which may be what this
// one adopted.
func (r *rollout) startOrRecreate(ctx context.Context, o object) (inspected, error) {
	if c, done := r.completed(ctx, o); done {
		return c, nil
	}
	const attempts = 3
	for attempt := 1; ; attempt++ {
		c, err := r.start(ctx, o)
		if !errors.Is(err, errGone) || attempt == attempts {
			return c, err
		}
		r.forget(o.id)
		if o, err = r.create(ctx, o.ordinal); err != nil {
			return inspected{}, err
		}
	}
}

// completed says whether an instance is a job that has done its work, which a repeated
// deploy must not have done twice.
func (r *rollout) completed(ctx context.Context, o object) (inspected, bool) {
	if o.state != container.StateExited || !isJob(r.spec) {
		return inspected{}, false
	}
	c, err := r.d.inspect(ctx, o.id)
	if err != nil || c.State.Status != container.StateExited || c.State.ExitCode != 0 || c.State.Error != "" {
		return inspected{}, false
	}
	return inspected{object: o, InspectResponse: c}, true
}

func (r *rollout) gate(ctx context.Context, c inspected, fresh bool) (inspected, error) {
	return r.d.pass(ctx, c, gate{spec: r.spec, monitor: r.spec.Monitor(), health: true, fresh: fresh})
}

// replace swaps the instances for those of the wanted revision, some at a time.
func (r *rollout) replace(ctx context.Context, ordinals []int) error {
	total := len(ordinals)
	r.report(drivers.PhaseUpdating, wholeWorkload, fmt.Sprintf("%s, %d at a time", r.spec.UpdateOrder(), r.spec.Update.Parallelism),
		&drivers.Progress{Total: int64(total)})
	for done := 0; done < total; {
		batch := ordinals[done:min(done+max(r.spec.Update.Parallelism, 1), total)]
		g, groupCtx := errgroup.WithContext(ctx)
		for _, ordinal := range batch {
			g.Go(func() error { return r.replaceOne(groupCtx, ordinal) })
		}
		if err := g.Wait(); err != nil {
			return err //nolint:wrapcheck // replaceOne's errors say what they are about
		}
		done += len(batch)
		r.report(drivers.PhaseUpdating, wholeWorkload, fmt.Sprintf("%d of %d instances replaced", done, total),
			&drivers.Progress{Current: int64(done), Total: int64(total)})
	}
	return nil
}

// replaceOne brings up one instance and stops the one of another revision with its
// ordinal, in the order the spec asks for.
func (r *rollout) replaceOne(ctx context.Context, ordinal int) error {
	o, err := r.create(ctx, ordinal)
	if err != nil {
		return err
	}
	if err := r.fence(ctx); err != nil {
		return err
	}
	stopFirst := r.spec.UpdateOrder() == drivers.StopFirst
	if stopFirst {
		if err := r.stopOthers(ctx, ordinal); err != nil {
			return err
		}
	}
	c, err := r.startOrRecreate(ctx, o)
	if err != nil {
		return err
	}
	if _, err := r.gate(ctx, c, !o.up()); err != nil {
		return err
	}
	if stopFirst {
		return nil
	}
	if err := r.fence(ctx); err != nil {
		return err
	}
	return r.stopOthers(ctx, ordinal)
}

// stopOthers stops what runs of other revisions under an ordinal, and leaves it there.
// With fewer instances than before, the surplus goes at the end.
func (r *rollout) stopOthers(ctx context.Context, ordinal int) error {
	for _, o := range instances(r.objects) {
		if o.ordinal != ordinal || o.revision == r.revision || !o.up() {
			continue
		}
		r.report(drivers.PhaseStopping, ordinal, "", nil)
		r.noteStopped(o.id)
		if err := r.d.stop(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// report sends a step. count carries the numbers, if any.
func (r *rollout) report(phase drivers.Phase, instance int, message string, count *drivers.Progress) {
	p := drivers.Progress{}
	if count != nil {
		p = *count
	}
	p.Phase, p.Instance, p.Message = phase, instance, r.secrets.text(message)
	r.cmd.Report(p)
}

// reportUp says that the instances run, before they are watched any longer.
func (r *rollout) reportUp(started []inspected) {
	status := r.d.assemble(r.spec.ID(), started, nil)
	phase := status.Phase
	if phase == drivers.PhaseHealthy {
		phase = drivers.PhaseRunning
	}
	if phase != drivers.PhaseRunning {
		return
	}
	r.cmd.Report(drivers.Progress{Phase: phase, Instance: wholeWorkload, Status: status,
		Current: int64(len(started)), Total: int64(len(started))})
}
