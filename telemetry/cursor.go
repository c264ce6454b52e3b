package telemetry

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/kranix-io/kranix-runtime/subjects"
)

// cursor is a place in one output stream of one copy: after the same-th entry with the
// timestamp at. The zero cursor is the beginning.
type cursor struct {
	at   time.Time
	same int
}

// advance moves the cursor past entries with the timestamp t.
func (c *cursor) advance(t time.Time, entries int) {
	if c.same > 0 && t.Equal(c.at) {
		c.same += entries
		return
	}
	c.at, c.same = t, entries
}

func (c cursor) zero() bool { return c.at.IsZero() }

func (c cursor) before(o cursor) bool {
	return c.at.Before(o.at) || c.at.Equal(o.at) && c.same < o.same
}

// resumption finds the way back to a cursor in a log that is read again.
type resumption struct {
	to     cursor
	seen   int
	active bool
	// checked says that the reader was asked for the line at the cursor, so that its
	// absence means something.
	checked bool
}

// skip returns how many of a line's entries have been shipped already, and whether
// lines at the cursor are missing.
func (r *resumption) skip(t time.Time, entries int) (shipped int, missing bool) {
	if !r.active {
		return 0, false
	}
	switch {
	case t.Before(r.to.at):
		return entries, false
	case t.Equal(r.to.at):
		shipped = min(entries, r.to.same-r.seen)
		r.seen += shipped
		if r.seen == r.to.same {
			r.active = false
		}
		return shipped, false
	default:
		r.active = false
		return 0, r.checked && r.seen < r.to.same
	}
}

// copyState is one copy of an instance: what the engine calls a container.
type copyState struct {
	id string
	// gone: the engine does not list it any more.
	gone bool
	// The rest is by output stream. read is how far lines have been taken in, stored how
	// far the stream holds them.
	read, stored [len(streamNames)]cursor
	resume       [len(streamNames)]resumption
	// wanted is how far lines had been read when they had to be read again.
	wanted [len(streamNames)]cursor
	// limited remembers the decision on a line the engine delivers in parts.
	limited [len(streamNames)]decision
}

// latest is the time of the newest line that was read.
func (c *copyState) latest() time.Time {
	if c.read[stderr].at.After(c.read[stdout].at) {
		return c.read[stderr].at
	}
	return c.read[stdout].at
}

// writerSkew is how far apart the timestamps of neighbours of different output streams
// can be: an engine stamps a line before it waits for the file.
const writerSkew = time.Second

// rewind prepares for reading the log again from since and returns to the cursors that
// were read. A stream that was quiet before since has nothing to find again, unless
// since is too late for this copy.
func (c *copyState) rewind(since time.Time) {
	uncovered := c.since().Before(since)
	for i := range c.read {
		c.resume[i] = resumption{to: c.read[i], active: !c.read[i].zero(), checked: uncovered || !c.read[i].at.Before(since)}
		c.limited[i] = undecided
	}
}

// since is the time from which the log must be read to miss nothing; zero is the
// beginning.
func (c *copyState) since() time.Time {
	latest := c.latest()
	if latest.IsZero() {
		return latest
	}
	// A stream that was quiet, or silent, for longer has nothing in between.
	earliest, floor := latest, latest.Add(-writerSkew)
	for _, r := range c.read {
		if r.at.Before(floor) {
			return floor
		}
		if r.at.Before(earliest) {
			earliest = r.at
		}
	}
	return earliest
}

const (
	// maxCopies is how many copies of one ordinal are told apart. Two exist during an
	// update; more only when updates follow each other faster than instances stop.
	maxCopies = 16
	// maxGone is how many copies the engine no longer lists are remembered, since every
	// message carries the cursors of all.
	maxGone = 2
)

// decodeCursors reads the cursors out of a log message's data.
func decodeCursors(data []byte) ([]*copyState, error) {
	var d struct {
		Cursors []subjects.LogCursor `json:"cursors"`
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("read log cursors: %w", err)
	}
	var copies []*copyState
	for _, lc := range d.Cursors {
		var c *copyState
		for _, known := range copies {
			if known.id == lc.InstanceID {
				c = known
			}
		}
		if c == nil {
			c = &copyState{id: lc.InstanceID}
			copies = append(copies, c)
		}
		i := streamIndex(lc.Stream)
		c.read[i] = cursor{at: lc.Time.UTC(), same: lc.Same}
		c.stored[i] = c.read[i]
	}
	return copies, nil
}

// encodeCursors lists the cursors of all copies, own first, with ends in place of what
// is stored of own.
func encodeCursors(copies []*copyState, own *copyState, ends [len(streamNames)]cursor) []subjects.LogCursor {
	out := make([]subjects.LogCursor, 0, 2*len(copies))
	add := func(c *copyState, at [len(streamNames)]cursor) {
		for i, cur := range at {
			if !cur.zero() {
				out = append(out, subjects.LogCursor{InstanceID: c.id, Stream: streamNames[i], Time: cur.at, Same: cur.same})
			}
		}
	}
	merged := own.stored
	for i, end := range ends {
		if !end.zero() {
			merged[i] = end
		}
	}
	add(own, merged)
	for _, c := range copies {
		if c != own {
			add(c, c.stored)
		}
	}
	return out
}
