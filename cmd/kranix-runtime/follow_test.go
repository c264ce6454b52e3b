package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

const webSpec = `{"name":"web","namespace":"shop","backend":"sim","image":"nginx:1"}`

// commands delivers what is published to the test, which plays the worker.
func (a *testApp) commands(t *testing.T) <-chan *nats.Msg {
	t.Helper()
	filter, err := subjects.CommandsFilter("", "", "", "", "")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan *nats.Msg, 16)
	if _, err := a.bus.nc.ChanSubscribe(filter, got); err != nil {
		t.Fatal(err)
	}
	if err := a.bus.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return got
}

func commandOf(t *testing.T, msg *nats.Msg) string {
	t.Helper()
	e, err := subjects.Decode(msg.Header, msg.Data)
	if err != nil {
		t.Fatal(err)
	}
	return subjects.CommandIDOf(e)
}

// settle publishes a result.
func (a *testApp) settle(t *testing.T, command string, r subjects.ResultData) {
	t.Helper()
	r.CommandID = command
	e, err := subjects.NewEvent("/kranix/sim/node-1", subjects.ResultType(r.Outcome), "shop/web", r, map[string]string{subjects.ExtCommandID: command})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := subjects.PublishResult(t.Context(), a.bus.js, web, command, e); err != nil {
		t.Fatal(err)
	}
}

func (a *testApp) progress(t *testing.T, command, phase string, data subjects.WorkloadEvent) {
	t.Helper()
	subject, err := subjects.Event(web, phase)
	if err != nil {
		t.Fatal(err)
	}
	data.Phase = phase
	a.say(t, subject, subjects.WorkloadType(phase), data, map[string]string{subjects.ExtCommandID: command})
}

// A message on a result's subject that lost the race to be the result must not be taken
// for it.
func TestOnlyTheStoredResultCounts(t *testing.T) {
	a := newTestApp(t)
	got := a.commands(t)
	a.stdin = strings.NewReader(webSpec)
	done := make(chan int)
	go func() { done <- a.run(t.Context(), "deploy", "-f", "-", "-o", "json") }()
	command := commandOf(t, <-got)

	// What a loser publishes reaches plain subscribers and is not stored.
	subject, err := subjects.Result(web, command)
	if err != nil {
		t.Fatal(err)
	}
	e, err := subjects.NewEvent("/kranix/sim/node-1", subjects.ResultType(subjects.Failed), "shop/web",
		subjects.ResultData{Outcome: subjects.Failed, CommandID: command}, nil)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := subjects.Encode(subject, e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.bus.js.PublishMsg(t.Context(), msg, jetstream.WithExpectLastSequenceForSubject(7, subjects.ResultFilter(command))); err == nil {
		t.Fatal("the losing result was stored")
	}
	a.settle(t, command, subjects.ResultData{Outcome: subjects.Superseded, Verb: subjects.Deploy, SupersededBy: 9})
	if code := <-done; code != exitSuperseded {
		t.Errorf("exit code %d, want %d: %s", code, exitSuperseded, a.out)
	}
}

func TestProgressAndResult(t *testing.T) {
	a := newTestApp(t)
	got := a.commands(t)
	a.stdin = strings.NewReader(webSpec)
	done := make(chan int)
	go func() { done <- a.run(t.Context(), "deploy", "-f", "-") }()
	command := commandOf(t, <-got)
	a.progress(t, command, "accepted", subjects.WorkloadEvent{})
	a.progress(t, command, "pulling", subjects.WorkloadEvent{Progress: &subjects.ProgressData{Current: 1 << 20, Total: 4 << 20}, Message: "nginx:1\x1b[2J"})
	a.progress(t, command, "pulling", subjects.WorkloadEvent{Progress: &subjects.ProgressData{Current: 2 << 20, Total: 4 << 20}})
	a.progress(t, subjects.CommandID("another", "command"), "crashed", subjects.WorkloadEvent{})
	a.progress(t, command, "retrying", subjects.WorkloadEvent{Attempt: 2, Reason: "EngineFailure"})
	eventually(t, "progress", func() bool { return strings.Contains(a.err.String(), "retrying") })
	now := time.Now()
	status, err := json.Marshal(drivers.WorkloadStatus{Backend: "sim", Phase: drivers.PhaseHealthy, Desired: 1, Ready: 1})
	if err != nil {
		t.Fatal(err)
	}
	a.settle(t, command, subjects.ResultData{Outcome: subjects.Done, Verb: subjects.Deploy, Node: "node-1", Status: status, StartedAt: now, FinishedAt: now})
	if code := <-done; code != exitDone {
		t.Fatalf("exit code %d: %s", code, a.err)
	}
	text := a.err.take()
	for _, want := range []string{"s  accepted\n", "s  pulling 1.0 MiB of 4.0 MiB (25 %): nginx:1\\x1b[2J\n", "s  retrying: EngineFailure (attempt 2)\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("progress lacks %q:\n%s", want, text)
		}
	}
	for _, not := range []string{"crashed", "50 %", "\x1b"} {
		if strings.Contains(text, not) {
			t.Errorf("progress shows %q:\n%s", not, text)
		}
	}
	if got := a.out.take(); !strings.HasPrefix(got, "shop/web deployed: healthy, 1/1 ready on sim/node-1 in 0.00s") {
		t.Errorf("outcome: %q", got)
	}
}

