package sim

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

type containerState string

const (
	stateCreated    containerState = "created"
	stateRunning    containerState = "running"
	stateRestarting containerState = "restarting"
	stateExited     containerState = "exited"
)

// life is the time between one start of a container and its end.
type life struct {
	Start    time.Time `json:"start"`
	End      time.Time `json:"end,omitzero"`
	Ended    bool      `json:"ended,omitempty"`
	ExitCode int       `json:"exitCode,omitempty"`
	OOM      bool      `json:"oom,omitempty"`
	// Starts is how often containers started with the workload's volumes, this life
	// included.
	Starts int `json:"starts,omitempty"`
}

// maxLives bounds what is remembered of a crash loop; the logs of older lives are
// gone, as after a log rotation.
const maxLives = 64

// record is what the engine remembers of a container; it goes into the state file.
type record struct {
	ID       string                  `json:"id"`
	Name     string                  `json:"name"`
	Workload string                  `json:"workload"`
	Node     string                  `json:"node"`
	Role     string                  `json:"role"`
	Instance int                     `json:"instance"`
	Revision string                  `json:"revision"`
	Sequence uint64                  `json:"sequence"`
	Command  string                  `json:"command"`
	ImageID  string                  `json:"imageId"`
	Spec     *drivers.WorkloadSpec   `json:"spec"`
	Created  time.Time               `json:"created"`
	State    containerState          `json:"state"`
	Stopped  bool                    `json:"stopped,omitempty"`
	Lives    []life                  `json:"lives,omitempty"`
	Dropped  int                     `json:"droppedLives,omitempty"`
	Restarts int                     `json:"restarts,omitempty"`
	Address  string                  `json:"address,omitempty"`
	Ports    []drivers.PublishedPort `json:"ports,omitempty"`
	// RestartAt is when the restart policy starts a container that is stateRestarting.
	RestartAt time.Time `json:"restartAt,omitzero"`
}

// container is one container of the engine; the engine's lock guards it.
type container struct {
	record
	steer   steering
	secrets map[string]string
	health  healthState
	removed bool
	// cancel stops the timer of the next thing that happens by itself; armed tells a
	// timer that fired too late to be stopped from the present one.
	cancel func() bool
	armed  uint64
}

// last is the present or most recent life, nil before the first start.
func (c *container) last() *life {
	if len(c.Lives) == 0 {
		return nil
	}
	return &c.Lives[len(c.Lives)-1]
}

// healthAt is the health of a running container at a time, and for how long.
func (c *container) healthAt(now time.Time) (healthState, time.Duration) {
	if c.Spec.Health == nil {
		return healthNone, -1
	}
	return c.steer.health.at(c.Spec.Health, now.Sub(c.last().Start))
}

// exitAt is when the present life ends by itself; ok is false when it does not.
func (c *container) exitAt() (time.Time, bool) {
	if !c.steer.exits || (c.steer.exitTimes > 0 && c.Dropped+len(c.Lives) > c.steer.exitTimes) {
		return time.Time{}, false
	}
	return c.last().Start.Add(c.steer.exitAfter), true
}

// next is the time of the next thing that happens by itself.
func (c *container) next(now time.Time) (time.Time, bool) {
	switch c.State {
	case stateRestarting:
		return c.RestartAt, true
	case stateRunning:
		at, ok := c.exitAt()
		if _, d := c.healthAt(now); d >= 0 {
			if h := now.Add(d); !ok || h.Before(at) {
				at, ok = h, true
			}
		}
		return at, ok
	}
	return time.Time{}, false
}

// advance lets happen what is due. It is called by the container's timer and once
// after the state was read from a file; each step happens at its own time.
func (e *Engine) advance(c *container) {
	now := e.cfg.Clock.Now()
	// A container that exits at once with a short pause could have thousands of lives
	// due after a long time in a file: the pauses double, which bounds them.
	for !c.removed {
		switch {
		case c.State == stateRestarting && !c.RestartAt.After(now):
			c.Restarts++
			e.startLife(c, c.RestartAt)
			continue
		case c.State == stateRunning:
			if at, ok := c.exitAt(); ok && !at.After(now) {
				e.exit(c, at, c.steer.exitCode, c.steer.oom)
				continue
			}
			if h, _ := c.healthAt(now); h != c.health {
				c.health = h
				e.touch(c, drivers.ChangeHealth, now)
			}
		}
		break
	}
	e.arm(c)
}

// arm sets the timer for the next thing that happens by itself.
func (e *Engine) arm(c *container) {
	if c.cancel != nil {
		if c.cancel() {
			e.timers.Done()
		}
		c.cancel = nil
	}
	if c.removed || e.closed {
		return
	}
	now := e.cfg.Clock.Now()
	at, ok := c.next(now)
	if !ok {
		return
	}
	c.armed++
	armed := c.armed
	e.timers.Add(1)
	c.cancel = e.cfg.Clock.AfterFunc(at.Sub(now), func() {
		defer e.timers.Done()
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.closed || c.removed || c.armed != armed {
			return
		}
		c.cancel = nil
		e.advance(c)
		// Nobody waits for this change to be on disk; a lost one happens again.
		_ = e.save()
	})
}

// startLife begins a life of c.
func (e *Engine) startLife(c *container, at time.Time) {
	if len(c.Lives) == maxLives {
		c.Lives = slices.Delete(c.Lives, 0, 1)
		c.Dropped++
	}
	c.Lives = append(c.Lives, life{Start: at, Starts: e.countStart(c)})
	c.State, c.Stopped = stateRunning, false
	c.health, _ = c.healthAt(at)
	e.note(c, EntryStarted, at)
	e.touch(c, drivers.ChangeStarted, at)
}

