package docker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// evidenceLines is how many log lines a *drivers.RolloutError carries.
const evidenceLines = 20

// gate is what an instance must show before it counts.
type gate struct {
	spec *drivers.WorkloadSpec
	// monitor is how long it must stay up.
	monitor time.Duration
	// health says whether its health check must pass.
	health bool
	// fresh says that the instance was started just now: every restart counts against
	// it, and its time begins now. Otherwise only what happens from now on counts.
	fresh bool
}

// healthSlack is what an instance may take beyond the time in which its checks must
// have decided.
const healthSlack = 10 * time.Second

// pass waits until the instance counts. It returns its last state, or a
// *drivers.RolloutError with evidence.
func (d *Driver) pass(ctx context.Context, c inspected, g gate) (inspected, error) {
	d.adopt(c)
	restarts, life := c.RestartCount, c.State.StartedAt
	if g.fresh {
		restarts = 0
	}
	watch, stop := d.startWatch(ctx, c, g)
	defer stop()
	for {
		if !c.State.Running || c.State.Restarting || c.RestartCount != restarts || c.State.StartedAt != life {
			return d.judgeEnd(ctx, c, g)
		}
		state, output := d.healthOf(c, g.spec)
		waitsForHealth := g.health && state != container.NoHealthcheck
		if waitsForHealth && state == container.Unhealthy {
			return c, d.failed(ctx, c, &drivers.RolloutError{Reason: "Unhealthy", HealthOutput: output,
				Message: fmt.Sprintf("instance %d is unhealthy", c.ordinal)})
		}
		if watch.monitored() && (!waitsForHealth || state == container.Healthy) {
			return c, nil
		}
		expired, err := watch.wait(ctx, d.probes.changes(c.ID), waitsForHealth)
		if err != nil {
			return c, err
		}
		if expired {
			return c, d.failed(ctx, c, &drivers.RolloutError{Reason: "DeadlineExceeded", HealthOutput: output,
				Message: fmt.Sprintf("instance %d was not healthy in time", c.ordinal)})
		}
		next, err := d.inspect(ctx, c.ID)
		if cerrdefs.IsNotFound(err) {
			return c, &drivers.RolloutError{Reason: "Removed", Instance: c.ordinal,
				Message: fmt.Sprintf("instance %d was removed from outside", c.ordinal)}
		}
		if err != nil {
			return c, classify("inspect container "+c.name, err)
		}
		c.InspectResponse = next
		d.adopt(c)
	}
}

// gateWatch wakes pass when something may have changed.
type gateWatch struct {
	exited  <-chan struct{}
	until   time.Time
	monitor *time.Timer
	poll    *time.Ticker
	expiry  *time.Timer
}

func (d *Driver) startWatch(ctx context.Context, c inspected, g gate) (*gateWatch, func()) {
	remaining := g.monitor
	if !g.fresh {
		// An instance that has been up all the time need not be watched again. Should
		// the engine's clock be behind ours, the window is cut short, never stretched.
		if t, err := time.Parse(time.RFC3339Nano, c.State.StartedAt); err == nil {
			remaining = min(g.monitor, g.monitor-time.Since(t))
		}
	}
	w := &gateWatch{until: time.Now().Add(remaining), monitor: time.NewTimer(remaining)}
	interval, bound := time.Second, time.Hour
	if h := g.spec.Health; h != nil {
		interval = h.Interval.D() / 4
		bound = h.StartPeriod.D() + time.Duration(h.Retries+1)*(h.Interval.D()+h.Timeout.D()) + healthSlack
	}
	w.poll = time.NewTicker(min(max(interval, 100*time.Millisecond), time.Second))
	w.expiry = time.NewTimer(bound)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	exited := make(chan struct{}, 1)
	w.exited = exited
	if remaining <= 0 && !g.health {
		close(done)
	} else {
		go func() {
			defer close(done)
			d.awaitExit(ctx, c.ID, exited)
		}()
	}
	return w, func() {
		cancel()
		w.monitor.Stop()
		w.poll.Stop()
		w.expiry.Stop()
		<-done
	}
}

// awaitExit sends when the container stops running. An engine that does not answer
// sends nothing: the polls will tell.
func (d *Driver) awaitExit(ctx context.Context, id string, exited chan<- struct{}) {
	results, errs := d.cli.ContainerWait(ctx, id, container.WaitConditionNotRunning)
	// Exactly one of the two delivers, when ctx ends at the latest.
	select {
	case <-results:
		exited <- struct{}{}
	case <-errs:
	}
}

