package telemetry

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// The reasons of gaps.
const (
	gapRateLimit = "rate-limit"
	gapRotated   = "rotated"
	gapRemoved   = "removed"
)

// gapDelay is how long a gap waits for lines to go with it.
const gapDelay = time.Second

// segment is what becomes one message: a gap, then lines, all of one copy.
type segment struct {
	copy    *copyState
	created time.Time
	gap     *subjects.LogGap
	// entries is the lines as JSON, separated by commas.
	entries []byte
	// lines and bytes are of the output, not of its encoding.
	lines, bytes int64
	// first is the cursor of the first line or, without lines, of the gap's start.
	first cursor
	// ends are the cursors after this segment, zero where it does not move one.
	ends [len(streamNames)]cursor
	// size is what it counts for in lane.pending.
	size int
	// sealed: it is being published and takes no more.
	sealed bool
}

// lane ships one ordinal of a workload: one subject, in order, one message at a time.
//
// Each message names the sequence of the one before it (the subject's last), and the
// server refuses it when that is not so. One message at a time is the price; a message
// takes all that is pending, so a far server costs latency and not throughput. What it
// buys is that a repeated publication is never stored twice, however late, that none
// overtakes another, and that two shippers of one workload cannot interleave.
type lane struct {
	f       *follow
	ordinal int
	subject string
	scratch []byte

	// room and wake hold one token each: for the reader, that pending has shrunk; for the
	// sender, that there is enough to send.
	room, wake chan struct{}

	mu     sync.Mutex
	loaded bool
	// copies is ordered by when a copy was first seen, the latest first. The reader adds
	// to it and moves read; the sender moves stored.
	copies  []*copyState
	limits  limits
	lastSeq uint64
	queue   []*segment
	pending int
	sending bool
	// lost says that the stream is not where this lane thought: all is read again from
	// where it is.
	lost bool
}

func newLane(f *follow, ordinal int) (*lane, error) {
	subject, err := subjects.Log(f.w, ordinal)
	if err != nil {
		return nil, err
	}
	return &lane{f: f, ordinal: ordinal, subject: subject,
		room: make(chan struct{}, 1), wake: make(chan struct{}, 1)}, nil
}

