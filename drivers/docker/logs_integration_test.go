//go:build integration

package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"go.uber.org/goleak"

	"github.com/kranix-io/kranix-runtime/drivers"
)

const logWorkload = "it/talker"

// talk starts a container that counts as an instance of logWorkload and runs script.
func talk(t *testing.T, d *Driver, ordinal int, script string, change ...func(*container.Config, *container.HostConfig)) string {
	t.Helper()
	config := &container.Config{Image: testImage, Cmd: []string{"sh", "-c", script}, Labels: map[string]string{
		drivers.LabelNode: d.env.Node, drivers.LabelWorkload: logWorkload, drivers.LabelRole: drivers.RoleInstance,
		drivers.LabelInstance: strconv.Itoa(ordinal)}}
	host := &container.HostConfig{NetworkMode: "none"}
	for _, c := range change {
		c(config, host)
	}
	c, err := d.cli.ContainerCreate(t.Context(), config, host, nil, nil, "kranix-test."+d.env.Node+"."+randomLabel(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cli.ContainerStart(t.Context(), c.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	return c.ID
}

func rotating(size string, files int) func(*container.Config, *container.HostConfig) {
	return func(_ *container.Config, h *container.HostConfig) {
		h.LogConfig = container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": size, "max-file": strconv.Itoa(files)}}
	}
}

// waitEnded waits until a container has stopped.
func waitEnded(t *testing.T, d *Driver, id string) {
	t.Helper()
	wait, fail := d.cli.ContainerWait(t.Context(), id, container.WaitConditionNotRunning)
	select {
	case <-wait:
	case err := <-fail:
		t.Fatal(err)
	}
}

func readLogs(t *testing.T, d *Driver, id string, opts drivers.LogOptions) []drivers.LogLine {
	t.Helper()
	var got []drivers.LogLine
	if err := d.ReadLogs(t.Context(), id, &opts, func(l drivers.LogLine) error { got = append(got, l); return nil }); err != nil {
		t.Fatalf("read logs: %v", err)
	}
	return got
}

// brief is a line as "<stream>:<text>", long texts by their length.
func brief(l drivers.LogLine) string {
	text := string(l.Line)
	if len(text) > 100 {
		text = fmt.Sprintf("%c*%d", text[0], len(text))
	}
	if l.Truncated {
		text += "+"
	}
	return l.Stream + ":" + text
}

func briefs(lines []drivers.LogLine) []string {
	var out []string
	for _, l := range lines {
		out = append(out, brief(l))
	}
	return out
}

// follower is a ReadLogs with Follow in the background.
type follower struct {
	cancel context.CancelFunc
	done   chan error

	mu    sync.Mutex
	lines []drivers.LogLine
}

func startFollow(t *testing.T, d *Driver, id string, opts drivers.LogOptions) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &follower{cancel: cancel, done: make(chan error, 1)}
	opts.Follow = true
	go func() {
		f.done <- d.ReadLogs(ctx, id, &opts, func(l drivers.LogLine) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.lines = append(f.lines, l)
			return nil
		})
	}()
	t.Cleanup(cancel)
	return f
}

func (f *follower) got() []drivers.LogLine {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.lines)
}

func (f *follower) has(text string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := len(f.lines) - 1; i >= 0; i-- {
		if string(f.lines[i].Line) == text {
			return true
		}
	}
	return false
}

func (f *follower) end(t *testing.T, within time.Duration) error {
	t.Helper()
	select {
	case err := <-f.done:
		return err
	case <-time.After(within):
		t.Fatalf("following did not end within %s", within)
		return nil
	}
}

