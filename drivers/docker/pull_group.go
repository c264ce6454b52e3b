package docker

import (
	"context"
	"errors"
	"sync"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// pullGroup makes one pull of what several callers ask for at the same time. Callers
// share a pull only under the same key, which holds the identity of their credentials:
// nobody gets an image by another's right to it. The zero value is ready.
type pullGroup struct {
	mu      sync.Mutex
	flights map[string]*flight
}

// flight is one pull and who waits for it. All but result and err, which are written
// before done is closed, is guarded by the group's lock.
type flight struct {
	waiters map[*pullWaiter]struct{}
	last    *drivers.Progress
	cancel  context.CancelFunc
	done    chan struct{}
	result  pulled
	err     error
}

type pullWaiter struct {
	report func(drivers.Progress)
}

// pulled is what a pull brought.
type pulled struct {
	// imageID is the engine's, digest the manifest's as the registry knows it.
	imageID, digest string
}

var errDriverClosed = errors.New("the driver is closed")

// do runs fn once for all concurrent callers with the same key and gives all of them
// its result. fn runs under life and ends when the last caller has left: a cancelled
// command does not spoil the pull for the others. report gets every step of fn, the
// last one first for who comes late, and is not called after do has returned.
func (g *pullGroup) do(ctx, life context.Context, running *sync.WaitGroup, key string, report func(drivers.Progress),
	fn func(context.Context, func(drivers.Progress)) (pulled, error)) (pulled, error) {
	w := &pullWaiter{report: report}
	g.mu.Lock()
	f, ok := g.flights[key]
	if ok {
		f.waiters[w] = struct{}{}
		if f.last != nil {
			w.report(*f.last)
		}
	} else {
		if life.Err() != nil {
			g.mu.Unlock()
			return pulled{}, &drivers.Error{Class: drivers.ErrUnavailable, Op: "pull image", Err: errDriverClosed}
		}
		f = g.start(life, running, key, w, fn)
	}
	g.mu.Unlock()

	select {
	case <-f.done:
		return f.result, f.err
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(f.waiters, w)
	if len(f.waiters) == 0 {
		f.cancel()
		// A caller that comes while this flight is still ending needs one of its own.
		if g.flights[key] == f {
			delete(g.flights, key)
		}
	}
	return pulled{}, context.Cause(ctx)
}

// start begins a flight; the group's lock is held.
func (g *pullGroup) start(life context.Context, running *sync.WaitGroup, key string, w *pullWaiter,
	fn func(context.Context, func(drivers.Progress)) (pulled, error)) *flight {
	ctx, cancel := context.WithCancel(life)
	f := &flight{waiters: map[*pullWaiter]struct{}{w: {}}, cancel: cancel, done: make(chan struct{})}
	if g.flights == nil {
		g.flights = make(map[string]*flight)
	}
	g.flights[key] = f
	running.Add(1)
	go func() {
		defer running.Done()
		defer cancel()
		f.result, f.err = fn(ctx, func(p drivers.Progress) { g.broadcast(f, p) })
		if f.err != nil && life.Err() != nil {
			f.err = &drivers.Error{Class: drivers.ErrUnavailable, Op: "pull image", Err: errDriverClosed}
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.flights[key] == f {
			delete(g.flights, key)
		}
		// No step may reach a caller that already has the result.
		clear(f.waiters)
		close(f.done)
	}()
	return f
}

func (g *pullGroup) broadcast(f *flight, p drivers.Progress) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.last = &p
	for w := range f.waiters {
		w.report(p)
	}
}
