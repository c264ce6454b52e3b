package telemetry

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

var web = subjects.Workload{Backend: "sim", Node: "n1", Namespace: "shop", Name: "web"}

// fakeEngine holds the logs of one workload's copies and reads them as a driver does.
type fakeEngine struct {
	mu      sync.Mutex
	copies  []*fakeCopy
	order   []fakeLine
	changed chan struct{}
	// followsNew: a reading takes in copies that are made after it began.
	followsNew bool
	// failAfter, when above 0, breaks every reading after that many lines.
	failAfter int
	// down makes every call fail.
	down    bool
	endless bool
	reads   []drivers.LogOptions
}

type fakeCopy struct {
	id      string
	ordinal int
	removed bool
	// cut is how many of its lines rotation has dropped.
	cut   int
	lines int
}

type fakeLine struct {
	copy *fakeCopy
	n    int
	line drivers.LogLine
}

func newFakeEngine() *fakeEngine { return &fakeEngine{changed: make(chan struct{}), followsNew: true} }

func (e *fakeEngine) update(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *fakeEngine) create(id string, ordinal int) *fakeCopy {
	c := &fakeCopy{id: id, ordinal: ordinal}
	e.update(func() { e.copies = append(e.copies, c) })
	return c
}

func (e *fakeEngine) print(c *fakeCopy, at time.Time, stream, text string) {
	e.printLine(c, drivers.LogLine{Time: at, Stream: stream, Line: []byte(text)})
}

func (e *fakeEngine) printLine(c *fakeCopy, l drivers.LogLine) {
	l.Instance, l.InstanceID = c.ordinal, c.id
	e.update(func() {
		e.order = append(e.order, fakeLine{c, c.lines, l})
		c.lines++
	})
}

// rotate drops the first n lines of a copy.
func (e *fakeEngine) rotate(c *fakeCopy, n int) { e.update(func() { c.cut = n }) }

func (e *fakeEngine) remove(c *fakeCopy) { e.update(func() { c.removed = true }) }

// printed is all a copy ever printed, as shipped.lines has it.
func (e *fakeEngine) printed(c *fakeCopy) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for _, l := range e.order {
		if l.copy == c {
			out = append(out, l.line.Stream+" "+string(l.line.Line))
		}
	}
	return out
}

func (e *fakeEngine) readings() []drivers.LogOptions {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.reads)
}

func (e *fakeEngine) GetStatus(_ context.Context, id string) (*drivers.WorkloadStatus, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down {
		return nil, &drivers.Error{Class: drivers.ErrUnavailable, Op: "inspect " + id}
	}
	st := &drivers.WorkloadStatus{ID: id}
	for _, c := range e.copies {
		if !c.removed {
			st.Instances = append(st.Instances, drivers.InstanceStatus{Instance: c.ordinal, ID: c.id})
		}
	}
	return st, nil
}

func (e *fakeEngine) ReadLogs(ctx context.Context, id string, opts *drivers.LogOptions, fn func(drivers.LogLine) error) error {
	e.mu.Lock()
	e.reads = append(e.reads, *opts)
	var mine []*fakeCopy
	for _, c := range e.copies {
		if !c.removed {
			mine = append(mine, c)
		}
	}
	down := e.down
	e.mu.Unlock()
	if down {
		return &drivers.Error{Class: drivers.ErrUnavailable, Op: "read logs of " + id}
	}
	if len(mine) == 0 {
		return &drivers.Error{Class: drivers.ErrNotFound, Op: "read logs of " + id}
	}
	delivered := 0
	for pos := 0; ; {
		e.mu.Lock()
		var batch []fakeLine
		left := false
		for _, c := range e.copies {
			if e.followsNew && !c.removed && !slices.Contains(mine, c) {
				mine = append(mine, c)
			}
			left = left || slices.Contains(mine, c) && !c.removed
		}
		for ; pos < len(e.order) && len(batch) < 64; pos++ {
			l := e.order[pos]
			if slices.Contains(mine, l.copy) && l.n >= l.copy.cut && !l.line.Time.Before(opts.Since) {
				batch = append(batch, l)
			}
		}
		done, changed, failAfter := pos == len(e.order), e.changed, e.failAfter
		if e.down {
			e.mu.Unlock()
			return &drivers.Error{Class: drivers.ErrUnavailable, Op: "read logs of " + id}
		}
		endless := e.endless
		e.mu.Unlock()
		for _, l := range batch {
			if failAfter > 0 && delivered == failAfter {
				return fmt.Errorf("read logs of %s: connection reset", id)
			}
			delivered++
			if err := fn(l.line); err != nil {
				return err
			}
		}
		if !done {
			continue
		}
		if !left && !endless {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
