package docker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// show is a line as "<stream> <nanoseconds>.<nth> <text>[+]".
func show(l line) string {
	s := fmt.Sprintf("%s %d.%d %s", l.stream, l.time.Sub(t0), l.nth, l.text)
	if l.truncated {
		s += "+"
	}
	return s
}

func shows(lines []line) []string {
	var out []string
	for _, l := range lines {
		out = append(out, show(l))
	}
	return out
}

func TestJoiner(t *testing.T) {
	p := func(s stream, n int, text string, last bool) piece { return piece{s, at(n), []byte(text), last} }
	tests := []struct {
		name string
		in   []piece
		want []string
		rest []string
	}{
		{"whole lines", []piece{p(stdout, 1, "a", true), p(stdout, 2, "b", true)}, []string{"stdout 1.0 a", "stdout 2.0 b"}, nil},
		{"lines of one time are numbered", []piece{p(stdout, 1, "a", true), p(stderr, 1, "b", true), p(stdout, 1, "c", true)},
			[]string{"stdout 1.0 a", "stderr 1.0 b", "stdout 1.1 c"}, nil},
		{"parts", []piece{p(stdout, 1, "ab", false), p(stdout, 1, "cd", false), p(stdout, 1, "e", true)}, []string{"stdout 1.0 abcde"}, nil},
		{"parts amid the other stream", []piece{p(stdout, 1, "ab", false), p(stderr, 2, "x", true), p(stdout, 1, "c", true)},
			[]string{"stderr 2.0 x", "stdout 1.0 abc"}, nil},
		{"as long as may be", []piece{p(stdout, 1, "abcd", false), p(stdout, 1, "efgh", true)}, []string{"stdout 1.0 abcdefgh"}, nil},
		{"longer", []piece{p(stdout, 1, "abcd", false), p(stdout, 1, "efgh", false), p(stdout, 1, "i", true)},
			[]string{"stdout 1.0 abcdefgh+", "stdout 1.1 i"}, nil},
		{"much longer in one piece", []piece{p(stdout, 1, "abcdefghijklmnopqrs", true)},
			[]string{"stdout 1.0 abcdefgh+", "stdout 1.1 ijklmnop+", "stdout 1.2 qrs"}, nil},
		{"unfinished", []piece{p(stdout, 1, "ab", false), p(stderr, 2, "x", false)}, nil, []string{"stdout 1.0 ab", "stderr 2.0 x"}},
		{"unfinished in an earlier life", []piece{p(stdout, 1, "ab", false), p(stdout, 2, "c", true)}, []string{"stdout 1.0 ab", "stdout 2.0 c"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := joiner{limit: 8}
			var got []line
			for _, piece := range tt.in {
				got = j.add(got, piece)
			}
			if open := j.openSince(); open.IsZero() != (tt.rest == nil) {
				t.Errorf("open since %v", open)
			}
			if rest := j.flush(nil); !slices.Equal(shows(got), tt.want) || !slices.Equal(shows(rest), tt.rest) {
				t.Errorf("got %q and %q, want %q and %q", shows(got), shows(rest), tt.want, tt.rest)
			}
		})
	}
}

// However lines are split, what is joined is what was split.
func TestJoinerUndoesSplitting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOf(rapid.StringMatching(`[a-c]{0,40}`)).Draw(t, "lines")
		j := joiner{limit: rapid.IntRange(1, 20).Draw(t, "limit")}
		var got []line
		for i, text := range texts {
			for len(text) > 0 {
				n := rapid.IntRange(1, len(text)).Draw(t, "part")
				got = j.add(got, piece{stdout, at(i), []byte(text[:n]), false})
				text = text[n:]
			}
			got = j.add(got, piece{stdout, at(i), nil, true})
		}
		var joined []string
		open := false
		for _, l := range got {
			if len(l.text) > j.limit || (l.truncated && len(l.text) != j.limit) {
				t.Fatalf("a line of %d bytes, limit %d, truncated %v", len(l.text), j.limit, l.truncated)
			}
			if open {
				joined[len(joined)-1] += string(l.text)
			} else {
				joined = append(joined, string(l.text))
			}
			open = l.truncated
		}
		if open || !slices.Equal(joined, texts) && len(joined)+len(texts) > 0 {
			t.Fatalf("got %q, want %q", joined, texts)
		}
	})
}