func (w *gateWatch) monitored() bool { return !time.Now().Before(w.until) }

// wait returns when the instance should be looked at again; expired says that its
// health took too long.
func (w *gateWatch) wait(ctx context.Context, probe <-chan struct{}, health bool) (expired bool, err error) {
	var poll, expiry <-chan time.Time
	if health {
		poll, expiry = w.poll.C, w.expiry.C
	}
	select {
	case <-w.exited:
	case <-w.monitor.C:
	case <-poll:
	case <-probe:
	case <-expiry:
		return true, nil
	case <-ctx.Done():
		return false, fmt.Errorf("wait for instance: %w", context.Cause(ctx))
	}
	return false, nil
}

// judgeEnd decides about an instance that ended or was restarted.
func (d *Driver) judgeEnd(ctx context.Context, c inspected, g gate) (inspected, error) {
	c, err := d.settleExit(ctx, c)
	if err != nil {
		return c, err
	}
	if !c.State.Running && !c.State.Restarting && c.State.ExitCode == 0 && c.State.Error == "" && isJob(g.spec) {
		return c, nil
	}
	f := &drivers.RolloutError{Reason: "Crashed"}
	_, f.HealthOutput = d.healthOf(c, g.spec)
	code, oom := d.lastEnd(ctx, c)
	if code != nil {
		f.ExitCode = *code
	}
	switch {
	case oom:
		f.Reason = "OOMKilled"
		f.Message = fmt.Sprintf("instance %d was killed because it used more memory than its limit", c.ordinal)
	case code != nil:
		f.Message = fmt.Sprintf("instance %d exited with code %d", c.ordinal, *code)
	default:
		f.Message = fmt.Sprintf("instance %d ended and was restarted by the engine", c.ordinal)
	}
	if c.State.Error != "" {
		f.Message += ": " + c.State.Error
	}
	return c, d.failed(ctx, c, f)
}

// lastEnd is how the instance last ended. Once the engine has started it again, its
// state tells nothing of that any more, and a wait's exit code may be the new life's
// (0), so the engine's history of events is asked. code is nil when it is not known.
func (d *Driver) lastEnd(ctx context.Context, c inspected) (code *int, oom bool) {
	if !c.State.Running || c.State.Restarting {
		return &c.State.ExitCode, c.State.OOMKilled
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.PingTimeout)
	defer cancel()
	// Up to the start of the present life, by the engine's own clock, so that the
	// stream ends by itself.
	messages, errs := d.cli.Events(ctx, events.ListOptions{Since: c.Created, Until: c.State.StartedAt,
		Filters: filters.NewArgs(filters.Arg("container", c.ID),
			filters.Arg("event", string(events.ActionDie)), filters.Arg("event", string(events.ActionOOM)))})
	killing := false
	for {
		select {
		case m := <-messages:
			if m.Action == events.ActionOOM {
				killing = true
			} else if n, err := strconv.Atoi(m.Actor.Attributes["exitCode"]); err == nil {
				code, oom, killing = &n, killing, false
			}
		case <-errs:
			return code, oom || killing
		}
	}
}

// settleExit reads a killed container again: the kernel's account of an OOM kill can
// reach the engine just after the exit.
func (d *Driver) settleExit(ctx context.Context, c inspected) (inspected, error) {
	const sigkilled = 137
	if c.State.Running || c.State.ExitCode != sigkilled || c.State.OOMKilled || c.HostConfig.Memory == 0 {
		return c, nil
	}
	timer := time.NewTimer(100 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return c, fmt.Errorf("wait for instance: %w", context.Cause(ctx))
	}
	next, err := d.inspect(ctx, c.ID)
	if err == nil && next.State.StartedAt == c.State.StartedAt {
		c.InspectResponse = next
	}
	return c, nil
}

// failed completes a RolloutError with what the instance printed.
func (d *Driver) failed(ctx context.Context, c inspected, f *drivers.RolloutError) error {
	f.Instance = c.ordinal
	f.LastLogs = d.lastLogs(ctx, c.ID, evidenceLines)
	return f
}

// isFailure says whether err is a verdict about the workload, not about the engine.
func isFailure(err error) bool {
	var f *drivers.RolloutError
	return errors.As(err, &f)
}
