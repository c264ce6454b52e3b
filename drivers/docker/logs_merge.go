package docker

import (
	"container/heap"
	"errors"
	"io"
	"time"
)

// The bounds within which the lines of a container are put in order of their times. The
// engine takes the time of a line before it writes it, on one thread per stream, so
// that lines of the two streams that are close in time may be swapped in its log.
const (
	orderWindow = 25 * time.Millisecond
	orderBytes  = 1 << 20
)

// lineSource is read to its end, which is io.EOF.
type lineSource interface {
	next() (line, error)
}

// ordered puts the lines of one container in order of time. Each stream of it is in
// order already.
type ordered struct {
	src    lineSource
	queue  [streams][]line
	bytes  int
	newest time.Time
	end    error
}

func (o *ordered) next() (line, error) {
	for {
		if s, ok := o.due(); ok {
			l := o.queue[s][0]
			o.queue[s] = o.queue[s][1:]
			o.bytes -= len(l.text)
			return l, nil
		}
		if o.end != nil {
			return line{}, o.end
		}
		l, err := o.src.next()
		if err != nil {
			o.end = err
			continue
		}
		o.queue[l.stream] = append(o.queue[l.stream], l)
		o.bytes += len(l.text)
		if l.time.After(o.newest) {
			o.newest = l.time
		}
	}
}

// due finds the stream whose first line comes next, if no earlier one can still come.
func (o *ordered) due() (stream, bool) {
	out, err := o.queue[stdout], o.queue[stderr]
	switch {
	case len(out) == 0 && len(err) == 0:
		return 0, false
	case len(out) > 0 && len(err) > 0:
		if err[0].time.Before(out[0].time) {
			return stderr, true
		}
		return stdout, true
	}
	s := stdout
	if len(out) == 0 {
		s = stderr
	}
	return s, o.end != nil || o.bytes > orderBytes || o.newest.Sub(o.queue[s][0].time) >= orderWindow
}

// merge reads several logs, each in order of time, as one.
type merge struct {
	heads mergeHeap
	err   error
}

// mergeHead is the next line of one log; index is the log's.
type mergeHead struct {
	line  line
	index int
	src   lineSource
}

// newMerge reads the first line of every log.
func newMerge(sources []lineSource) (*merge, error) {
	m := &merge{}
	for i, src := range sources {
		l, err := src.next()
		if errors.Is(err, io.EOF) {
			continue
		}
		if err != nil {
			return nil, err
		}
		m.heads = append(m.heads, mergeHead{line: l, index: i, src: src})
	}
	heap.Init(&m.heads)
	return m, nil
}

// next returns the earliest line and the index of its log; io.EOF at the end of all.
func (m *merge) next() (line, int, error) {
	if m.err != nil {
		return line{}, 0, m.err
	}
	if len(m.heads) == 0 {
		return line{}, 0, io.EOF
	}
	first := m.heads[0]
	l, err := first.src.next()
	switch {
	case errors.Is(err, io.EOF):
		heap.Pop(&m.heads)
	case err != nil:
		m.err = err // after the line that was read before it
	default:
		m.heads[0].line = l
		heap.Fix(&m.heads, 0)
	}
	return first.line, first.index, nil
}

type mergeHeap []mergeHead

func (h mergeHeap) Len() int { return len(h) }
func (h mergeHeap) Less(i, j int) bool {
	if h[i].line.time.Equal(h[j].line.time) {
		return h[i].index < h[j].index
	}
	return h[i].line.time.Before(h[j].line.time)
}
func (h mergeHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *mergeHeap) Push(x any)   { *h = append(*h, x.(mergeHead)) }
func (h *mergeHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