func TestReadLogsSelects(t *testing.T) {
	d := newTestDriver(t)
	id := talk(t, d, 0, `
		echo one; sleep 0.3; echo two >&2; sleep 0.3; echo three; sleep 0.3
		printf '%040000d\n' 0; sleep 0.05
		printf '%01048676d\n' 0; sleep 0.05
		printf unfinished`)
	waitEnded(t, d, id)
	all := readLogs(t, d, logWorkload, drivers.LogOptions{})
	want := []string{"stdout:one", "stderr:two", "stdout:three", "stdout:0*40000", "stdout:0*1048576+", "stdout:" + strings.Repeat("0", 100), "stdout:unfinished"}
	if !slices.Equal(briefs(all), want) {
		t.Fatalf("got %q\nwant %q", briefs(all), want)
	}
	for i, l := range all {
		if l.Instance != 0 || l.InstanceID != id || l.Time.IsZero() || l.Time.Location() != time.UTC {
			t.Errorf("line %d: %+v", i, l)
		}
		if i > 0 && l.Time.Before(all[i-1].Time) {
			t.Errorf("line %d is before the one above it", i)
		}
	}
	tests := []struct {
		name string
		opts drivers.LogOptions
		want []string
	}{
		{"tail 1", drivers.LogOptions{Tail: 1}, want[6:]},
		{"tail counts lines, not pieces", drivers.LogOptions{Tail: 4}, want[3:]},
		{"tail longer than the log", drivers.LogOptions{Tail: 1000}, want},
		{"tail of a stream", drivers.LogOptions{Tail: 1, Stream: "stderr"}, want[1:2]},
		{"stderr", drivers.LogOptions{Stream: "stderr"}, want[1:2]},
		{"stdout", drivers.LogOptions{Stream: "stdout"}, slices.Delete(slices.Clone(want), 1, 2)},
		{"since is inclusive", drivers.LogOptions{Since: all[2].Time}, want[2:]},
		{"since a nanosecond later", drivers.LogOptions{Since: all[2].Time.Add(1)}, want[3:]},
		{"until is exclusive", drivers.LogOptions{Until: all[2].Time}, want[:2]},
		{"until a nanosecond later", drivers.LogOptions{Until: all[2].Time.Add(1)}, want[:3]},
		{"since and until", drivers.LogOptions{Since: all[1].Time, Until: all[3].Time}, want[1:3]},
		{"tail before until", drivers.LogOptions{Tail: 2, Until: all[3].Time}, want[1:3]},
		{"tail after since", drivers.LogOptions{Tail: 100, Since: all[3].Time}, want[3:]},
		{"follow what has an end", drivers.LogOptions{Follow: true, Until: all[3].Time}, want[:3]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := briefs(readLogs(t, d, logWorkload, tt.opts)); !slices.Equal(got, tt.want) {
				t.Errorf("got %q\nwant %q", got, tt.want)
			}
		})
	}
	for _, unknown := range []string{"it/nobody", logWorkload + "/1"} {
		if err := d.ReadLogs(t.Context(), unknown, nil, func(drivers.LogLine) error { return nil }); !errors.Is(err, drivers.ErrNotFound) {
			t.Errorf("read logs of %s: %v, want ErrNotFound", unknown, err)
		}
	}
	for _, bad := range []drivers.LogOptions{{Tail: -1}, {Stream: "both"}, {Since: all[1].Time, Until: all[0].Time}} {
		if err := d.ReadLogs(t.Context(), logWorkload, &bad, func(drivers.LogLine) error { return nil }); !errors.Is(err, drivers.ErrInvalidSpec) {
			t.Errorf("read logs with %+v: %v, want ErrInvalidSpec", bad, err)
		}
	}
	last := d.lastLogs(t.Context(), id, 20)
	if size := len(strings.Join(last, "")); len(last) != 3 || last[2] != "unfinished" || size != evidenceBytes {
		t.Errorf("last logs: %d lines, %d bytes, want 3 lines with the first cut so that all are %d bytes", len(last), size, evidenceBytes)
	}
	if last := d.lastLogs(t.Context(), id, 1); !slices.Equal(last, []string{"unfinished"}) {
		t.Errorf("last line: %q", last)
	}
}