// given is a lineSource of given lines.
type given struct {
	lines []line
	err   error
}

func (g *given) next() (line, error) {
	if len(g.lines) == 0 {
		if g.err != nil {
			return line{}, g.err
		}
		return line{}, io.EOF
	}
	l := g.lines[0]
	g.lines = g.lines[1:]
	return l, nil
}

func TestOrderedAndMerge(t *testing.T) {
	at := func(s stream, ms time.Duration) line { return line{stream: s, time: t0.Add(ms * time.Millisecond)} }
	one := &ordered{src: &given{lines: []line{at(stdout, 5), at(stderr, 3), at(stdout, 9), at(stderr, 8), at(stdout, 10), at(stdout, 100), at(stderr, 90)}}}
	two := &ordered{src: &given{lines: []line{at(stderr, 4), at(stderr, 8), at(stderr, 200)}}}
	m, err := newMerge([]lineSource{one, two, &given{}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		l, i, err := m.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%d:%d", i, l.time.Sub(t0).Milliseconds()))
	}
	if want := "0:3 1:4 0:5 0:8 1:8 0:9 0:10 0:90 0:100 1:200"; strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
	broken := errors.New("broken")
	if m, err = newMerge([]lineSource{&given{lines: []line{at(stdout, 1)}, err: broken}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.next(); err != nil {
		t.Errorf("the line before an error: %v", err)
	}
	if _, _, err := m.next(); !errors.Is(err, broken) {
		t.Errorf("got %v, want the source's error", err)
	}
}

func TestOrderedHoldsLittle(t *testing.T) {
	// All of one time and one stream, so that nothing is due by its time.
	big := bytes.Repeat([]byte("x"), orderBytes/4)
	src := &given{}
	for i := range 100 {
		src.lines = append(src.lines, line{time: t0, nth: i, text: big})
	}
	o := &ordered{src: src}
	if l, err := o.next(); err != nil || l.nth != 0 {
		t.Fatal(l.nth, err)
	}
	if read := 100 - len(src.lines); read > 6 {
		t.Errorf("%d lines were read ahead", read)
	}
}

func TestCursor(t *testing.T) {
	var c cursor
	l := line{stream: stdout, time: at(5), nth: 1}
	if !c.after(l) || !c.newest().IsZero() {
		t.Error("an empty cursor has read nothing")
	}
	c.advance(l)
	for _, tt := range []struct {
		line line
		want bool
	}{
		{line{stream: stdout, time: at(4)}, false},
		{line{stream: stdout, time: at(5), nth: 0}, false},
		{line{stream: stdout, time: at(5), nth: 1}, false},
		{line{stream: stdout, time: at(5), nth: 2}, true},
		{line{stream: stdout, time: at(6)}, true},
		{line{stream: stderr, time: at(4)}, true},
	} {
		if got := c.after(tt.line); got != tt.want {
			t.Errorf("%s: new is %v, want %v", show(tt.line), got, tt.want)
		}
	}
	if !c.newest().Equal(at(5)) {
		t.Errorf("newest %v", c.newest())
	}
}

func TestTailRing(t *testing.T) {
	r := tailRing{size: 3}
	for i := range 6 {
		r.add(line{stream: stdout, time: at(i), nth: 0}, true)
	}
	r.add(line{stream: stderr, time: at(9), nth: 4}, false)
	start, low := r.start()
	if want := (cursor{stdout: {time: at(3)}, stderr: {time: at(9), nth: 5}}); start != want || !low.Equal(at(3)) {
		t.Errorf("start %v, low %v, want %v", start, low, want)
	}
}
