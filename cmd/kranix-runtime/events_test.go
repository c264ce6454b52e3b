package main

import (
	"context"
	"strings"
	"testing"

	"github.com/kranix-io/kranix-runtime/subjects"
)

// words are the last words of the lines, which name the events of the tests.
func words(lines string) string {
	var out []string
	for line := range strings.Lines(lines) {
		fields := strings.Fields(line)
		out = append(out, fields[len(fields)-1])
	}
	return strings.Join(out, " ")
}

// Events and results are two streams and one history.
func TestEventsInOrder(t *testing.T) {
	a := newTestApp(t)
	one, two := subjects.CommandID("/test", "1"), subjects.CommandID("/test", "2")
	a.progress(t, one, "accepted", subjects.WorkloadEvent{})
	a.settle(t, one, subjects.ResultData{Outcome: subjects.Done, Verb: subjects.Deploy})
	a.progress(t, two, "stopping", subjects.WorkloadEvent{})
	a.settle(t, two, subjects.ResultData{Outcome: subjects.Expired, Verb: subjects.Destroy})
	a.progress(t, two, "crashed", subjects.WorkloadEvent{})
	// What is no CloudEvent is nothing to stumble over.
	subject, err := subjects.Event(web, "running")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.bus.js.Publish(t.Context(), subject, []byte("by hand")); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		args []string
		want string
	}{
		"all":            {nil, "accepted done stopping expired crashed"},
		"workload":       {[]string{"shop/web"}, "accepted done stopping expired crashed"},
		"namespace":      {[]string{"shop/"}, "accepted done stopping expired crashed"},
		"another":        {[]string{"shop/api"}, ""},
		"phase":          {[]string{"--phase", "stopping"}, "stopping"},
		"outcome":        {[]string{"--phase", "expired"}, "expired"},
		"backend":        {[]string{"--backend", "docker"}, ""},
		"since a moment": {[]string{"--since", "0s"}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if code := a.run(t.Context(), append([]string{"events"}, tt.args...)...); code != exitDone {
				t.Fatalf("exit code %d: %s", code, a.err.take())
			}
			if got := words(a.out.take()); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFollowEvents(t *testing.T) {
	a := newTestApp(t)
	command := subjects.CommandID("/test", "1")
	a.progress(t, command, "accepted", subjects.WorkloadEvent{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan int)
	go func() { done <- a.run(ctx, "events", "-f", "--since", "1h") }()
	eventually(t, "the past", func() bool { return words(a.out.String()) == "accepted" })
	a.progress(t, command, "running", subjects.WorkloadEvent{})
	eventually(t, "an event", func() bool { return words(a.out.String()) == "accepted running" })
	a.settle(t, command, subjects.ResultData{Outcome: subjects.Done, Verb: subjects.Deploy})
	eventually(t, "a result", func() bool { return words(a.out.String()) == "accepted running done" })
	cancel()
	if code := <-done; code != exitDone {
		t.Errorf("exit code %d after an interrupt: %s", code, a.err)
	}
}