func TestReadLogsMergesInstances(t *testing.T) {
	d := newTestDriver(t)
	a := talk(t, d, 0, `for i in 1 2 3 4 5; do echo a$i; sleep 0.1; done`)
	b := talk(t, d, 1, `for i in 1 2 3 4 5; do echo b$i >&2; sleep 0.1; done`)
	waitEnded(t, d, a)
	waitEnded(t, d, b)
	all := readLogs(t, d, logWorkload, drivers.LogOptions{})
	if len(all) != 10 || !slices.IsSortedFunc(all, func(x, y drivers.LogLine) int { return x.Time.Compare(y.Time) }) {
		t.Fatalf("not ten lines in order of time: %q", briefs(all))
	}
	if one := readLogs(t, d, logWorkload+"/1", drivers.LogOptions{}); len(one) != 5 || one[0].Instance != 1 || one[0].InstanceID != b {
		t.Errorf("instance 1: %q", briefs(one))
	}
	if tail := readLogs(t, d, logWorkload, drivers.LogOptions{Tail: 2}); len(tail) != 4 {
		t.Errorf("tail counts per instance: %q", briefs(tail))
	}
	var lines []string
	stream, err := d.StreamLogs(t.Context(), logWorkload+"/0", &drivers.LogOptions{Tail: 1, Timestamps: true})
	if err != nil {
		t.Fatal(err)
	}
	for l := range stream {
		lines = append(lines, l)
	}
	if len(lines) != 1 || !strings.HasSuffix(lines[0], "Z a5") {
		t.Errorf("stream with timestamps: %q", lines)
	}
	if _, err := d.StreamLogs(t.Context(), "it/nobody", nil); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("stream logs of nobody: %v, want ErrNotFound", err)
	}
}

func TestReadLogsOfTerminal(t *testing.T) {
	d := newTestDriver(t)
	id := talk(t, d, 0, `echo one; printf '%040000d\n' 0; echo two >&2`, func(c *container.Config, _ *container.HostConfig) { c.Tty = true })
	waitEnded(t, d, id)
	want := []string{"stdout:one", "stdout:0*40000", "stdout:two"}
	if got := briefs(readLogs(t, d, logWorkload, drivers.LogOptions{})); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := briefs(readLogs(t, d, logWorkload, drivers.LogOptions{Tail: 2})); !slices.Equal(got, want[1:]) {
		t.Errorf("tail: got %q, want %q", got, want[1:])
	}
}