// countStart counts a start in the named volumes of c and returns the highest count: a
// volume that was made anew counts from 1.
func (e *Engine) countStart(c *container) int {
	highest := 0
	for _, v := range c.Spec.Volumes {
		if v.Type != drivers.VolumeNamed {
			continue
		}
		if have, ok := e.volumes[volumeName(c.Spec, v)]; ok {
			have.Starts++
			highest = max(highest, have.Starts)
		}
	}
	return highest
}

// Kill ends the life of a container from outside, as an operator's SIGKILL does.
// Errors: ErrNotFound when none of that ID runs.
func (e *Engine) Kill(containerID string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, ok := e.containers[containerID]
	if !ok || c.State != stateRunning {
		return &drivers.Error{Class: drivers.ErrNotFound, Op: "kill container " + containerID}
	}
	e.exit(c, e.cfg.Clock.Now(), 137, false)
	e.arm(c)
	return e.save()
}

// exit ends the life of c by itself and applies the restart policy.
func (e *Engine) exit(c *container, at time.Time, code int, oom bool) {
	if oom {
		code = 137
	}
	l := c.last()
	l.End, l.Ended, l.ExitCode, l.OOM = at, true, code, oom
	c.State, c.health = stateExited, healthNone
	e.note(c, EntryExited, at)
	kind := drivers.ChangeExited
	if oom {
		kind = drivers.ChangeOOMKilled
	}
	if e.restarts(c, code) {
		// Docker doubles the pause with every restart and starts anew after 10 s up.
		pause := e.cfg.RestartBackoff << min(c.Restarts, 9)
		if at.Sub(l.Start) >= 10*time.Second {
			pause = e.cfg.RestartBackoff
		}
		c.State, c.RestartAt = stateRestarting, at.Add(min(pause, time.Minute))
	} else {
		e.releasePorts(c)
	}
	e.touch(c, kind, at)
}

func (e *Engine) restarts(c *container, code int) bool {
	if c.Role != drivers.RoleInstance {
		return false
	}
	p := c.Spec.Restart
	switch p.Policy {
	case drivers.RestartNo:
		return false
	case drivers.RestartOnFailure:
		return code != 0 && (p.Attempts == 0 || c.Restarts < p.Attempts)
	}
	return true
}

// touch wakes who waits for the workload and tells the watchers.
func (e *Engine) touch(c *container, kind drivers.ChangeKind, at time.Time) {
	e.wake(c.Workload)
	if len(e.watchers) == 0 || c.Role != drivers.RoleInstance {
		return
	}
	ch := drivers.Change{WorkloadID: c.Workload, Kind: kind, Instance: c.Instance, InstanceID: c.ID, At: at}
	if l := c.last(); l != nil && l.Ended {
		ch.ExitCode = l.ExitCode
	}
	e.publish(c.Node, ch)
}

// wait returns a channel that is closed at the next change of the workload. The lock is
// held.
func (e *Engine) wait(workloadID string) <-chan struct{} {
	ch, ok := e.waiting[workloadID]
	if !ok {
		ch = make(chan struct{})
		e.waiting[workloadID] = ch
	}
	return ch
}

func (e *Engine) wake(workloadID string) {
	if ch, ok := e.waiting[workloadID]; ok {
		close(ch)
		delete(e.waiting, workloadID)
	}
}

// isUp says whether a container needs no start: it runs, or it is a job that ended well.
func (e *Engine) isUp(c *container) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch c.State {
	case stateRunning, stateRestarting:
		return true
	case stateExited:
		return !c.Stopped && c.last().ExitCode == 0
	}
	return false
}

func (e *Engine) isRunning(c *container) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return c.State == stateRunning
}

func (e *Engine) everRan(c *container) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(c.Lives) > 0
}

// unlike says whether a container's life is another than what a baseline recorded. A
// nil baseline recorded nothing, and every container is to be restarted.
func (e *Engine) unlike(c *container, baseline []drivers.InstanceMark) bool {
	if baseline == nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	st := c.status()
	return !slices.Contains(baseline, drivers.InstanceMark{InstanceID: st.ID, StartedAt: st.StartedAt})
}

// labels are the container's labels as an engine that keeps labels would show them.
func (c *container) labels(spec string) map[string]string {
	ns, name, _ := strings.Cut(c.Workload, "/")
	out := map[string]string{}
	for k, v := range c.Spec.Labels {
		out[k] = v
	}
	out[drivers.LabelWorkload] = c.Workload
	out[drivers.LabelNamespace] = ns
	out[drivers.LabelName] = name
	out[drivers.LabelNode] = c.Node
	out[drivers.LabelSequence] = strconv.FormatUint(c.Sequence, 10)
	out[drivers.LabelCommand] = c.Command
	out[drivers.LabelInstance] = strconv.Itoa(c.Instance)
	out[drivers.LabelRevision] = c.Revision
	out[drivers.LabelRole] = c.Role
	out[drivers.LabelSpec] = spec
	return out
}

// await waits until done says so. done is called with the lock held, at once and after
// every change of c. Errors: the cause of ctx.
func (e *Engine) await(ctx context.Context, c *container, done func() (bool, time.Duration)) error {
	for {
		e.mu.Lock()
		ok, recheck := done()
		if ok {
			e.mu.Unlock()
			return nil
		}
		changed := e.wait(c.Workload)
		e.mu.Unlock()
		due := make(chan struct{})
		stop := func() bool { return true }
		if recheck > 0 {
			stop = e.cfg.Clock.AfterFunc(recheck, func() { close(due) })
		}
		select {
		case <-changed:
		case <-due:
		case <-ctx.Done():
			stop()
			return context.Cause(ctx)
		}
		stop()
	}
}
