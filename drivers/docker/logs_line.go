package docker

import (
	"bytes"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// line is a complete line of a container's output, or a part of one that is longer than
// drivers.MaxLogLine.
type line struct {
	stream stream
	time   time.Time
	// nth counts, from 0, the lines of the same stream and time before this one. Stream,
	// time and nth identify a line however often and by whatever way it is read.
	nth       int
	text      []byte
	truncated bool
}

// joiner puts the parts of lines together again. The zero value joins up to
// drivers.MaxLogLine bytes.
type joiner struct {
	limit int
	open  [streams]openLine
	last  [streams]struct {
		time time.Time
		nth  int
	}
}

// openLine is a line whose end has not come yet.
type openLine struct {
	time  time.Time
	text  []byte
	begun bool
}

// add takes a piece and appends the lines it completes to out.
func (j *joiner) add(out []line, p piece) []line {
	o := &j.open[p.stream]
	if o.begun && !o.time.Equal(p.time) {
		// The program ended without ending its line, and a new life of it goes on here.
		out = j.complete(out, p.stream)
	}
	if !o.begun && p.last && len(p.text) <= j.max() {
		return append(out, j.line(p.stream, p.time, bytes.Clone(p.text), false))
	}
	o.begun, o.time = true, p.time
	o.text = append(o.text, p.text...)
	for len(o.text) > j.max() {
		out = append(out, j.line(p.stream, p.time, bytes.Clone(o.text[:j.max()]), true))
		o.text = append(o.text[:0], o.text[j.max():]...)
	}
	if p.last {
		out = j.complete(out, p.stream)
	}
	return out
}

// flush completes what is open: no more pieces will come.
func (j *joiner) flush(out []line) []line {
	for s := range j.open {
		if j.open[s].begun {
			out = j.complete(out, stream(s))
		}
	}
	return out
}

// openSince is the time of the oldest line that is open, zero when none is.
func (j *joiner) openSince() time.Time {
	var oldest time.Time
	for _, o := range j.open {
		if o.begun && (oldest.IsZero() || o.time.Before(oldest)) {
			oldest = o.time
		}
	}
	return oldest
}

func (j *joiner) complete(out []line, s stream) []line {
	o := &j.open[s]
	out = append(out, j.line(s, o.time, o.text, false))
	*o = openLine{}
	return out
}

func (j *joiner) line(s stream, t time.Time, text []byte, truncated bool) line {
	last := &j.last[s]
	if last.time.Equal(t) {
		last.nth++
	} else {
		last.time, last.nth = t, 0
	}
	return line{stream: s, time: t, nth: last.nth, text: text, truncated: truncated}
}

func (j *joiner) max() int {
	if j.limit > 0 {
		return j.limit
	}
	return drivers.MaxLogLine
}

// cursor is how far a container's log has been read, per stream: within a stream times
// never go back, between the two they may, by as long as the engine's threads take to
// get from the clock to the file.
type cursor [streams]position

// position says that nth lines of a time have been read, and all before it.
type position struct {
	time time.Time
	nth  int
}

// after says whether l has not been read.
func (c cursor) after(l line) bool {
	p := c[l.stream]
	return l.time.After(p.time) || (l.time.Equal(p.time) && l.nth >= p.nth)
}

// advance records that l has been read.
func (c *cursor) advance(l line) { c[l.stream] = position{time: l.time, nth: l.nth + 1} }

// newest is the time of the newest line that was read, zero for none.
func (c cursor) newest() time.Time {
	t := c[stdout].time
	if c[stderr].time.After(t) {
		t = c[stderr].time
	}
	return t
}
