package docker

import (
	"context"
	"errors"
	"io"
	"time"
)

// logStart is where the reading of a log begins.
type logStart struct {
	// read is what counts as read already, and low the time from which on the log must be
	// opened for the rest; both are zero for the beginning of the log.
	read cursor
	low  time.Time
	// tail is how many pieces from the end low is, about.
	tail int
}

// tailStart finds where the last n lines of a selection begin. The engine's own tail
// counts pieces of lines, of both streams and of any time.
func (d *Driver) tailStart(ctx context.Context, t logTarget, sel selection, n int) (logStart, error) {
	for tail := n + tailFirst; ; tail = widen(tail) {
		start, sure, err := d.tailWithin(ctx, t, sel, n, tail)
		if err != nil || sure {
			return start, err
		}
	}
}

// tailWithin is tailStart within the last tail pieces; sure says that they were enough.
func (d *Driver) tailWithin(ctx context.Context, t logTarget, sel selection, n, tail int) (start logStart, sure bool, err error) {
	src, err := d.openLog(ctx, t, logQuery{tail: tail, until: sel.until})
	if err != nil {
		return logStart{}, false, err
	}
	defer src.close()
	ring := tailRing{size: n}
	lines := &ordered{src: &wholeLog{src: src}}
	for {
		l, err := lines.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return logStart{}, false, classify("read logs of container "+t.id, err)
		}
		ring.add(l, sel.wants(l))
	}
	// The engine counts tail before until, so fewer pieces than asked for mean that
	// there are no more only when until took none away.
	all := tail == 0 || (src.read < tail && sel.until.IsZero())
	if len(ring.lines) < n {
		return logStart{}, all, nil
	}
	read, low := ring.start()
	// What has the time of the first piece may be cut off.
	if !all && !src.first.Before(low) {
		return logStart{}, false, nil
	}
	return logStart{read: read, low: low, tail: tail}, true, nil
}

// tailRing keeps the identities of the last lines that were wanted.
type tailRing struct {
	size  int
	lines []line
	head  int
	seen  cursor
}

func (r *tailRing) add(l line, wanted bool) {
	r.seen.advance(l)
	if !wanted {
		return
	}
	l.text = nil
	if len(r.lines) < r.size {
		r.lines = append(r.lines, l)
		return
	}
	r.lines[r.head] = l
	r.head = (r.head + 1) % r.size
}

// start is the cursor before the oldest line of a full ring, and that line's time. A
// stream that has none of the lines starts with what comes after all that was seen.
func (r *tailRing) start() (cursor, time.Time) {
	start := r.seen
	var found [streams]bool
	for i := range r.lines {
		l := r.lines[(r.head+i)%len(r.lines)]
		if !found[l.stream] {
			found[l.stream] = true
			start[l.stream] = position{time: l.time, nth: l.nth}
		}
	}
	return start, r.lines[r.head%len(r.lines)].time
}
