package docker

import (
	"context"
	"sync"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// The patience of those who follow.
const (
	// followLinger is how long a workload may have no instance before following it
	// ends: an update that recreates the only instance is not an end.
	followLinger = 3 * time.Second
	// followLook is how often one looks for instances without having been told of any.
	followLook = 10 * time.Second
	// untilGrace is how long after Until lines are waited for: they take a moment from
	// the container to us, and the engine's clock may be another.
	untilGrace = 250 * time.Millisecond
)

// follow reads what there is and what comes, one goroutine per instance, until the last
// instance is gone, fn fails or ctx ends. cancel ends the context of ctx.
func (r *logReading) follow(ctx context.Context, cancel context.CancelCauseFunc, fn func(drivers.LogLine) error) error {
	var timeUp <-chan time.Time
	if !r.opts.Until.IsZero() {
		timer := time.NewTimer(time.Until(r.opts.Until) + untilGrace)
		defer timer.Stop()
		timeUp = timer.C
	}
	changes, unsubscribe := r.d.events.subscribe(r.d)
	defer unsubscribe()

	group := &followGroup{reading: r, followers: make(map[string]*instanceFollower), ended: make(chan string), fail: cancel, fn: fn}
	// Followers must have ended before this returns, because fn is the caller's.
	ctx, stop := context.WithCancel(ctx)
	defer group.running.Wait()
	defer stop()
	for _, o := range r.found {
		group.start(ctx, o, r.opts.Tail)
	}

	look := time.NewTicker(followLook)
	defer look.Stop()
	linger := time.NewTimer(followLinger)
	defer linger.Stop()
	for {
		list := false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timeUp:
			return nil
		case id := <-group.ended:
			if group.followers[id] = nil; group.active() == 0 {
				linger.Reset(followLinger)
			}
			list = true
		case <-linger.C:
			if group.active() == 0 {
				return nil
			}
		case <-changes.wake:
			list = group.tell(changes, r.workloadID)
		case <-look.C:
			list = true
		}
		if !list {
			continue
		}
		// While the engine is away nothing is found; a resync comes when it is back.
		if found, err := r.list(ctx); err == nil {
			group.update(ctx, found)
		}
	}
}

// followGroup is the followers of one workload.
type followGroup struct {
	reading *logReading
	// followers has nil for an instance whose follower has ended, because the engine may
	// list a container a little longer than it has its log.
	followers map[string]*instanceFollower
	ended     chan string
	running   sync.WaitGroup

	mu   sync.Mutex
	fail context.CancelCauseFunc
	fn   func(drivers.LogLine) error
}

// active counts the followers that have not ended.
func (g *followGroup) active() int {
	n := 0
	for _, f := range g.followers {
		if f != nil {
			n++
		}
	}
	return n
}

// start begins to follow a container.
func (g *followGroup) start(ctx context.Context, o object, tail int) {
	f := &instanceFollower{d: g.reading.d, object: o, tail: tail, selection: g.reading.selection,
		emit: g.emit, poke: make(chan struct{}, 1)}
	g.followers[o.id] = f
	g.running.Add(1)
	go func() {
		defer g.running.Done()
		f.run(ctx)
		select {
		case g.ended <- o.id:
		case <-ctx.Done():
		}
	}()
}

// update starts followers for containers that are new and forgets those that are gone.
func (g *followGroup) update(ctx context.Context, found []object) {
	listed := make(map[string]bool, len(found))
	for _, o := range found {
		listed[o.id] = true
		if _, known := g.followers[o.id]; !known {
			g.start(ctx, o, 0)
		}
	}
	for id, f := range g.followers {
		if f == nil && !listed[id] {
			delete(g.followers, id)
		}
	}
}

// tell hands the engine's changes of a workload to its followers and says whether the
// instances must be listed.
func (g *followGroup) tell(changes *changeQueue, workloadID string) (list bool) {
	for {
		c, ok := changes.peek()
		if !ok {
			return list
		}
		changes.drop()
		switch {
		case c.Resync:
			list = true
			for _, f := range g.followers {
				f.wake()
			}
		case c.WorkloadID == workloadID:
			if f, known := g.followers[c.InstanceID]; known {
				f.wake()
			} else if c.Kind == drivers.ChangeStarted {
				list = true
			}
		}
	}
}

// emit hands lines to the caller. When the caller fails, everything ends.
func (g *followGroup) emit(ctx context.Context, lines []drivers.LogLine) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range lines {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := g.fn(l); err != nil {
			g.fail(err)
			return err
		}
	}
	return nil
}
