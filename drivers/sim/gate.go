package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// gate is what an instance has to pass.
type gate struct {
	monitor time.Duration
	// health says whether the health check has to pass too.
	health bool
}

// gateOf is the gate of a spec's instances.
func gateOf(spec *drivers.WorkloadSpec) gate { return gate{monitor: spec.Monitor(), health: true} }

// gate waits until an instance is up for good: it stays up for the monitor window, its
// health check passes, or it is a job that ends well. Errors: *drivers.RolloutError,
// the cause of ctx.
func (d *Driver) gate(ctx context.Context, c *container, g gate) error {
	e := d.engine
	var fault *drivers.RolloutError
	err := e.await(ctx, c, func() (bool, time.Duration) {
		var wait time.Duration
		fault, wait = e.verdict(c, g)
		return fault != nil || wait == 0, wait
	})
	if err != nil {
		return fmt.Errorf("wait for instance %d of %s: %w", c.Instance, c.Workload, err)
	}
	if fault == nil {
		return nil
	}
	fault.LastLogs = e.lastLogs(c)
	return fault
}

// verdict judges a container with the lock held: a fault, or how long to wait (negative
// for the next change, 0 when it is up).
func (e *Engine) verdict(c *container, g gate) (*drivers.RolloutError, time.Duration) {
	l := c.last()
	if c.removed || l == nil {
		return &drivers.RolloutError{Reason: "Crashed", Instance: c.Instance, Message: fmt.Sprintf("instance %d was removed from outside", c.Instance)}, 0
	}
	if ended := c.lastEnded(); ended != nil && (c.State != stateRunning || e.cfg.Clock.Now().Sub(l.Start) < g.monitor) {
		if ended.OOM {
			return &drivers.RolloutError{Reason: "OOMKilled", Instance: c.Instance, ExitCode: ended.ExitCode,
				Message: fmt.Sprintf("instance %d ran out of memory", c.Instance)}, 0
		}
		if c.State == stateExited && ended.ExitCode == 0 {
			return nil, 0
		}
		return &drivers.RolloutError{Reason: "Crashed", Instance: c.Instance, ExitCode: ended.ExitCode,
			Message: fmt.Sprintf("instance %d exited with code %d", c.Instance, ended.ExitCode)}, 0
	}
	if g.health && c.health == healthUnhealthy {
		return &drivers.RolloutError{Reason: "Unhealthy", Instance: c.Instance, HealthOutput: healthOutput,
			Message: fmt.Sprintf("instance %d is unhealthy", c.Instance)}, 0
	}
	if left := g.monitor - e.cfg.Clock.Now().Sub(l.Start); left > 0 {
		return nil, left
	}
	if g.health && c.health == healthStarting {
		return nil, -1
	}
	return nil, 0
}

// lastEnded is the life whose end counts: the present one when it ended, or the one
// before when the restart policy began the present one.
func (c *container) lastEnded() *life {
	l := c.last()
	if l.Ended {
		return l
	}
	if n := len(c.Lives); c.Restarts > 0 && n > 1 {
		return &c.Lives[n-2]
	}
	return nil
}
