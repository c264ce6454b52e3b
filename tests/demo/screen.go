package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// The colours, used on terminals only.
const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

// screen prints what happens, and remembers how long each step took.
type screen struct {
	colour bool
	now    func() time.Time

	mu    sync.Mutex
	out   io.Writer
	steps []timed
}

type timed struct {
	name   string
	start  time.Time
	took   time.Duration
	failed bool
	// detail is what of the step is worth a line of its own.
	detail string
}

func newScreen(out io.Writer) *screen {
	f, ok := out.(*os.File)
	colour := false
	if ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" {
		info, err := f.Stat()
		colour = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return &screen{out: out, colour: colour, now: time.Now}
}

func (s *screen) paint(colour, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (s *screen) print(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, format+"\n", args...)
}

// step begins a step and its time.
func (s *screen) step(n, of int, name string) {
	title := name
	if of > 0 {
		title = fmt.Sprintf("%d/%d  %s", n, of, name)
	}
	s.print("\n%s", s.paint(bold, title))
	s.steps = append(s.steps, timed{name: name, start: s.now()})
}

func (s *screen) stepDone(ok bool) {
	t := &s.steps[len(s.steps)-1]
	t.took = s.now().Sub(t.start)
	t.failed = !ok
}

// detail adds to the timeline what came of the present step.
func (s *screen) detail(format string, args ...any) {
	s.steps[len(s.steps)-1].detail = fmt.Sprintf(format, args...)
}

// command shows a command line as one would type it.
func (s *screen) command(line string) { s.print("  %s", s.paint(cyan, "$ "+line)) }

func (s *screen) note(format string, args ...any) { s.print("  "+format, args...) }

func (s *screen) good(text string) { s.print("\n%s", s.paint(green, text)) }

func (s *screen) fault(err error) {
	for i, line := range strings.Split(err.Error(), "\n") {
		if i == 0 {
			line = "demo: " + line
		}
		s.print("%s", s.paint(red, line))
	}
}

// timeline prints how long each step took.
func (s *screen) timeline() {
	if len(s.steps) == 0 {
		return
	}
	width := 0
	for _, t := range s.steps {
		width = max(width, len(t.name))
	}
	s.print("\n%s", s.paint(bold, "Timeline"))
	var total time.Duration
	for _, t := range s.steps {
		total += t.took
		mark := s.paint(green, "ok    ")
		if t.failed {
			mark = s.paint(red, "failed")
		}
		s.print("  %s  %-*s  %7s  %s", mark, width, t.name, seconds(t.took), s.paint(dim, t.detail))
	}
	s.print("          %-*s  %7s", width, "total", seconds(total))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2fs", d.Seconds()) }

// indented is a writer for the output of programs: each line moved in.
func (s *screen) indented() *lines { return &lines{s: s} }

// lines prints complete lines; close prints what is left.
type lines struct {
	s    *screen
	mu   sync.Mutex
	rest []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.s.print("  %s", line)
		l.rest = rest
	}
}

func (l *lines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.rest) > 0 {
		l.s.print("  %s", l.rest)
		l.rest = nil
	}
}
