package compliance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func logCases() []Case {
	return []Case{
		{"LogsTellStreams", "stdout and stderr are told apart, lines have times and an instance", logStreams},
		{"LogsTail", "tail starts that many lines before the end", logTail},
		{"LogsSinceUntil", "since is inclusive and until exclusive, to the nanosecond", logBounds},
		{"LogsFollowRestart", "following goes on across a restart and misses no line", logFollow},
		{"LogsFollowEndsWithRemoval", "following ends when the instance is removed", logFollowEnds},
		{"LogsAreInOrder", "lines come in order and none is missing", logOrder},
		{"LongLinesAreWhole", "a line longer than an engine's buffer arrives in one piece", longLine},
		{"LongestLinesAreCut", "a line above the limit arrives in pieces that say so", longestLine},
		{"LogOptionsAreChecked", "options that make no sense are ErrInvalidSpec", logOptions},
		{"StreamLogsIsReadLogs", "the plain stream has the same lines, and ends with its context", streamLogs},
	}
}

// logs reads lines with a LogReader. A backend without one is checked through
// StreamLogs alone; InterfacesAreDeclared says whether that is right.
func (r *run) logs(id string, opts *drivers.LogOptions) []drivers.LogLine {
	r.Helper()
	l, ok := r.d.(drivers.LogReader)
	if !ok {
		r.Fatalf("the driver of %s reads no structured logs", r.d.Backend())
	}
	var out []drivers.LogLine
	err := l.ReadLogs(r.timed(), id, opts, func(line drivers.LogLine) error {
		line.Line = slices.Clone(line.Line)
		out = append(out, line)
		return nil
	})
	if err != nil {
		r.Fatalf("read logs of %s: %v", id, err)
	}
	return out
}

// wantLogs waits until a workload has n lines.
func (r *run) wantLogs(id string, n int) []drivers.LogLine {
	r.Helper()
	var lines []drivers.LogLine
	r.eventually(fmt.Sprintf("%s has %d lines", id, n), func() error {
		if lines = r.logs(id, nil); len(lines) < n {
			return fmt.Errorf("it has %d", len(lines))
		}
		return nil
	})
	return lines
}

func logStreams(r *run) {
	s := r.spec(r.h.Workloads.Prints("web", "to stdout", "err:to stderr", "", "  spaces  "))
	began := time.Now()
	r.deploy(s)
	lines := r.wantLogs(s.ID(), 4)
	in := r.instance(s.ID())
	got := map[string]string{}
	for _, l := range lines {
		got[string(l.Line)] = l.Stream
		if l.Instance != 0 || l.InstanceID != in.ID || l.Truncated {
			r.Errorf("want instance 0 %s, got %+v", in.ID, l)
		}
		if l.Time.Before(began.Add(-time.Minute)) || l.Time.After(time.Now().Add(time.Minute)) || l.Time.Location() != time.UTC {
			r.Errorf("want a time in UTC near now, got %s", l.Time)
		}
	}
	want := map[string]string{"to stdout": "stdout", "to stderr": "stderr", "": "stdout", "  spaces  ": "stdout"}
	if len(lines) != 4 || !mapsEqual(got, want) {
		r.Errorf("want %v, got %v", want, got)
	}
	for _, stream := range []string{"stdout", "stderr"} {
		for _, l := range r.logs(s.ID(), &drivers.LogOptions{Stream: stream}) {
			if l.Stream != stream {
				r.Errorf("want %s alone, got %+v", stream, l)
			}
		}
	}
	if only := r.logs(s.ID(), &drivers.LogOptions{Stream: "stderr"}); len(only) != 1 {
		r.Errorf("want one line of stderr, got %v", only)
	}
	if one := r.logs(s.ID()+"/0", nil); len(one) != 4 {
		r.Errorf("want the lines of instance 0, got %v", one)
	}
}