// prepare makes the lane ready for the log to be read (again): it asks the stream for
// the cursors when it must.
func (l *lane) prepare(ctx context.Context) error {
	l.mu.Lock()
	loaded := l.loaded && !l.lost
	l.mu.Unlock()
	if loaded {
		return nil
	}
	last, lim, err := l.f.s.lastMessage(ctx, l.subject)
	if err != nil {
		return err
	}
	var copies []*copyState
	if last != nil {
		if copies, err = decodeCursors(last.Data); err != nil {
			// Not ours. The log is shipped again rather than not at all.
			l.f.s.cfg.Logger.Warn("log is shipped from its beginning", "subject", l.subject, "sequence", last.Sequence, "error", err)
			copies = nil
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// What had been read and not stored must turn up again; see follow.settleWanted.
	for _, old := range l.copies {
		i := slices.IndexFunc(copies, func(c *copyState) bool { return c.id == old.id })
		if i < 0 {
			i, copies = len(copies), append(copies, &copyState{id: old.id})
		}
		copies[i].wanted = furthest(old.read, old.wanted)
	}
	l.copies, l.limits = copies, lim
	l.lastSeq = 0
	if last != nil {
		l.lastSeq = last.Sequence
	}
	l.loaded, l.lost = true, false
	return nil
}

func furthest(a, b [len(streamNames)]cursor) [len(streamNames)]cursor {
	for i := range a {
		if a[i].before(b[i]) {
			a[i] = b[i]
		}
	}
	return a
}

// retire forgets all but the latest of the copies that the engine no longer lists.
func (l *lane) retire(listed map[string]bool) {
	var kept []*copyState
	gone := 0
	for _, c := range l.copies {
		if c.gone = !listed[c.id]; c.gone {
			gone++
		}
		if !c.gone || gone <= maxGone {
			kept = append(kept, c)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.copies = kept
}

// rewind tells the lane that the log is read again from since.
func (l *lane) rewind(since time.Time) {
	for _, c := range l.copies {
		c.rewind(since)
	}
}

// copyOf finds or adds a copy. Errors: errReopen.
func (l *lane) copyOf(id string) (*copyState, error) {
	for _, c := range l.copies {
		if c.id == id {
			return c, nil
		}
	}
	if err := l.f.meet(id); err != nil {
		return nil, err
	}
	c := &copyState{id: id}
	l.mu.Lock()
	defer l.mu.Unlock()
	// A new slice: the sender may be reading the old one.
	l.copies = append([]*copyState{c}, l.copies[:min(len(l.copies), maxCopies-1)]...)
	return c, nil
}

// add takes in one line. It blocks while too much is pending. Errors: errReopen, ctx's.
func (l *lane) add(ctx context.Context, line drivers.LogLine) error {
	c, err := l.copyOf(line.InstanceID)
	if err != nil {
		return err
	}
	stream, at := streamIndex(line.Stream), lineTime(line)
	pieces := countPieces(line.Line, l.limits.piece)
	shipped, missing := c.resume[stream].skip(at, pieces)
	// The driver knows of a rotation that fell into its reading, the cursor of one
	// between two readings.
	if missing || line.Gap && shipped == 0 {
		from := c.read[stream].at
		if err := l.declare(c, subjects.LogGap{From: from, To: at, Reason: gapRotated}); err != nil {
			return err
		}
	}
	if shipped == pieces {
		return nil
	}
	how := c.limited[stream]
	if shipped > 0 {
		// Its beginning is in the stream already.
		how = admitted
	}
	if how == undecided {
		how = l.f.limiter.decide(at, len(line.Line))
	}
	c.limited[stream] = undecided
	if line.Truncated {
		c.limited[stream] = how
	}
	if how == dropped {
		return l.drop(ctx, c, stream, at, pieces, line.Truncated)
	}
	rest := line.Line
	for i := range pieces {
		n := cutPiece(rest, l.limits.piece)
		piece, last := rest[:n], i == pieces-1
		rest = rest[n:]
		if i < shipped {
			continue
		}
		l.scratch = appendEntry(l.scratch[:0], at, stream, piece, line.Truncated || !last)
		complete := last && !line.Truncated
		if err := l.enqueue(ctx, c, stream, at, len(piece), complete); err != nil {
			return err
		}
	}
	return nil
}

// enqueue adds the entry in scratch to the copy's open segment, or to a new one.
func (l *lane) enqueue(ctx context.Context, c *copyState, stream int, at time.Time, size int, complete bool) error {
	if err := l.lockWithRoom(ctx); err != nil {
		return err
	}
	defer l.mu.Unlock()
	seg := l.open(c)
	if seg == nil || len(seg.entries) > 0 && len(seg.entries)+len(l.scratch) >= l.limits.message {
		seg = l.push(&segment{copy: c})
	}
	c.read[stream].advance(at, 1)
	if len(seg.entries) == 0 {
		seg.first = c.read[stream]
		seg.entries = l.f.s.buffers.get()
	} else {
		seg.entries = append(seg.entries, ',')
	}
	seg.entries = append(seg.entries, l.scratch...)
	seg.ends[stream] = c.read[stream]
	seg.bytes += int64(size)
	if complete {
		seg.lines++
	}
	before := l.pending
	l.grow(seg, len(l.scratch)+1)
	if limit := l.f.s.cfg.MaxBatchBytes; before < limit && l.pending >= limit {
		signal(l.wake)
	}
	return nil
}

// drop declares a line that is over the quota.
func (l *lane) drop(ctx context.Context, c *copyState, stream int, at time.Time, pieces int, truncated bool) error {
	if err := l.lockWithRoom(ctx); err != nil {
		return err
	}
	defer l.mu.Unlock()
	seg := l.open(c)
	if seg == nil || len(seg.entries) > 0 || seg.gap == nil || seg.gap.Reason != gapRateLimit {
		seg = l.push(&segment{copy: c, gap: &subjects.LogGap{From: at, Reason: gapRateLimit}})
	}
	c.read[stream].advance(at, pieces)
	if seg.first.zero() {
		seg.first = c.read[stream]
	}
	seg.gap.To = at
	if !truncated {
		seg.gap.Lines++
	}
	seg.ends[stream] = c.read[stream]
	return nil
}

// declare starts a segment with a gap that moves no cursor. It does not wait for room:
// there is at most one such gap each time a log is opened or given up. Errors: errReopen.
func (l *lane) declare(c *copyState, gap subjects.LogGap) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost {
		return errReopen
	}
	l.push(&segment{copy: c, gap: &gap, first: cursor{at: gap.From}})
	return nil
}

// open is the copy's last segment if it can still take something. Only the order within
// a copy matters, so two copies that print at once fill two segments, not one each line.
func (l *lane) open(c *copyState) *segment {
	for i := len(l.queue) - 1; i >= 0 && i >= len(l.queue)-maxOpen; i-- {
		if seg := l.queue[i]; seg.copy == c {
			if seg.sealed {
				return nil
			}
			return seg
		}
	}
	return nil
}

// maxOpen is how many segments back open looks.
const maxOpen = 4

// push queues a segment and makes sure that a sender runs.
func (l *lane) push(seg *segment) *segment {
	seg.created = time.Now()
	l.queue = append(l.queue, seg)
	l.grow(seg, segmentOverhead)
	if !l.sending {
		l.sending = true
		l.f.senders.Add(1)
		l.f.s.senders.start(l.send)
	} else {
		signal(l.wake)
	}
	return seg
}

func (l *lane) grow(seg *segment, bytes int) {
	seg.size += bytes
	l.pending += bytes
}

// segmentOverhead stands for the memory of a segment besides its entries.
const segmentOverhead = 256

// lockWithRoom locks the lane when it may take more. Errors: errReopen, ctx's.
func (l *lane) lockWithRoom(ctx context.Context) error {
	for {
		l.mu.Lock()
		if l.lost {
			l.mu.Unlock()
			return errReopen
		}
		if l.pending < l.f.s.cfg.MaxPendingBytes {
			return nil
		}
		l.mu.Unlock()
		select {
		case <-l.room:
		case <-ctx.Done():
			l.f.cut = true
			return context.Cause(ctx)
		}
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// declareRemoved declares, for a workload that is gone, the lines that had been read
// before, were to be read again and are not there any more; and, when the log was not
// read to its end, that there may have been others.
func (l *lane) declareRemoved(incomplete bool) {
	for at, c := range l.copies {
		if incomplete && at == 0 {
			last := furthest(c.read, c.wanted)
			c.wanted = [len(streamNames)]cursor{}
			from := c.read[stdout].at
			for i := range last {
				if last[i].at.After(from) {
					from = c.read[i].at
				}
			}
			// An error here is that the stream was found elsewhere, after the log is gone:
			// the message that would say so is the one that cannot be placed.
			_ = l.declare(c, subjects.LogGap{From: from, Reason: gapRemoved})
		}
		for i, wanted := range c.wanted {
			if !c.read[i].before(wanted) {
				continue
			}
			from := c.read[i].at
			c.wanted[i] = cursor{}
			_ = l.declare(c, subjects.LogGap{From: from, To: wanted.at, Reason: gapRemoved})
		}
	}
}
