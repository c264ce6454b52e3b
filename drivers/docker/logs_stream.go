package docker

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// chunk is what a pump read without waiting for the engine.
type chunk struct {
	lines []line
	// open is the time of the oldest line whose end has not come, zero for none.
	open time.Time
	// end is set on the last chunk.
	end error
}

// pump reads src and sends it on in chunks, until its end.
func pump(ctx context.Context, src *logSource, out chan<- chunk) {
	for {
		var c chunk
		size := 0
		for {
			l, err := src.next()
			if err != nil {
				c.end = err
				break
			}
			c.lines = append(c.lines, l)
			size += len(l.text)
			if !src.ready() || len(c.lines) >= followLines/4 || size >= followBytes/4 {
				break
			}
		}
		c.open = src.joiner.openSince()
		select {
		case out <- c:
		case <-ctx.Done():
			return
		}
		if c.end != nil {
			return
		}
	}
}

// followStream is a follow stream that is being read.
type followStream struct {
	f      *instanceFollower
	chunks chan chunk
	// file is the log's file as it was before the stream was opened.
	file fileIdentity
	// passed says, per stream, that all that comes now is new.
	passed [streams]bool

	// held is what has not been handed on, of that many bytes and since that moment.
	held  []line
	bytes int
	since time.Time
	// open is the time of the oldest line whose end has not come, zero for none.
	open time.Time
	// end is how the stream ended, nil while it goes on.
	end error
}

// follow reads a follow stream until it ends, and hands its lines on. nil means that the
// engine ended it in good order, as it does when the container has stopped.
func (f *instanceFollower) follow(ctx context.Context) error {
	s := &followStream{f: f, chunks: make(chan chunk)}
	s.file, _ = identify(f.target.path)
	src, _, err := f.open(ctx, true)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var pumping sync.WaitGroup
	pumping.Add(1)
	go func() {
		defer pumping.Done()
		pump(ctx, src, s.chunks)
	}()
	defer pumping.Wait()
	defer src.close()
	defer stop()

	err = s.read(ctx)
	if s.end != nil {
		// The pump has ended, so what it left is ours.
		f.unfinished = src.rest()
	}
	if err == nil && !errors.Is(s.end, io.EOF) {
		err = classify("follow logs of container "+f.target.id, s.end)
	}
	return err
}

// read hands on what the pump sends until the stream's end.
func (s *followStream) read(ctx context.Context) error {
	quiet := time.NewTimer(time.Hour)
	defer quiet.Stop()
	audit := s.auditTicker()
	defer audit.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case c := <-s.chunks:
			s.hold(c)
			if c.end != nil {
				return s.commit(ctx, true)
			}
			if s.bytes >= followBytes || len(s.held) >= followLines || (len(s.held) > 0 && time.Since(s.since) >= followHold) {
				if err := s.commit(ctx, false); err != nil {
					return err
				}
			}
			if len(s.held) > 0 {
				quiet.Reset(followQuiet)
			}
		case <-quiet.C:
			if err := s.commit(ctx, true); err != nil {
				return err
			}
		case <-audit.C:
			if len(s.held) > 0 {
				continue // what is held will be checked when it is handed on
			}
			if err := s.audit(ctx); err != nil {
				return err
			}
		}
	}
}

func (s *followStream) auditTicker() *time.Ticker {
	switch s.f.target.rotation {
	case rotatesVisibly:
		return time.NewTicker(auditVisible)
	case rotatesUnseen:
		return time.NewTicker(auditUnseen)
	default:
		never := time.NewTicker(time.Hour)
		never.Stop()
		return never
	}
}

// hold takes in what is new of a chunk.
func (s *followStream) hold(c chunk) {
	s.open, s.end = c.open, c.end
	for _, l := range c.lines {
		// Where the clock was set back, later lines have earlier times: once a stream is
		// past what was read, everything is new.
		if !s.passed[l.stream] && !s.f.read.after(l) {
			continue
		}
		s.passed[l.stream] = s.f.target.rotation != rotatesUnseen
		if len(s.held) == 0 {
			s.since = time.Now()
		}
		s.held = append(s.held, l)
		s.bytes += len(l.text)
	}
}

// commit hands on what is held, all of it or without the newest lines, which an earlier
// one of the other stream may still follow. It returns errRotated when the stream is of
// no more use.
func (s *followStream) commit(ctx context.Context, all bool) error {
	if len(s.held) == 0 {
		return nil
	}
	f := s.f
	switch {
	case f.target.rotation == rotatesUnseen, f.target.rotation == rotatesVisibly && s.rotated():
		return s.reread(ctx)
	}
	slices.SortStableFunc(s.held, func(a, b line) int { return a.time.Compare(b.time) })
	n := len(s.held)
	if !all {
		newest := s.held[n-1].time
		n, _ = slices.BinarySearchFunc(s.held, newest.Add(-followQuiet), func(l line, t time.Time) int { return l.time.Compare(t) })
		if n == 0 && s.bytes >= followBytes {
			n = len(s.held)
		}
	}
	ready := s.held[:n:n]
	s.held, s.bytes, s.since = slices.Clone(s.held[n:]), 0, time.Now()
	for _, l := range s.held {
		s.bytes += len(l.text)
	}
	return f.deliver(ctx, ready)
}

// rotated says whether the log has been rotated since the stream was opened.
func (s *followStream) rotated() bool {
	now, ok := identify(s.f.target.path)
	return !ok || now != s.file
}

// reread reads again, in the ordinary way, what is held and what a rotation may have
// hidden. Only when the container is gone is what the stream brought handed on as it is.
func (s *followStream) reread(ctx context.Context) error {
	f := s.f
	f.low = s.open
	for _, l := range s.held {
		if f.low.IsZero() || l.time.Before(f.low) {
			f.low = l.time
		}
	}
	_, err := f.catchUp(ctx, false)
	switch {
	case err != nil && s.removed(ctx, err):
		if err := f.deliver(ctx, f.unread(s.held)); err != nil {
			return err
		}
		s.held, s.bytes = nil, 0
		return nil
	case err != nil:
		return err
	}
	s.held, s.bytes = nil, 0
	if f.target.rotation == rotatesVisibly {
		return errRotated
	}
	return nil
}

// removed says whether err came about because the container is, or is being, removed.
// The engine says so in several ways while it takes the container apart.
func (s *followStream) removed(ctx context.Context, err error) bool {
	if errors.Is(err, drivers.ErrNotFound) {
		return true
	}
	if ctx.Err() != nil || errors.Is(err, drivers.ErrUnavailable) {
		return false
	}
	_, c, err := s.f.d.logTarget(ctx, s.f.object)
	if err != nil {
		return errors.Is(err, drivers.ErrNotFound)
	}
	return c.State.Status == container.StateRemoving || c.State.Dead
}

// audit looks for lines that the stream does not bring.
func (s *followStream) audit(ctx context.Context) error {
	switch {
	case s.f.target.rotation == rotatesVisibly && s.rotated():
		return s.reread(ctx)
	case s.f.target.rotation == rotatesUnseen:
		fresh, err := s.f.catchUp(ctx, false)
		if err == nil && fresh > 0 {
			return errRotated // the stream hangs
		}
		return err
	}
	return nil
}
