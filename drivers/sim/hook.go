package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// errHookTimeout is the cause of a hook's context when its time is up.
var errHookTimeout = errors.New("hook timed out")

// runHook runs the pre-deploy hook to its end, once per command: its container stays
// until the rollout is decided and tells a repeated attempt how it went. Where the
// revision has instances, it had succeeded before they were made.
func (r *rollout) runHook(ctx context.Context) error {
	if r.spec.PreDeploy == nil || r.spec.ReplicaCount() == 0 {
		return nil
	}
	for _, c := range r.engine.of(r.spec.ID(), r.driver.env.Node) {
		if c.Role == drivers.RoleInstance && c.Revision == r.revision {
			return nil
		}
	}
	r.report(drivers.PhaseHook, -1)
	rec := r.record(drivers.RoleHook, 0, fmt.Sprintf("%s.%s.hook.%d", r.spec.Namespace, r.spec.Name, r.cmd.Sequence))
	c, err := r.make(ctx, rec, r.steer.forHook())
	if err != nil {
		return err
	}
	if !r.engine.everRan(c) {
		if err := r.fence(ctx); err != nil {
			return err
		}
		err := r.driver.do(ctx, OpHook, r.spec.ID(), &r.steer, func() error { return r.engine.start(c) })
		if err != nil {
			return err
		}
	}
	limit := r.spec.PreDeploy.Timeout.D()
	if limit <= 0 {
		limit = drivers.DefaultHookTimeout
	}
	timed, cancel := context.WithTimeoutCause(ctx, limit, errHookTimeout)
	defer cancel()
	var ended life
	err = r.engine.await(timed, c, func() (bool, time.Duration) {
		ended = *c.last()
		return ended.Ended, -1
	})
	fault := &drivers.RolloutError{Reason: "HookFailed", Instance: -1, ExitCode: ended.ExitCode, LastLogs: r.engine.lastLogs(c)}
	switch {
	case errors.Is(err, errHookTimeout):
		fault.Message = fmt.Sprintf("pre-deploy hook did not end within %s", limit)
	case err != nil:
		return fmt.Errorf("wait for hook of %s: %w", r.spec.ID(), err)
	case ended.ExitCode != 0:
		fault.Message = fmt.Sprintf("pre-deploy hook exited with code %d", ended.ExitCode)
	default:
		return nil
	}
	return fault
}

// dropHooks removes the containers of all hooks of the workload.
func (r *rollout) dropHooks(ctx context.Context) error {
	for _, c := range r.engine.of(r.spec.ID(), r.driver.env.Node) {
		if c.Role == drivers.RoleHook {
			if err := r.driver.remove(ctx, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// forHook is how the hook's container of the spec behaves.
func (s steering) forHook() steering {
	s.exits, s.exitAfter, s.exitCode, s.exitTimes, s.oom = true, s.hookTakes, s.hookExit, 0, false
	return s
}
