package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// runHook runs the pre-deploy hook to its end. It runs once per command: its container
// stays until the rollout is decided, and a repeated attempt reads the outcome from it.
// It does not run where the revision has instances already, since they were made after
// it had succeeded.
func (r *rollout) runHook(ctx context.Context) error {
	if r.spec.PreDeploy == nil || r.spec.ReplicaCount() == 0 {
		return nil
	}
	for _, o := range instances(r.objects) {
		if o.revision == r.revision {
			return nil
		}
	}
	o, err := r.create(ctx, hook)
	if err != nil {
		return err
	}
	r.report(drivers.PhaseHook, wholeWorkload, "", nil)
	if o.state == container.StateCreated {
		if err := r.fence(ctx); err != nil {
			return err
		}
		if err := r.d.startContainer(ctx, o); err != nil {
			var f *drivers.RolloutError
			if errors.As(err, &f) {
				f.Reason = "HookFailed"
			}
			return err
		}
	}
	return r.awaitHook(ctx, o)
}

func (r *rollout) awaitHook(ctx context.Context, o object) error {
	c, timedOut, err := r.d.awaitEnd(ctx, o, r.spec.PreDeploy.Timeout.D())
	if err != nil {
		return err
	}
	if !timedOut && c.State.ExitCode == 0 && !c.State.OOMKilled {
		return nil
	}
	f := &drivers.RolloutError{Reason: "HookFailed", ExitCode: c.State.ExitCode,
		Message: fmt.Sprintf("the pre-deploy hook exited with code %d", c.State.ExitCode)}
	switch {
	case timedOut:
		f.Message = fmt.Sprintf("the pre-deploy hook did not end within %s", r.spec.PreDeploy.Timeout)
	case c.State.OOMKilled:
		f.Message = "the pre-deploy hook was killed because it used more memory than its limit"
	}
	return r.d.failed(ctx, c, f)
}

// awaitEnd waits until a container has ended, or has run for longer than limit.
func (d *Driver) awaitEnd(ctx context.Context, o object, limit time.Duration) (c inspected, timedOut bool, err error) {
	for {
		r, err := d.inspect(ctx, o.id)
		if err != nil {
			return c, false, classify("inspect container "+o.name, err)
		}
		c = inspected{object: o, InspectResponse: r}
		if !c.State.Running {
			return c, false, nil
		}
		left := limit
		if started, err := time.Parse(time.RFC3339Nano, c.State.StartedAt); err == nil {
			left = min(limit, limit-time.Since(started))
		}
		if left <= 0 {
			return c, true, nil
		}
		if err := d.awaitExitFor(ctx, o.id, left); err != nil {
			return c, false, err
		}
	}
}

// awaitExitFor returns when the container stops running, or after d.
func (d *Driver) awaitExitFor(ctx context.Context, id string, limit time.Duration) error {
	waitCtx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	results, errs := d.cli.ContainerWait(waitCtx, id, container.WaitConditionNotRunning)
	select {
	case <-results:
		return nil
	case err := <-errs:
		if ctx.Err() != nil {
			return fmt.Errorf("wait for container: %w", context.Cause(ctx))
		}
		if waitCtx.Err() != nil {
			return nil
		}
		return classify("wait for container "+id, err)
	}
}
