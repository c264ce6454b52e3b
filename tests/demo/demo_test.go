package main

import (
	"bytes"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDifference(t *testing.T) {
	t.Parallel()
	before := map[string]string{"1": "/a running", "2": "/b running", "3": "/c exited"}
	after := map[string]string{"1": "/a running", "2": "/b exited", "4": "/d created"}
	want := []string{"/b running is now /b exited", "/c exited is gone", "/d created is new"}
	if got := difference(before, after); !slices.Equal(got, want) {
		t.Errorf("difference %q, want %q", got, want)
	}
	if got := difference(before, before); len(got) > 0 {
		t.Errorf("difference of the same: %q", got)
	}
}

func TestLinesAreMovedInWhole(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := newScreen(&out).indented()
	for _, part := range []string{"a", "b\nc", "d\n\n", "rest"} {
		if _, err := l.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := out.String(), "  ab\n  cd\n  \n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	l.close()
	if !strings.HasSuffix(out.String(), "  rest\n") {
		t.Errorf("printed %q, want the rest at the end", out.String())
	}
}

func TestTimeline(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := newScreen(&out)
	now := time.Unix(0, 0)
	s.now = func() time.Time { return now }
	s.step(1, 2, "first")
	s.detail("with a detail")
	now = now.Add(1500 * time.Millisecond)
	s.stepDone(true)
	s.step(2, 2, "second")
	now = now.Add(time.Second)
	s.stepDone(false)
	out.Reset()
	s.timeline()
	const want = `
Timeline
  ok      first     1.50s  with a detail
  failed  second    1.00s  
          total     2.50s
`
	if out.String() != want {
		t.Errorf("timeline:\n%s\nwant:\n%s", out.String(), want)
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("colours where there is no terminal")
	}
}

func TestExitCode(t *testing.T) {
	t.Parallel()
	three := exec.CommandContext(t.Context(), "sh", "-c", "exit 3").Run()
	for name, tc := range map[string]struct {
		err  error
		want int
		ok   bool
	}{
		"as wanted":     {three, 3, true},
		"done":          {nil, 0, true},
		"not wanted":    {three, 0, false},
		"done, unasked": {nil, 3, false},
		"not run":       {errors.New("no such file"), 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := exitCode(tc.err, tc.want, "deploy"); (err == nil) != tc.ok {
				t.Errorf("error %v, want none: %v", err, tc.ok)
			}
		})
	}
}
