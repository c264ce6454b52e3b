package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// observe stores a status, as an observer would.
func (a *testApp) observe(t *testing.T, s drivers.WorkloadStatus) {
	t.Helper()
	kv, err := a.bus.js.KeyValue(t.Context(), subjects.BucketStatus)
	if err != nil {
		t.Fatal(err)
	}
	value, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	w := subjects.Workload{Backend: s.Backend, Node: s.Node, Namespace: s.Namespace, Name: s.Name}
	if _, err := kv.Put(t.Context(), w.Key(), value); err != nil {
		t.Fatal(err)
	}
}

func status(name string, desired int) drivers.WorkloadStatus {
	return drivers.WorkloadStatus{
		ID: "shop/" + name, Namespace: "shop", Name: name, Backend: "sim", Node: "node-1", Phase: drivers.PhaseRunning, Desired: desired, Ready: desired,
	}
}

func TestLogs(t *testing.T) {
	a := newTestApp(t)
	a.observe(t, status("web", 2))
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	a.ship(t, 0, 2, start, append(numbered(3, "a", "stdout"), subjects.LogEntry{Stream: "stderr", Line: "oops"})...)
	a.ship(t, 1, 10, start, subjects.LogEntry{Stream: "stdout", Line: "long", Truncated: true},
		subjects.LogEntry{Stream: "stdout", Line: "er"}, subjects.LogEntry{Stream: "stdout", Line: "\ufffd", Base64: []byte{0xff}})
	tests := map[string]struct {
		args []string
		want string
	}{
		"all":    {nil, "0 | a0\n0 | a1\n0 | a2\n0 | oops\n1 | longer\n1 | \xff\n"},
		"one":    {[]string{"--instance", "0"}, "a0\na1\na2\noops\n"},
		"stream": {[]string{"--stream", "stderr"}, "0 | oops\n"},
		"tail":   {[]string{"--tail", "1"}, "1 | \xff\n0 | oops\n"},
		"tail 0": {[]string{"--tail", "0"}, ""},
		"tail of a stream that is not at the end": {[]string{"--tail", "2", "--stream", "stdout", "--instance", "0"}, "a1\na2\n"},
		"timestamps": {[]string{"--instance", "0", "--tail", "1", "-t"}, "2026-01-02T03:04:05.003000000Z oops\n"},
		"since":      {[]string{"--instance", "0", "--since", "2026-01-02T03:04:05.002Z"}, "a2\noops\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if code := a.run(t.Context(), append([]string{"logs", "shop/web"}, tt.args...)...); code != exitDone {
				t.Fatalf("exit code %d: %s", code, a.err.take())
			}
			if got := a.out.take(); got != tt.want {
				t.Errorf("got\n%q\nwant\n%q", got, tt.want)
			}
		})
	}
	t.Run("json", func(t *testing.T) {
		if code := a.run(t.Context(), "logs", "shop/web", "--instance", "0", "--tail", "1", "-o", "json"); code != exitDone {
			t.Fatal(a.err.take())
		}
		want := `{"workload":"shop/web","backend":"sim","node":"node-1","instance":0,"instanceId":"c0","time":"2026-01-02T03:04:05.003Z","stream":"stderr","line":"oops"}` + "\n"
		if got := a.out.take(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

// Of instances that write at very different rates, each shows its own last lines.
func TestTailOfBusyAndQuietInstances(t *testing.T) {
	a := newTestApp(t)
	a.observe(t, status("web", 3))
	start := time.Now().Add(-time.Hour)
	a.ship(t, 1, 1, start, numbered(2, "early", "stdout")...)
	a.ship(t, 0, 3, start.Add(time.Second), numbered(6000, "busy", "stdout")...)
	a.ship(t, 2, 1, start.Add(time.Minute), numbered(4, "late", "stdout")...)
	if code := a.run(t.Context(), "logs", "shop/web", "--tail", "3"); code != exitDone {
		t.Fatal(a.err.take())
	}
	want := "1 | early0\n1 | early1\n0 | busy5997\n0 | busy5998\n0 | busy5999\n2 | late1\n2 | late2\n2 | late3\n"
	if got := a.out.take(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Lines that are not wanted do not count: older messages are read until there are
// enough.
func TestTailBehindManyUnwantedLines(t *testing.T) {
	a := newTestApp(t)
	a.observe(t, status("web", 1))
	start := time.Now().Add(-time.Hour)
	a.ship(t, 0, 1, start, numbered(300, "out", "stdout")...)
	a.ship(t, 0, 1, start.Add(time.Second), numbered(100, "err", "stderr")...)
	if code := a.run(t.Context(), "logs", "shop/web", "--tail", "2", "--stream", "stdout"); code != exitDone {
		t.Fatal(a.err.take())
	}
	if got, want := a.out.take(), "out298\nout299\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFollowLogs(t *testing.T) {
	a := newTestApp(t)
	a.observe(t, status("web", 1))
	start := time.Now()
	a.ship(t, 0, 5, start, numbered(5, "old", "stdout")...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan int)
	go func() { done <- a.run(ctx, "logs", "-f", "shop/web", "--tail", "1") }()
	eventually(t, "the tail", func() bool { return a.out.String() == "old4\n" })
	a.ship(t, 0, 5, start.Add(time.Second), numbered(2, "new", "stdout")...)
	eventually(t, "new lines", func() bool { return a.out.String() == "old4\nnew0\nnew1\n" })
	cancel()
	if code := <-done; code != exitDone {
		t.Errorf("exit code %d after an interrupt: %s", code, a.err)
	}
}

func TestGapsAreDeclared(t *testing.T) {
	a := newTestApp(t)
	a.observe(t, status("web", 1))
	subject, err := subjects.Log(web, 0)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	a.say(t, subject, subjects.TypeLog, subjects.LogData{
		Gap:   &subjects.LogGap{Lines: 12, From: at, To: at.Add(time.Second), Reason: "rate-limit"},
		Lines: []subjects.LogEntry{{Time: at.Add(time.Second), Stream: "stdout", Line: "after"}},
	}, nil)
	if code := a.run(t.Context(), "logs", "shop/web"); code != exitDone {
		t.Fatal(a.err.take())
	}
	if got, want := a.err.take(), "-- instance 0: 12 lines lost between 2026-01-02T03:04:05Z and 2026-01-02T03:04:06Z (rate-limit) --\n"; got != want {
		t.Errorf("standard error: got %q, want %q", got, want)
	}
	if got := a.out.take(); got != "after\n" {
		t.Errorf("standard output: %q", got)
	}
	if code := a.run(t.Context(), "logs", "shop/web", "-o", "json"); code != exitDone || !strings.Contains(a.out.take(), `"gap":{"lines":12,`) {
		t.Error("the gap is missing from JSON")
	}
}

func TestLogsOfNothing(t *testing.T) {
	a := newTestApp(t)
	a.observe(t, status("quiet", 1))
	if code := a.run(t.Context(), "logs", "shop/quiet"); code != exitDone {
		t.Errorf("a workload that wrote nothing: exit code %d", code)
	}
	if code := a.run(t.Context(), "logs", "shop/nothing"); code != exitNotFound {
		t.Errorf("no workload: exit code %d", code)
	}
}