func TestFollowAcrossRestarts(t *testing.T) {
	for name, change := range map[string]func(*container.Config, *container.HostConfig){
		"no rotation":      func(*container.Config, *container.HostConfig) {},
		"rotation is seen": rotating("10m", 3),
		"rotation unseen":  rotating("10m", 1),
	} {
		t.Run(name, func(t *testing.T) {
			d := newTestDriver(t)
			id := talk(t, d, 0, `trap 'echo bye; exit' TERM; echo up; for i in 1 2 3; do echo $i; done; printf open; while :; do sleep 0.05; done`, change)
			f := startFollow(t, d, logWorkload, drivers.LogOptions{})
			for life := 1; life <= 3; life++ {
				eventually(t, 10*time.Second, "the lines of a life", func() bool {
					return strings.Count(strings.Join(briefs(f.got()), "\n"), "stdout:3") == life
				})
				if life < 3 {
					if err := d.cli.ContainerRestart(t.Context(), id, container.StopOptions{}); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := d.cli.ContainerStop(t.Context(), id, container.StopOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := d.cli.ContainerRemove(t.Context(), id, container.RemoveOptions{Force: true}); err != nil {
				t.Fatal(err)
			}
			if err := f.end(t, 15*time.Second); err != nil {
				t.Fatalf("following a removed instance: %v, want nil", err)
			}
			life := []string{"stdout:up", "stdout:1", "stdout:2", "stdout:3", "stdout:openbye"}
			if got, want := briefs(f.got()), slices.Concat(life, life, life); !slices.Equal(got, want) {
				t.Errorf("got %q\nwant %q", got, want)
			}
		})
	}
}

// counted checks that lines are the numbers from 1 on, none twice and in order; jumps
// must be declared as gaps.
func counted(t *testing.T, lines []drivers.LogLine) (gaps int) {
	t.Helper()
	last := 0
	for _, l := range lines {
		n, err := strconv.Atoi(string(bytes.TrimSpace(l.Line)))
		if err != nil {
			t.Fatalf("line %q is not a number", l.Line)
		}
		switch {
		case n <= last:
			t.Fatalf("line %d after %d", n, last)
		case n > last+1 && !l.Gap:
			t.Fatalf("lines %d to %d are missing without a word", last+1, n-1)
		case n > last+1:
			gaps++
		}
		last = n
	}
	return gaps
}

func TestFollowAcrossRotation(t *testing.T) {
	for name, change := range map[string]func(*container.Config, *container.HostConfig){
		"seen": rotating("100k", 3),
		"unseen": func(c *container.Config, h *container.HostConfig) {
			h.LogConfig = container.LogConfig{Type: "local", Config: map[string]string{"max-size": "100k", "max-file": "3"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newTestDriver(t)
			talk(t, d, 0, `i=0; while [ $i -lt 200 ]; do seq $((i*50+1)) $((i*50+50)); i=$((i+1)); sleep 0.02; done; sleep 60`, change)
			f := startFollow(t, d, logWorkload, drivers.LogOptions{})
			eventually(t, 60*time.Second, "the last line", func() bool { return f.has("10000") })
			f.cancel()
			if err := f.end(t, 10*time.Second); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
			if gaps := counted(t, f.got()); gaps > 0 {
				t.Errorf("%d gaps in what the engine kept", gaps)
			}
		})
	}
}

// A writer that is faster than any reader makes the engine throw lines away; what
// arrives is in order, without repetition, and says where something is missing.
func TestFollowDeclaresWhatIsLost(t *testing.T) {
	d := newTestDriver(t)
	talk(t, d, 0, `seq 1 100000; sleep 0.2; seq 100001 100100; sleep 60`, rotating("10k", 3))
	f := startFollow(t, d, logWorkload, drivers.LogOptions{})
	eventually(t, 60*time.Second, "the last line", func() bool { return f.has("100100") })
	got := f.got()
	// What came before the first line was gone before anyone read.
	got[0].Gap = true
	t.Logf("%d lines, %d gaps", len(got), counted(t, got))
}

func TestFollowFindsNewInstances(t *testing.T) {
	d := newTestDriver(t)
	first := talk(t, d, 0, `echo first; sleep 60`)
	f := startFollow(t, d, logWorkload, drivers.LogOptions{})
	eventually(t, 5*time.Second, "the first instance", func() bool { return f.has("first") })
	talk(t, d, 1, `echo second; sleep 60`)
	eventually(t, 5*time.Second, "an instance that was added", func() bool { return f.has("second") })
	if err := d.cli.ContainerRemove(t.Context(), first, container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	talk(t, d, 0, `echo third; sleep 60`)
	eventually(t, 5*time.Second, "an instance that replaced another", func() bool { return f.has("third") })
}

func TestReadLogsEndsWithItsReader(t *testing.T) {
	d := newTestDriver(t)
	talk(t, d, 0, `seq 1 200000; sleep 60`)
	eventually(t, 30*time.Second, "lines", func() bool { return len(readLogs(t, d, logWorkload, drivers.LogOptions{Tail: 10})) == 10 })
	before := goleak.IgnoreCurrent()
	d, err := New(t.Context(), d.env, d.cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("enough")
	for _, follow := range []bool{false, true} {
		n := 0
		err := d.ReadLogs(t.Context(), logWorkload, &drivers.LogOptions{Follow: follow}, func(drivers.LogLine) error {
			if n++; n == 100 {
				return stop
			}
			return nil
		})
		if err != stop { //nolint:errorlint // it is promised as it is
			t.Errorf("follow %v: the reader's error came back as %v", follow, err)
		}
		if n != 100 {
			t.Errorf("follow %v: called %d times", follow, n)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	lines, err := d.StreamLogs(ctx, logWorkload, &drivers.LogOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	<-lines
	cancel()
	for range lines {
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

func TestFollowSlowReaderHoldsLittle(t *testing.T) {
	d := newTestDriver(t)
	talk(t, d, 0, `seq 1 1500000; sleep 60`)
	var most uint64
	n := 0
	stop := errors.New("enough")
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	start := heap()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	err := d.ReadLogs(t.Context(), logWorkload, &drivers.LogOptions{Follow: true}, func(drivers.LogLine) error {
		<-tick.C
		most = max(most, heap())
		if n++; n == 15 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if grown := int64(most) - int64(start); grown > 4<<20 {
		t.Errorf("a slow reader made the heap grow by %d KiB", grown>>10)
	}
}
