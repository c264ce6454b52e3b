package workers

import (
	"slices"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/subjects"
)

// lanes keeps the commands of each workload in order within this process. A lane
// exists while it has work.
type lanes struct {
	// run carries out a task; supersede ends one that never ran.
	run       func(*task)
	supersede func(t *task, by uint64)

	mu    sync.Mutex
	lanes map[string]*lane
	size  int
	wg    sync.WaitGroup
}

// lane is the queue of one workload.
type lane struct {
	running *task
	queue   []*task // by sequence
}

func newLanes(run func(*task), supersede func(*task, uint64)) *lanes {
	return &lanes{run: run, supersede: supersede, lanes: make(map[string]*lane)}
}

// add queues a task. A deploy or destroy ends everything older of its workload; a
// restart waits behind it. A command that is here already takes the new delivery over.
func (l *lanes) add(t *task) {
	l.mu.Lock()
	key := t.w.Identity().Key()
	ln := l.lanes[key]
	if ln == nil {
		ln = &lane{}
		l.lanes[key] = ln
	}
	if same := ln.find(t.seq); same != nil && same.redelivered(t.msg) {
		l.mu.Unlock()
		t.cancel(nil)
		return
	}
	if by := ln.newest(); by > t.seq && !ln.has(t.id) {
		l.goSupersede(t, by)
		l.mu.Unlock()
		return
	}
	var ended []*task
	if t.supersedes() && !ln.has(t.id) {
		ln.queue = slices.DeleteFunc(ln.queue, func(q *task) bool {
			older := q.seq < t.seq
			if older {
				ended = append(ended, q)
			}
			return older
		})
		if ln.running != nil && ln.running.seq < t.seq {
			ln.running.cancel(&supersededError{by: t.seq})
		}
	}
	at, _ := slices.BinarySearchFunc(ln.queue, t.seq, func(q *task, seq uint64) int {
		if q.seq < seq {
			return -1
		}
		return 1
	})
	ln.queue = slices.Insert(ln.queue, at, t)
	l.size += 1 - len(ended)
	if ln.running == nil {
		l.next(key, ln)
	}
	for _, q := range ended {
		l.goSupersede(q, t.seq)
	}
	l.mu.Unlock()
}

// has says whether the command is in the lane under another sequence: published twice,
// it is one command, and the later copy only waits for the result of the first.
func (ln *lane) has(id string) bool {
	if ln.running != nil && ln.running.id == id {
		return true
	}
	return slices.ContainsFunc(ln.queue, func(q *task) bool { return q.id == id })
}

// find returns the task of a sequence.
func (ln *lane) find(seq uint64) *task {
	if ln.running != nil && ln.running.seq == seq {
		return ln.running
	}
	for _, q := range ln.queue {
		if q.seq == seq {
			return q
		}
	}
	return nil
}

// newest is the highest command in the lane that ends older ones, 0 for none.
func (ln *lane) newest() uint64 {
	var by uint64
	if ln.running != nil && ln.running.supersedes() {
		by = ln.running.seq
	}
	for _, q := range ln.queue {
		if q.supersedes() {
			by = max(by, q.seq)
		}
	}
	return by
}

// next starts the lane's first task. The caller holds l.mu and the lane is idle.
func (l *lanes) next(key string, ln *lane) {
	if len(ln.queue) == 0 {
		delete(l.lanes, key)
		return
	}
	t := ln.queue[0]
	ln.queue = ln.queue[1:]
	ln.running = t
	l.wg.Go(func() {
		l.run(t)
		l.mu.Lock()
		ln.running = nil
		l.size--
		l.next(key, ln)
		l.mu.Unlock()
	})
}

// goSupersede ends a task that never ran. The caller holds l.mu.
func (l *lanes) goSupersede(t *task, by uint64) {
	t.cancel(&supersededError{by: by})
	l.goAside(func() { l.supersede(t, by) })
}

// aside settles a command outside its lane. It counts as a task until it is done, so
// that what is refused cannot fill the memory either.
func (l *lanes) aside(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.goAside(f)
}

func (l *lanes) goAside(f func()) {
	l.size++
	l.wg.Go(func() {
		f()
		l.mu.Lock()
		l.size--
		l.mu.Unlock()
	})
}

// busy says whether a command of the workload is being carried out.
func (l *lanes) busy(w subjects.Workload) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.lanes[w.Identity().Key()]
	return ln != nil && ln.running != nil
}

// len is the number of tasks queued or running.
func (l *lanes) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// each calls fn for every task.
func (l *lanes) each(fn func(*task)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ln := range l.lanes {
		if ln.running != nil {
			fn(ln.running)
		}
		for _, q := range ln.queue {
			fn(q)
		}
	}
}

// abandon takes all tasks that have not begun out of their lanes and returns the
// deliveries that may be given back at once: those of lanes at rest. Behind a task that
// still runs they are left to their ack wait, so that none overtakes it elsewhere.
func (l *lanes) abandon() []jetstream.Msg {
	l.mu.Lock()
	defer l.mu.Unlock()
	var msgs []jetstream.Msg
	for _, ln := range l.lanes {
		for _, q := range ln.queue {
			l.size--
			if msg := q.finish(); msg != nil && ln.running == nil {
				msgs = append(msgs, msg)
			}
		}
		ln.queue = nil
	}
	return msgs
}
