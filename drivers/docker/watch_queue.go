package docker

import (
	"sync"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// queueLimit bounds the changes that wait for one slow receiver; beyond it they become
// one resync.
const queueLimit = 4096

// changeQueue holds the changes that a subscriber has not taken yet. Its memory is
// bounded because a change replaces an older one that says the same of the same
// instance. push never blocks, so that reading the engine's events never waits for a
// receiver (the engine drops events for those who are slow to read).
type changeQueue struct {
	// wake has an element after a push.
	wake chan struct{}

	mu      sync.Mutex
	order   []changeKey
	pending map[changeKey]drivers.Change
	limit   int
}

// changeKey is what two changes share when one can stand for both. The instance's own
// ID is part of it: during an update two instances have one ordinal.
type changeKey struct {
	workloadID, instanceID string
	kind                   drivers.ChangeKind
	instance               int
	resync                 bool
}

func keyOf(c drivers.Change) changeKey {
	if c.Resync {
		return changeKey{resync: true}
	}
	return changeKey{workloadID: c.WorkloadID, instanceID: c.InstanceID, kind: c.Kind, instance: c.Instance}
}

func newChangeQueue() *changeQueue {
	return &changeQueue{wake: make(chan struct{}, 1), pending: make(map[changeKey]drivers.Change), limit: queueLimit}
}

func (q *changeQueue) push(c drivers.Change) {
	q.mu.Lock()
	key := keyOf(c)
	_, waiting := q.pending[key]
	switch {
	case waiting:
		q.pending[key] = c
	case len(q.order) >= q.limit:
		clear(q.pending)
		resync := drivers.Change{Resync: true, At: c.At}
		q.order = append(q.order[:0], keyOf(resync))
		q.pending[keyOf(resync)] = resync
	default:
		q.order = append(q.order, key)
		q.pending[key] = c
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// peek returns the oldest change without taking it.
func (q *changeQueue) peek() (drivers.Change, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.order) == 0 {
		return drivers.Change{}, false
	}
	return q.pending[q.order[0]], true
}

// taken removes c, which peek returned, unless a newer change has replaced it since.
func (q *changeQueue) taken(c drivers.Change) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.order) > 0 && q.pending[q.order[0]] == c {
		q.dropFirst()
	}
}

// drop removes the oldest change.
func (q *changeQueue) drop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.order) > 0 {
		q.dropFirst()
	}
}

// dropFirst removes the oldest change; the lock is held.
func (q *changeQueue) dropFirst() {
	delete(q.pending, q.order[0])
	q.order = q.order[1:]
}