func mapsEqual(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

func logTail(r *run) {
	s := r.spec(r.h.Workloads.Prints("web", "one", "two", "three", "four", "five"))
	r.deploy(s)
	r.wantLogs(s.ID(), 5)
	r.wantLines(s.ID(), &drivers.LogOptions{Tail: 2}, "four", "five")
	r.wantLines(s.ID(), &drivers.LogOptions{Tail: 100}, "one", "two", "three", "four", "five")
}

func logBounds(r *run) {
	s := r.spec(r.h.Workloads.Ticks("web"))
	r.deploy(s)
	lines := r.wantLogs(s.ID(), 20)
	from, to := lines[5].Time, lines[11].Time
	got := r.logs(s.ID(), &drivers.LogOptions{Since: from, Until: to})
	if len(got) == 0 || !got[0].Time.Equal(from) || !got[len(got)-1].Time.Before(to) {
		r.Fatalf("want lines from %s to before %s, got %v", from, to, times(got))
	}
	var want []drivers.LogLine
	for _, l := range lines {
		if !l.Time.Before(from) && l.Time.Before(to) {
			want = append(want, l)
		}
	}
	if len(got) != len(want) {
		r.Errorf("want %d lines, got %d: %v", len(want), len(got), times(got))
	}
	past := r.logs(s.ID(), &drivers.LogOptions{Since: from.Add(time.Nanosecond), Until: to.Add(time.Nanosecond)})
	if len(past) == 0 || !past[0].Time.After(from) || !past[len(past)-1].Time.Equal(to) {
		r.Errorf("want lines after %s to %s, got %v", from, to, times(past))
	}
}

func times(lines []drivers.LogLine) []time.Time {
	var out []time.Time
	for _, l := range lines {
		out = append(out, l.Time)
	}
	return out
}

// tick is the number of a line of Workloads.Ticks.
func (r *run) tick(l drivers.LogLine) int {
	n, err := strconv.Atoi(strings.TrimPrefix(string(l.Line), "tick "))
	if err != nil {
		r.Errorf("want a line such as \"tick 7\", got %q", l.Line)
	}
	return n
}

// follow reads with Follow until stop says so of the lines so far.
func (r *run) follow(id string, stop func([]drivers.LogLine) bool) <-chan []drivers.LogLine {
	r.Helper()
	l, ok := r.d.(drivers.LogReader)
	if !ok {
		r.Fatalf("the driver of %s reads no structured logs", r.d.Backend())
	}
	ctx, cancel := context.WithCancel(r.timed())
	out := make(chan []drivers.LogLine, 1)
	go func() {
		defer cancel()
		var lines []drivers.LogLine
		err := l.ReadLogs(ctx, id, &drivers.LogOptions{Follow: true}, func(line drivers.LogLine) error {
			line.Line = slices.Clone(line.Line)
			if lines = append(lines, line); stop(lines) {
				cancel()
			}
			return nil
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			r.Errorf("follow: %v", err)
		}
		out <- lines
	}()
	return out
}

func logFollow(r *run) {
	s := r.spec(r.h.Workloads.Ticks("web"))
	r.deploy(s)
	done := r.follow(s.ID(), func(lines []drivers.LogLine) bool {
		// The numbers begin again with the second life.
		lives := 0
		for _, l := range lines {
			if strings.HasSuffix(string(l.Line), " 1") {
				lives++
			}
		}
		return lives == 2 && strings.HasSuffix(string(lines[len(lines)-1].Line), " 20")
	})
	r.wantLogs(s.ID(), 10)
	r.restart(s.ID())
	lines := <-done
	// Every number follows the one before, except where the second life begins.
	begins := 0
	for i, l := range lines {
		switch n := r.tick(l); {
		case n == 1:
			begins++
		case i == 0 || n != r.tick(lines[i-1])+1:
			r.Fatalf("want no line missing or twice, got %q after %q", l.Line, lines[max(i-1, 0)].Line)
		}
	}
	if begins != 2 {
		r.Errorf("want the lines of two lives, got %d of %d lines", begins, len(lines))
	}
}

func logFollowEnds(r *run) {
	s := r.spec(r.h.Workloads.Prints("web", "only line"))
	r.deploy(s)
	r.wantLogs(s.ID(), 1)
	begun := make(chan struct{})
	done := r.follow(s.ID(), func([]drivers.LogLine) bool { close(begun); return false })
	select {
	case <-begun:
	case <-time.After(r.h.Timeouts.Step):
		r.Fatalf("want the line that was printed already")
	}
	r.destroy(s.ID())
	select {
	case lines := <-done:
		if len(lines) != 1 {
			r.Errorf("want one line, got %v", lines)
		}
	case <-time.After(r.h.Timeouts.Step / 2):
		r.Errorf("want following to end with the workload")
	}
}

func logOrder(r *run) {
	var want []string
	for i := range 200 {
		want = append(want, fmt.Sprintf("line %d", i))
	}
	s := r.spec(r.h.Workloads.Prints("web", want...))
	r.deploy(s)
	lines := r.wantLogs(s.ID(), len(want))
	for i, l := range lines {
		if i >= len(want) || string(l.Line) != want[i] {
			r.Fatalf("want %q at %d, got %q", want[min(i, len(want)-1)], i, l.Line)
		}
		if i > 0 && l.Time.Before(lines[i-1].Time) {
			r.Errorf("want times in order, got %s after %s", l.Time, lines[i-1].Time)
		}
	}
}

func longLine(r *run) {
	const size = 100_000
	s := r.spec(r.h.Workloads.LongLine("web", size))
	r.deploy(s)
	lines := r.wantLogs(s.ID(), 2)
	if len(lines) != 2 || len(lines[0].Line) != size || lines[0].Truncated || string(lines[1].Line) != "end" {
		r.Errorf("want a line of %d bytes and \"end\", got %s", size, shapes(lines))
	}
}

func longestLine(r *run) {
	const size = drivers.MaxLogLine + 1000
	s := r.spec(r.h.Workloads.LongLine("web", size))
	r.deploy(s)
	lines := r.wantLogs(s.ID(), 3)
	if len(lines) != 3 || len(lines[0].Line) != drivers.MaxLogLine || !lines[0].Truncated ||
		len(lines[1].Line) != 1000 || lines[1].Truncated || string(lines[2].Line) != "end" {
		r.Errorf("want pieces of %d and 1000 bytes and \"end\", got %s", drivers.MaxLogLine, shapes(lines))
	}
}

func shapes(lines []drivers.LogLine) string {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "[%d bytes, truncated %t] ", len(l.Line), l.Truncated)
	}
	return b.String()
}

