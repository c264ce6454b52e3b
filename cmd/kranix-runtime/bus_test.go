package main

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/cmd/kranix-runtime/internal/config"
	"github.com/kranix-io/kranix-runtime/cmd/kranix-runtime/internal/natsd"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// testApp is a client inside the test's process, on a bus of its own that no worker
// serves: the test says what workers would.
type testApp struct {
	*app
	out, err *buffer
	bus      *bus
}

func newTestApp(t *testing.T) *testApp {
	t.Helper()
	s, err := natsd.Start(t.Context(), natsd.Config{Name: "test", Listen: "127.0.0.1:0", StoreDir: t.TempDir(), SyncInterval: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	a := &testApp{out: &buffer{}, err: &buffer{}}
	a.app = &app{
		stdin: strings.NewReader(""), stdout: a.out, stderr: a.err, natsURL: s.URL(),
		host: config.Host{Name: "test", Environ: []string{"HOME=" + t.TempDir(), "KRANIX_CONFIG=/dev/null"}},
	}
	if a.bus, err = a.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.bus.close)
	if err := subjects.Ensure(t.Context(), a.bus.js, subjects.Settings{}); err != nil {
		t.Fatal(err)
	}
	return a
}

// run runs a command line and returns its exit code.
func (a *testApp) run(ctx context.Context, args ...string) int {
	client := *a.app
	return client.execute(ctx, append(args, "--nats-url", a.natsURL))
}

// say publishes an event as a worker would.
func (a *testApp) say(t *testing.T, subject, typ string, data any, ext map[string]string) {
	t.Helper()
	e, err := subjects.NewEvent("/kranix/sim/node-1", typ, "shop/web", data, ext)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := subjects.Encode(subject, e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.bus.js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
}

// buffer is a bytes.Buffer that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// take returns what was written and forgets it.
func (b *buffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.b.String()
	b.b.Reset()
	return s
}

// eventually polls until ok or the deadline.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 15s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

var web = subjects.Workload{Backend: "sim", Node: "node-1", Namespace: "shop", Name: "web"}

// ship publishes lines of an instance in batches of size.
func (a *testApp) ship(t *testing.T, instance, size int, start time.Time, lines ...subjects.LogEntry) {
	t.Helper()
	subject, err := subjects.Log(web, instance)
	if err != nil {
		t.Fatal(err)
	}
	var acks []jetstream.PubAckFuture
	for i := 0; i < len(lines); i += size {
		data := subjects.LogData{Instance: instance, InstanceID: "c" + strconv.Itoa(instance), Lines: lines[i:min(i+size, len(lines))]}
		for j := range data.Lines {
			data.Lines[j].Time = start.Add(time.Duration(i+j) * time.Millisecond)
		}
		e, err := subjects.NewEvent("/kranix/sim/node-1", subjects.TypeLog, "shop/web", data, nil)
		if err != nil {
			t.Fatal(err)
		}
		msg, err := subjects.Encode(subject, e)
		if err != nil {
			t.Fatal(err)
		}
		ack, err := a.bus.js.PublishMsgAsync(msg)
		if err != nil {
			t.Fatal(err)
		}
		acks = append(acks, ack)
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			t.Fatal(err)
		}
	}
}

// numbered are n lines "<prefix><i>" on a stream.
func numbered(n int, prefix, stream string) []subjects.LogEntry {
	lines := make([]subjects.LogEntry, n)
	for i := range lines {
		lines[i] = subjects.LogEntry{Stream: stream, Line: prefix + strconv.Itoa(i)}
	}
	return lines
}
