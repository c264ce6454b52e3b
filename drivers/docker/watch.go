package docker

import (
	"context"

	"github.com/kranix-io/kranix-runtime/drivers"
)

var _ drivers.Watcher = (*Driver)(nil)

// Watch implements drivers.Watcher. Changes come from the engine's event stream and
// from the driver's own health probes. While the engine cannot be reached the channel
// is silent; a resync follows as soon as it can. A receiver that is slow gets the
// latest of several changes of the same kind to the same instance.
func (d *Driver) Watch(ctx context.Context) (<-chan drivers.Change, error) {
	if d.life.Err() != nil {
		return nil, &drivers.Error{Class: drivers.ErrUnavailable, Op: "watch engine", Err: errDriverClosed}
	}
	out := make(chan drivers.Change)
	queue, unsubscribe := d.events.subscribe(d)
	probes, endProbes := d.health.subscribe()
	d.running.Add(1)
	go func() {
		defer d.running.Done()
		defer close(out)
		defer unsubscribe()
		defer endProbes()
		started := false
		for {
			var send chan<- drivers.Change
			next, ok := queue.peek()
			if ok && !started && !next.Resync {
				// A probe may speak before the engine's stream stands.
				queue.drop()
				continue
			}
			if ok {
				send = out
			}
			select {
			case <-ctx.Done():
				return
			case <-d.life.Done():
				return
			case c := <-probes:
				queue.push(c)
			case <-queue.wake:
			case send <- next:
				started = true
				queue.taken(next)
			}
		}
	}()
	return out, nil
}
