package sim

import (
	"context"
	"sync"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// watchBacklog is how many changes a slow receiver may be behind before it is told to
// resync instead.
const watchBacklog = 4096

// watcher is the queue of one Watch call.
type watcher struct {
	node string
	mu   sync.Mutex
	// queue is replaced by one resync when it overflows.
	queue []drivers.Change
	wake  chan struct{}
}

func (w *watcher) put(ch drivers.Change) {
	w.mu.Lock()
	if len(w.queue) >= watchBacklog {
		w.queue, ch = w.queue[:0], drivers.Change{Resync: true, At: ch.At}
	}
	w.queue = append(w.queue, ch)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) take() []drivers.Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.queue
	w.queue = nil
	return q
}

// publish tells the watchers of a node. The engine's lock is held.
func (e *Engine) publish(node string, ch drivers.Change) {
	for w := range e.watchers {
		if w.node == node {
			w.put(ch)
		}
	}
}

// resync tells all watchers that they may have missed something. The engine's lock is
// held.
func (e *Engine) resync() {
	for w := range e.watchers {
		w.put(drivers.Change{Resync: true, At: e.cfg.Clock.Now()})
	}
}

// Watch implements drivers.Watcher.
func (d *Driver) Watch(ctx context.Context) (<-chan drivers.Change, error) {
	e := d.engine
	if err := d.before(ctx, OpList, ""); err != nil {
		return nil, err
	}
	w := &watcher{node: d.env.Node, wake: make(chan struct{}, 1)}
	e.mu.Lock()
	e.watchers[w] = struct{}{}
	e.mu.Unlock()
	w.put(drivers.Change{Resync: true, At: e.cfg.Clock.Now()})
	out := make(chan drivers.Change)
	err := d.spawn(ctx, func(ctx context.Context) {
		defer close(out)
		defer func() {
			e.mu.Lock()
			delete(e.watchers, w)
			e.mu.Unlock()
		}()
		for {
			select {
			case <-w.wake:
			case <-ctx.Done():
				return
			}
			for _, ch := range w.take() {
				select {
				case out <- ch:
				case <-ctx.Done():
					return
				}
			}
		}
	})
	if err != nil {
		e.mu.Lock()
		delete(e.watchers, w)
		e.mu.Unlock()
		return nil, err
	}
	return out, nil
}