func logOptions(r *run) {
	s := r.spec(r.h.Workloads.Prints("web", "x"))
	r.deploy(s)
	for _, o := range []drivers.LogOptions{{Stream: "stdin"}, {Tail: -1}} {
		_, err := r.d.StreamLogs(r.timed(), s.ID(), &o)
		r.wantClass(fmt.Sprintf("options %+v", o), err, drivers.ErrInvalidSpec)
	}
	_, err := r.d.StreamLogs(r.timed(), s.ID()+"/first", nil)
	r.wantClass("an ordinal that is none", err, drivers.ErrInvalidSpec)
}

func streamLogs(r *run) {
	s := r.spec(r.h.Workloads.Prints("web", "one", "two"))
	r.deploy(s)
	r.wantLines(s.ID(), nil, "one", "two")
	for i, l := range r.text(s.ID(), &drivers.LogOptions{Timestamps: true}) {
		stamp, text, _ := strings.Cut(l, " ")
		if at, err := time.Parse(time.RFC3339Nano, stamp); err != nil || text != []string{"one", "two"}[i] || at.IsZero() {
			r.Errorf("want a time and the line, got %q", l)
		}
	}
	ctx, cancel := context.WithCancel(r.timed())
	ch, err := r.d.StreamLogs(ctx, s.ID(), &drivers.LogOptions{Follow: true})
	if err != nil {
		cancel()
		r.Fatalf("follow: %v", err)
	}
	cancel()
	timeout := time.After(r.h.Timeouts.Step)
	for {
		select {
		case _, open := <-ch:
			if !open {
				return
			}
		case <-timeout:
			r.Fatalf("want the channel closed when the context ends")
		}
	}
}
