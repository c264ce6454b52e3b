package telemetry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// parallelOpens is how many workloads' logs are opened, or verified, at a time.
const parallelOpens = 16

// Shipper publishes the log lines of running workloads on kranix.log, each line once,
// in the order of its instance. All methods may be called concurrently.
type Shipper struct {
	cfg ShipperConfig
	// work is every goroutine of the shipper; Close stops the readers first, so that the
	// senders can publish what is left.
	work             sync.WaitGroup
	readers, senders crew
	closing          chan struct{}
	opens            chan struct{}
	statuses         chan nats.Status
	buffers          buffers

	mu      sync.Mutex
	closed  bool
	follows map[subjects.Workload]*follow
	handle  jetstream.Stream
}

// NewShipper makes a shipper. Close it to end its goroutines.
func NewShipper(cfg ShipperConfig) (*Shipper, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Shipper{
		cfg:      cfg,
		closing:  make(chan struct{}),
		opens:    make(chan struct{}, parallelOpens),
		statuses: cfg.JS.Conn().StatusChanged(nats.CONNECTED),
		follows:  make(map[subjects.Workload]*follow),
	}
	s.readers, s.senders = newCrew(&s.work), newCrew(&s.work)
	s.readers.start(s.watchConnection)
	return s, nil
}

// Track ships the workload's lines, from where the stream ends, until Untrack. w.Node is
// the node the workload runs on. It does not block. Track a workload again after every
// change to it: when it has copies that are not read yet, they are from then on.
func (s *Shipper) Track(w subjects.Workload, r drivers.LogReader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	before := s.follows[w]
	if before != nil && !before.isGone() {
		before.mu.Lock()
		before.reader = r
		before.mu.Unlock()
		signal(before.wake)
		if before.refreshing.CompareAndSwap(false, true) {
			s.readers.start(before.refresh)
		}
		return
	}
	f := &follow{s: s, w: w, reader: r, clean: true,
		gone: make(chan struct{}), done: make(chan struct{}), wake: make(chan struct{}, 1), lanes: make(map[int]*lane)}
	if before != nil {
		f.after = before.done
	}
	s.follows[w] = f
	s.readers.start(func(ctx context.Context) {
		f.run(ctx)
		s.forget(f)
	})
}

// forget removes a follow that has ended.
func (s *Shipper) forget(f *follow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.follows[f.w] == f {
		delete(s.follows, f.w)
	}
}

// Untrack says that the workload was destroyed. It does not block: what is left of the
// log is read for at most DrainTimeout, and shipped; what could not be read is declared.
func (s *Shipper) Untrack(w subjects.Workload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.follows[w]; f != nil && !f.isGone() {
		f.untrack()
	}
}

// Close stops reading, except of workloads that were untracked, publishes what has been
// read until ctx ends, and returns when no goroutine is left. An error says how many lines were not published; they are not
// lost, the next shipper reads them again.
func (s *Shipper) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.work.Wait()
		return nil
	}
	s.closed = true
	close(s.closing)
	follows := make([]*follow, 0, len(s.follows))
	for _, f := range s.follows {
		follows = append(follows, f)
	}
	s.mu.Unlock()
	for _, f := range follows {
		f.drain(ctx)
	}
	s.readers.stop()
	s.cfg.JS.Conn().RemoveStatusListener(s.statuses)
	ended := make(chan struct{})
	go func() {
		s.work.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	s.senders.stop()
	<-ended
	var unsent int64
	for _, f := range follows {
		for _, l := range f.allLanes() {
			unsent += l.unsent()
		}
	}
	if unsent > 0 {
		return fmt.Errorf("publish pending log lines: %d left, they will be read again: %w", unsent, context.Cause(ctx))
	}
	return nil
}

func (s *Shipper) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// watchConnection verifies all lanes whenever the connection was made anew: the server
// may have lost what it had acknowledged and not yet written, and a workload that
// prints nothing more would never find out.
func (s *Shipper) watchConnection(ctx context.Context) {
	for {
		select {
		case _, ok := <-s.statuses:
			if !ok {
				return
			}
		case <-ctx.Done():
			return
		}
		s.forgetStream()
		s.verifyAll(ctx)
	}
}

func (s *Shipper) verifyAll(ctx context.Context) {
	s.mu.Lock()
	follows := make([]*follow, 0, len(s.follows))
	for _, f := range s.follows {
		follows = append(follows, f)
	}
	s.mu.Unlock()
	pause := backoff{first: 250 * time.Millisecond, most: 5 * time.Second}
	for _, f := range follows {
		for _, l := range f.allLanes() {
			for {
				err := l.verify(ctx)
				if err == nil || ctx.Err() != nil || errors.Is(err, nats.ErrConnectionClosed) {
					break
				}
				// The streams come back a moment after the connection does.
				if !pause.wait(ctx) {
					return
				}
			}
		}
	}
}
