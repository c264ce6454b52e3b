package workers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// laneLog records what lanes did, in order.
type laneLog struct {
	mu         sync.Mutex
	started    []uint64
	superseded map[uint64]uint64
	release    map[uint64]chan struct{}
}

func (l *laneLog) run(t *task) {
	l.mu.Lock()
	l.started = append(l.started, t.seq)
	gate := l.release[t.seq]
	l.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-t.ctx.Done():
		}
	}
	var by *supersededError
	if errors.As(context.Cause(t.ctx), &by) {
		l.mu.Lock()
		l.superseded[t.seq] = by.by
		l.mu.Unlock()
	}
	t.finish()
}

func (l *laneLog) supersede(t *task, by uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.superseded[t.seq] = by
}

func TestLaneOrder(t *testing.T) {
	type step struct {
		seq  uint64
		verb subjects.Verb
		// id is the command's, one of its own when empty.
		id string
	}
	cases := []struct {
		name string
		// hold is the first command, which runs until everything has been added.
		hold       step
		add        []step
		started    []uint64
		superseded map[uint64]uint64
	}{
		{
			name: "restarts wait in order", hold: step{seq: 1, verb: subjects.Deploy},
			add:     []step{{seq: 3, verb: subjects.Restart}, {seq: 2, verb: subjects.Restart}},
			started: []uint64{1, 2, 3}, superseded: map[uint64]uint64{},
		},
		{
			name: "a deploy ends the running one", hold: step{seq: 1, verb: subjects.Deploy},
			add:     []step{{seq: 2, verb: subjects.Deploy}},
			started: []uint64{1, 2}, superseded: map[uint64]uint64{1: 2},
		},
		{
			name: "a destroy ends everything older", hold: step{seq: 1, verb: subjects.Deploy},
			add:     []step{{seq: 2, verb: subjects.Restart}, {seq: 3, verb: subjects.Destroy}},
			started: []uint64{1, 3}, superseded: map[uint64]uint64{1: 3, 2: 3},
		},
		{
			name: "an older deploy that comes late never runs", hold: step{seq: 5, verb: subjects.Deploy},
			add:     []step{{seq: 4, verb: subjects.Deploy}, {seq: 3, verb: subjects.Restart}},
			started: []uint64{5}, superseded: map[uint64]uint64{4: 5, 3: 5},
		},
		{
			name: "a restart does not replace a deploy behind it", hold: step{seq: 1, verb: subjects.Restart},
			add:     []step{{seq: 3, verb: subjects.Restart}, {seq: 2, verb: subjects.Deploy}},
			started: []uint64{1, 2, 3}, superseded: map[uint64]uint64{1: 2},
		},
		{
			name: "the same command twice is one", hold: step{seq: 1, verb: subjects.Deploy},
			add:     []step{{seq: 1, verb: subjects.Deploy}, {seq: 2, verb: subjects.Restart}, {seq: 2, verb: subjects.Restart}},
			started: []uint64{1, 2}, superseded: map[uint64]uint64{},
		},
		{
			name: "a command published twice does not end itself", hold: step{seq: 1, verb: subjects.Deploy, id: "x"},
			add:     []step{{seq: 2, verb: subjects.Deploy, id: "x"}},
			started: []uint64{1, 2}, superseded: map[uint64]uint64{},
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			log := &laneLog{superseded: map[uint64]uint64{}, release: map[uint64]chan struct{}{tc.hold.seq: make(chan struct{})}}
			l := newLanes(log.run, log.supersede)
			add := func(s step) {
				w := subjects.Workload{Backend: "sim", Node: "n", Namespace: "shop", Name: "cart"}
				id := s.id
				if id == "" {
					id = fmt.Sprint(s.seq)
				}
				l.add(newTask(t.Context(), command{id: id, seq: s.seq, verb: s.verb, w: w}, nil))
			}
			add(tc.hold)
			for _, s := range tc.add {
				add(s)
			}
			close(log.release[tc.hold.seq])
			l.wg.Wait()
			if !slices.Equal(log.started, tc.started) {
				t.Errorf("started %v, want %v", log.started, tc.started)
			}
			if len(log.superseded) != len(tc.superseded) {
				t.Errorf("superseded %v, want %v", log.superseded, tc.superseded)
			}
			for seq, by := range tc.superseded {
				if log.superseded[seq] != by {
					t.Errorf("command %d superseded by %d, want %d", seq, log.superseded[seq], by)
				}
			}
			if n := l.len(); n != 0 {
				t.Errorf("%d tasks left", n)
			}
			if len(l.lanes) != 0 {
				t.Errorf("%d lanes left", len(l.lanes))
			}
		})
	}
}

func TestSupersededIsStale(t *testing.T) {
	var err error = &supersededError{by: 7}
	if !errors.Is(err, drivers.ErrStale) {
		t.Error("a driver could not tell that the command is superseded")
	}
	if !errors.Is(errClaimLost, drivers.ErrStale) {
		t.Error("a driver could not tell that the claim is lost")
	}
}