func TestInterruptedWait(t *testing.T) {
	a := newTestApp(t)
	got := a.commands(t)
	a.stdin = strings.NewReader(webSpec)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	go func() { done <- a.run(ctx, "deploy", "-f", "-") }()
	command := commandOf(t, <-got)
	a.progress(t, command, "accepted", subjects.WorkloadEvent{})
	eventually(t, "it waits", func() bool { return strings.Contains(a.err.String(), "accepted") })
	cancel()
	if code := <-done; code != exitInterrupted {
		t.Errorf("exit code %d, want %d", code, exitInterrupted)
	}
	if text := a.err.String(); !strings.Contains(text, "interrupted; command "+command+" (deploy shop/web) goes on") {
		t.Errorf("got %q", text)
	}
}

// Who cannot know whether a command is stored is told how to find out.
func TestUnansweredPublish(t *testing.T) {
	a := newTestApp(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := web.Identity()
	_, err := a.bus.publish(ctx, command{workload: w, verb: subjects.Restart, source: "/test", id: "1"})
	if codeOf(err) != exitInterrupted || !strings.Contains(err.Error(), "it may be stored; to be sure, repeat it with --source /test --id 1") {
		t.Errorf("interrupted: got %v (exit code %d)", err, codeOf(err))
	}
	ctx, cancel = context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err = a.bus.publish(ctx, command{workload: w, verb: subjects.Restart, source: "/test", id: "1"}); err == nil ||
		!strings.Contains(err.Error(), "it may be stored") {
		t.Errorf("too late: got %v", err)
	}
}

// Without a backend the one that has the workload is meant, and nobody guesses between
// two.
func TestResolve(t *testing.T) {
	a := newTestApp(t)
	got := a.commands(t)
	first, second := status("web", 1), status("web", 1)
	a.observe(t, first)
	if code := a.run(t.Context(), "restart", "shop/web", "--no-wait"); code != exitDone {
		t.Fatalf("exit code %d: %s", code, a.err.take())
	}
	if msg := <-got; msg.Subject != "kranix.cmd.sim._.shop.web.restart" {
		t.Errorf("published to %s", msg.Subject)
	}
	second.Backend = "docker"
	a.observe(t, second)
	if code := a.run(t.Context(), "restart", "shop/web", "--no-wait"); code != exitUsage {
		t.Errorf("two backends: exit code %d", code)
	}
	if text := a.err.take(); !strings.Contains(text, "shop/web is on several backends (docker, sim); choose one with --backend") {
		t.Errorf("got %q", text)
	}
	if code := a.run(t.Context(), "restart", "shop/web", "--no-wait", "--backend", "docker", "--node", "node-7"); code != exitDone {
		t.Errorf("exit code %d: %s", code, a.err.take())
	}
	if msg := <-got; msg.Subject != "kranix.cmd.docker.node-7.shop.web.restart" {
		t.Errorf("published to %s", msg.Subject)
	}
}

// A deploy nobody has taken up yet can be destroyed all the same.
func TestResolveByCommand(t *testing.T) {
	a := newTestApp(t)
	got := a.commands(t)
	a.stdin = strings.NewReader(`{"name":"web","image":"nginx:1"}`)
	if code := a.run(t.Context(), "deploy", "-f", "-", "-n", "shop", "--no-wait"); code != exitDone {
		t.Fatal(a.err.take())
	}
	if msg := <-got; msg.Subject != "kranix.cmd._._.shop.web.deploy" {
		t.Errorf("published to %s", msg.Subject)
	}
	if code := a.run(t.Context(), "destroy", "shop/web", "--no-wait", "--deadline", "5m"); code != exitDone {
		t.Fatal(a.err.take())
	}
	msg := <-got
	if msg.Subject != "kranix.cmd._._.shop.web.destroy" || string(msg.Data) != `{"deadline":"5m0s"}` {
		t.Errorf("published %s to %s", msg.Data, msg.Subject)
	}
}

// A server that is no runtime's is told from one that is away.
func TestForeignServer(t *testing.T) {
	a := newTestApp(t)
	for name := range a.bus.js.StreamNames(t.Context()).Name() {
		if err := a.bus.js.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"ls"}, {"status", "a/b"}, {"events"}, {"logs", "a/b"}, {"dead-letters"}, {"redrive", "1"}, {"destroy", "a/b"}, {"restart", "a/b", "--backend", "sim"},
	} {
		if code := a.run(t.Context(), args...); code != exitUnreachable {
			t.Errorf("%v: exit code %d", args, code)
		}
		if text := a.err.take(); !strings.Contains(text, "no runtime has set up this NATS server yet") {
			t.Errorf("%v: %s", args, text)
		}
	}
}
