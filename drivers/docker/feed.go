package docker

import (
	"sync"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// healthFeed hands changes that the driver finds itself (the results of http and tcp
// probes, of which the engine knows nothing) to watchers. The zero value is ready.
type healthFeed struct {
	mu   sync.Mutex
	subs map[chan drivers.Change]struct{}
}

// subscribe returns a channel of changes and a function that ends the subscription.
// The channel is never closed. A subscriber that falls behind loses single changes and
// gets one with Resync set instead.
func (f *healthFeed) subscribe() (<-chan drivers.Change, func()) {
	ch := make(chan drivers.Change, 64)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.subs == nil {
		f.subs = make(map[chan drivers.Change]struct{})
	}
	f.subs[ch] = struct{}{}
	return ch, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.subs, ch)
	}
}

// publish never blocks: a slow watcher must not hold up a probe.
func (f *healthFeed) publish(c drivers.Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ch := range f.subs {
		select {
		case ch <- c:
			continue
		default:
		}
		// Only publish sends, and it holds the lock: after draining there is room.
		for drained := false; !drained; {
			select {
			case <-ch:
			default:
				drained = true
			}
		}
		ch <- drivers.Change{Resync: true}
	}
}
