package docker

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// The rhythm of a follower.
const (
	// followQuiet is how long a follower waits for more before it hands on what it has,
	// followHold how long at most: lines that arrive together are put in order of time.
	followQuiet = 10 * time.Millisecond
	followHold  = 50 * time.Millisecond
	// windowMost bounds what is asked for at first to catch up.
	windowMost = 8192
	// followBytes and followLines bound what it holds.
	followBytes = 256 << 10
	followLines = 1024
	// auditVisible and auditUnseen are how often a quiet log is checked for a rotation
	// that its follower did not notice; the first costs a system call, the second a
	// request.
	auditVisible = time.Second
	auditUnseen  = 3 * time.Second
	// retryFirst and retryMost bound the pauses after an engine's failure, and
	// restartLook how long a follower of a stopped instance waits to be told of its
	// start before it looks.
	retryFirst  = 100 * time.Millisecond
	retryMost   = 5 * time.Second
	restartLook = 5 * time.Second
)

// instanceFollower follows the log of one container over its restarts.
//
// It reads the engine's follow stream, and does not trust it: where the engine rotates
// the log, lines count only once it is certain that no rotation came in between;
// otherwise they are read again in the ordinary way (catchUp), which is complete. The
// cursor makes it harmless to read lines more than once.
type instanceFollower struct {
	d         *Driver
	object    object
	tail      int
	selection selection
	emit      func(context.Context, []drivers.LogLine) error
	// poke wakes a follower that waits for its instance.
	poke chan struct{}

	target  logTarget
	started bool
	read    cursor
	// low is the time of the oldest line that began and has not been handed on, zero when
	// there is none.
	low time.Time
	// window is about how many pieces from its end the log must be opened to catch up.
	window int
	// gap says that lines before the next one are lost.
	gap bool
	// unfinished is what the last follow stream ended with, without a line end.
	unfinished []line
}

// The ends of a follow stream that are not the container's.
var (
	errRotated    = errors.New("log was rotated")
	errEndedEarly = errors.New("follow stream ended early")
)

func (f *instanceFollower) wake() {
	if f == nil {
		return
	}
	select {
	case f.poke <- struct{}{}:
	default:
	}
}

// run follows until the container is removed or ctx ends.
func (f *instanceFollower) run(ctx context.Context) {
	pause := retryFirst
	for ctx.Err() == nil {
		err := f.life(ctx)
		switch {
		case errors.Is(err, drivers.ErrNotFound):
			// The log is gone with the container; this is from its stream.
			_ = f.deliver(ctx, f.unread(f.unfinished)) // an error of fn ended ctx
			return
		case err == nil:
			pause = retryFirst
			continue
		case errors.Is(err, errRotated):
			continue
		}
		f.d.log.Debug("log follower starts over", "container", f.object.id, "error", err)
		if !f.wait(ctx, pause) {
			return
		}
		pause = min(2*pause, retryMost)
	}
}

// wait waits to be woken, at most for d; it says whether to go on.
func (f *instanceFollower) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-f.poke:
	case <-timer.C:
	}
	return true
}

// life follows one life of the container to its end and waits for the next one.
func (f *instanceFollower) life(ctx context.Context) error {
	target, c, err := f.d.logTarget(ctx, f.object)
	if err != nil {
		return err
	}
	f.target = target
	if !f.started && f.tail > 0 {
		start, err := f.d.tailStart(ctx, target, f.selection, f.tail)
		if err != nil {
			return err
		}
		f.read, f.low, f.window = start.read, start.low, start.tail
	}
	f.started = true
	if running(c) {
		if _, err := f.catchUp(ctx, false); err != nil {
			return err
		}
		if err := f.follow(ctx); err != nil {
			return err
		}
		if _, c, err = f.d.logTarget(ctx, f.object); err != nil {
			return err
		}
		if running(c) {
			return errEndedEarly
		}
	}
	// What a stopped container printed last may lack its line end.
	if _, err := f.catchUp(ctx, true); err != nil {
		return err
	}
	f.unfinished = nil
	for {
		if !f.wait(ctx, restartLook) {
			return ctx.Err()
		}
		if _, c, err = f.d.logTarget(ctx, f.object); err != nil {
			return err
		}
		if running(c) {
			return nil
		}
	}
}

// running says whether the container has a process. One that waits to be restarted has
// none, and the engine does not follow its log.
func running(c container.InspectResponse) bool {
	return c.State.Running && !c.State.Restarting
}

// open opens the log so that all that has not been handed on is in it.
func (f *instanceFollower) open(ctx context.Context, follow bool) (src *logSource, whole bool, err error) {
	newest := f.read.newest()
	if newest.IsZero() {
		src, err = f.d.openLog(ctx, f.target, logQuery{since: f.selection.since, follow: follow})
		return src, false, err
	}
	low := newest.Add(-orderWindow)
	if !f.low.IsZero() && f.low.Before(low) {
		low = f.low
	}
	window := tailFirst
	if !follow {
		window = max(window, f.window)
	}
	return f.d.openBefore(ctx, f.target, low, window, follow)
}

// catchUp reads in the ordinary way what the engine has now, and returns how many lines
// were new. final takes an unfinished line as finished.
func (f *instanceFollower) catchUp(ctx context.Context, final bool) (fresh int, err error) {
	src, whole, err := f.open(ctx, false)
	if err != nil {
		return 0, err
	}
	defer src.close()
	if whole {
		if err := src.begin(); err != nil {
			return 0, classify("read logs of container "+f.target.id, err)
		}
		// When the engine keeps nothing as old as what was read last, it has rotated that
		// away, and what came after it as far as this log's beginning.
		f.gap = f.gap || src.read > 0 && src.first.After(f.read.newest())
	}
	var lines lineSource = src
	if final {
		lines = &wholeLog{src: src}
	}
	in := &ordered{src: lines}
	var batch []line
	size := 0
	for {
		l, err := in.next()
		end := errors.Is(err, io.EOF)
		if err != nil && !end {
			return fresh, classify("read logs of container "+f.target.id, err)
		}
		if !end && f.read.after(l) {
			batch = append(batch, l)
			size += len(l.text)
		}
		if len(batch) > 0 && (end || len(batch) >= followLines/4 || size >= followBytes) {
			if err := f.deliver(ctx, batch); err != nil {
				return fresh, err
			}
			fresh += len(batch)
			batch, size = nil, 0
		}
		if end {
			break
		}
	}
	f.low = src.joiner.openSince()
	f.window = min(2*fresh, windowMost) + tailFirst
	return fresh, nil
}

// unread leaves out of lines what has been handed on.
func (f *instanceFollower) unread(lines []line) []line {
	return slices.DeleteFunc(lines, func(l line) bool { return !f.read.after(l) })
}

// deliver hands lines on and records it.
func (f *instanceFollower) deliver(ctx context.Context, lines []line) error {
	out := make([]drivers.LogLine, 0, len(lines))
	for _, l := range lines {
		f.read.advance(l)
		if !f.selection.wants(l) {
			continue
		}
		entry := f.target.logLine(l)
		entry.Gap, f.gap = f.gap, false
		out = append(out, entry)
	}
	return f.emit(ctx, out)
}
