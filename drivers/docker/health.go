package docker

import (
	"context"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// eagerInterval is how often an instance is probed until it is first healthy, so that a
// deploy does not wait a whole interval for news. Failures still count once per
// interval.
const eagerInterval = 250 * time.Millisecond

// probes are the http and tcp health checks of running instances, which the engine
// cannot do: one goroutine per container, from its first sight until it stops running.
type probes struct {
	mu   sync.Mutex
	byID map[string]*probe
}

// probe is the health check of one container.
type probe struct {
	id, workloadID string
	ordinal        int
	check          drivers.HealthCheck
	cancel         context.CancelFunc

	mu      sync.Mutex
	state   string
	output  string
	changed chan struct{}

	// The rest belongs to the goroutine.
	targets []string
	// life is the engine's start time of the container's present life, since the
	// driver's own time at which it was first seen: the two clocks may differ.
	life        string
	since       time.Time
	streak      int
	lastCounted time.Time
}

// adopt starts the probe of a running container that has none. Everything the driver
// reads of an instance passes here, so that probes come back after the worker's or the
// instance's restart.
func (d *Driver) adopt(c inspected) {
	if !c.State.Running || c.State.Restarting {
		return
	}
	d.probes.mu.Lock()
	defer d.probes.mu.Unlock()
	if _, ok := d.probes.byID[c.ID]; ok {
		return
	}
	spec := c.spec()
	if !probed(spec) || d.life.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(d.life)
	p := &probe{id: c.ID, workloadID: c.workloadID, ordinal: c.ordinal, check: *spec.Health, cancel: cancel,
		state: container.Starting, changed: make(chan struct{})}
	p.aim(c.InspectResponse)
	if d.probes.byID == nil {
		d.probes.byID = make(map[string]*probe)
	}
	d.probes.byID[c.ID] = p
	d.running.Add(1)
	go func() {
		defer d.running.Done()
		defer cancel()
		d.runProbe(ctx, p)
	}()
}

// drop ends the probe of a container.
func (s *probes) drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.byID[id]; ok {
		p.cancel()
		delete(s.byID, id)
	}
}

// end is drop for a probe that ends by itself: there may be a next one already.
func (s *probes) end(p *probe) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[p.id] == p {
		delete(s.byID, p.id)
	}
}

// result is the present state of a container's probe; starting when it has none yet.
func (s *probes) result(id string) (state, output string) {
	state, output, _ = s.watch(id)
	return state, output
}

// watch is result with a channel that is closed when the state changes; it is nil when
// there is no probe.
func (s *probes) watch(id string) (state, output string, changed <-chan struct{}) {
	s.mu.Lock()
	p, ok := s.byID[id]
	s.mu.Unlock()
	if !ok {
		return container.Starting, "", nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state, p.output, p.changed
}

// changes is closed when the container's probe changes its mind; nil without a probe.
func (s *probes) changes(id string) <-chan struct{} {
	_, _, changed := s.watch(id)
	return changed
}

func (d *Driver) runProbe(ctx context.Context, p *probe) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		output, err := p.once(ctx, d.cfg.DialWorkload)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !d.reaim(ctx, p) {
			d.probes.end(p)
			return
		}
		if p.note(time.Now(), output, err) {
			d.health.publish(drivers.Change{WorkloadID: p.workloadID, Kind: drivers.ChangeHealth,
				Instance: p.ordinal, InstanceID: p.id, At: time.Now().UTC()})
		}
		timer.Reset(p.pause())
	}
}

// reaim looks up where the container is now, and says whether it still runs: after a
// restart it may have another address, and its start period begins anew.
func (d *Driver) reaim(ctx context.Context, p *probe) bool {
	c, err := d.inspect(ctx, p.id)
	if cerrdefs.IsNotFound(err) {
		return false
	}
	if err != nil {
		// Without the engine nothing can be told; the probe itself goes on.
		return true
	}
	if !c.State.Running || c.State.Restarting {
		return false
	}
	p.aim(c)
	return true
}

// aim works out where to probe.
func (p *probe) aim(c container.InspectResponse) {
	if c.State.StartedAt != p.life {
		if p.life != "" {
			p.set(container.Starting, "")
		}
		now := time.Now()
		// The first failure counts an interval after the start, as the engine's own
		// checks do: until then the instance may not listen yet.
		p.life, p.since, p.lastCounted, p.streak = c.State.StartedAt, now, now, 0
	}
	port := 0
	switch {
	case p.check.HTTP != nil:
		port = p.check.HTTP.Port
	case p.check.TCP != nil:
		port = p.check.TCP.Port
	}
	p.targets = probeTargets(c, port)
}

// note takes a result in and says whether the state changed.
func (p *probe) note(now time.Time, output string, err error) bool {
	if err == nil {
		p.streak = 0
		return p.set(container.Healthy, output)
	}
	text := err.Error()
	if output != "" {
		text = truncate(text+"\n"+output, maxHealthOutput)
	}
	p.mu.Lock()
	state := p.state
	p.output = text
	p.mu.Unlock()
	inStartPeriod := state == container.Starting && now.Sub(p.since) < p.check.StartPeriod.D()
	if inStartPeriod || now.Sub(p.lastCounted) < p.check.Interval.D() {
		return false
	}
	p.lastCounted = now
	if p.streak++; p.streak < p.check.Retries {
		return false
	}
	return p.set(container.Unhealthy, text)
}

func (p *probe) set(state, output string) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed = p.state != state
	p.state, p.output = state, output
	if changed {
		close(p.changed)
		p.changed = make(chan struct{})
	}
	return changed
}

// pause is the time until the next check.
func (p *probe) pause() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == container.Starting {
		return min(eagerInterval, p.check.Interval.D())
	}
	return p.check.Interval.D()
}
