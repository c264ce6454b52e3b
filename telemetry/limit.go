package telemetry

import "time"

// decision says what a quota made of a line.
type decision int

const (
	undecided decision = iota
	admitted
	dropped
)

// limiter is the quota of one workload. It counts in seconds of the lines' own
// timestamps, not of the clock on the wall: lines that waited for a bus that was away
// are not punished for arriving together, and a log that is read twice is judged the
// same. Not safe for concurrent use.
type limiter struct {
	lines, bytes int64
	// windows holds the usage of the latest seconds, since the instances of a workload
	// are not read in step; late takes the lines that are older than that.
	windows [limitWindows]window
	late    window
}

const limitWindows = 32

type window struct {
	second       int64
	lines, bytes int64
	// full drops the rest of the second whole, so that there is one gap in it and not one
	// for each short line that would still fit.
	full bool
}

// newLimiter returns nil, which admits everything, when there is no quota.
func newLimiter(lines, bytes int64) *limiter {
	if lines == 0 && bytes == 0 {
		return nil
	}
	return &limiter{lines: lines, bytes: bytes}
}

func (l *limiter) decide(at time.Time, size int) decision {
	if l == nil {
		return admitted
	}
	second := at.Unix()
	w := &l.windows[uint64(second)%limitWindows]
	if second < w.second {
		w = &l.late
	}
	if w.second != second {
		*w = window{second: second}
	}
	// A line that is larger than the quota is admitted when it is the first.
	if l.lines > 0 && w.lines >= l.lines || l.bytes > 0 && w.lines > 0 && w.bytes+int64(size) > l.bytes {
		w.full = true
	}
	if w.full {
		return dropped
	}
	w.lines++
	w.bytes += int64(size)
	return admitted
}
