package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/kranix-io/kranix-runtime/subjects"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const deadline = 20 * time.Second

// testBus is a NATS server in the process, which can be stopped and started again on
// the same port and store.
type testBus struct {
	t       testing.TB
	dir     string
	port    int
	payload int32
	server  *server.Server
	nc      *nats.Conn
	js      jetstream.JetStream
}

func startBus(t testing.TB) *testBus { return startBusWith(t, 0) }

func startBusWith(t testing.TB, maxPayload int32) *testBus {
	t.Helper()
	b := &testBus{t: t, dir: t.TempDir(), port: server.RANDOM_PORT, payload: maxPayload}
	b.start()
	nc, err := nats.Connect(b.server.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	b.nc = nc
	if b.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		nc.Close()
		b.stop()
	})
	b.createStreams()
	return b
}

func (b *testBus) start() {
	b.t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: b.port, JetStream: true, StoreDir: b.dir,
		MaxPayload: b.payload, NoSigs: true, NoLog: true})
	if err != nil {
		b.t.Fatalf("make server: %v", err)
	}
	s.Start()
	if !s.ReadyForConnections(deadline) {
		b.t.Fatal("server does not start")
	}
	b.server, b.port = s, s.Addr().(*net.TCPAddr).Port
}

func (b *testBus) stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// snapshot copies the store; restore puts it back, as a crash does that takes what was
// not written to the disk. The server must not run during restore.
func (b *testBus) snapshot() string {
	b.t.Helper()
	dir := b.t.TempDir()
	b.stop()
	if err := os.CopyFS(dir, os.DirFS(b.dir)); err != nil {
		b.t.Fatal(err)
	}
	b.start()
	return dir
}

func (b *testBus) restore(snapshot string) {
	b.t.Helper()
	if err := os.RemoveAll(filepath.Join(b.dir, "jetstream")); err != nil {
		b.t.Fatal(err)
	}
	if err := os.CopyFS(b.dir, os.DirFS(snapshot)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *testBus) createStreams() {
	b.t.Helper()
	for _, cfg := range subjects.Streams(subjects.Settings{LogBytes: 256 << 20, MetricBytes: 16 << 20}) {
		if cfg.Name != subjects.StreamLogs && cfg.Name != subjects.StreamMetrics {
			continue
		}
		if b.payload > 0 {
			cfg.MaxMsgSize = b.payload
		}
		if _, err := b.js.CreateStream(b.t.Context(), cfg); err != nil {
			b.t.Fatalf("create %s: %v", cfg.Name, err)
		}
	}
}

// shipper starts a shipper that is closed, without a chance to publish more, when the
// test ends.
func (b *testBus) shipper(cfg ShipperConfig) *Shipper {
	b.t.Helper()
	if cfg.JS == nil {
		cfg.JS = b.js
	}
	if cfg.MaxDelay == 0 {
		cfg.MaxDelay = 5 * time.Millisecond
	}
	if testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(testWriter{b.t}, nil))
	}
	s, err := NewShipper(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { abort(s) })
	return s
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(p))
	return len(p), nil
}

// abort ends a shipper as a SIGKILL does: nothing more is published.
func abort(s *Shipper) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.Close(ctx)
}

// shipped is what a reader of the stream sees of one copy.
type shipped struct {
	lines []string
	gaps  []subjects.LogGap
	lost  int64
	// open is a line that goes on in the next entry.
	open    []byte
	entries []subjects.LogEntry
}

// shippedOf reads all messages of an instance and puts the lines together, by copy and
// output stream.
func (b *testBus) shippedOf(w subjects.Workload, instance int) (map[string]*shipped, []subjects.LogData) {
	b.t.Helper()
	out := make(map[string]*shipped)
	var all []subjects.LogData
	subject, err := subjects.Log(w, instance)
	if err != nil {
		b.t.Fatal(err)
	}
	ids := make(map[string]bool)
	for _, m := range b.messages(subjects.StreamLogs, subject) {
		e, err := subjects.Decode(m.Header, m.Data)
		if err != nil {
			b.t.Fatalf("decode message %d: %v", m.Sequence, err)
		}
		if e.Type() != subjects.TypeLog || e.Source() != w.Source() || e.Subject() != w.ID() {
			b.t.Fatalf("message is %s", e)
		}
		if ids[e.ID()] {
			b.t.Errorf("two messages have the id %s", e.ID())
		}
		ids[e.ID()] = true
		var d subjects.LogData
		if err := json.Unmarshal(e.Data(), &d); err != nil {
			b.t.Fatalf("decode data: %v", err)
		}
		if d.Instance != instance {
			b.t.Errorf("message of instance %d on the subject of %d", d.Instance, instance)
		}
		all = append(all, d)
		s := out[d.InstanceID]
		if s == nil {
			s = &shipped{}
			out[d.InstanceID] = s
		}
		if d.Gap != nil {
			s.gaps = append(s.gaps, *d.Gap)
			s.lost += d.Gap.Lines
		}
		for _, l := range d.Lines {
			s.entries = append(s.entries, l)
			text := []byte(l.Line)
			if l.Base64 != nil {
				text = l.Base64
			}
			s.open = append(s.open, text...)
			if !l.Truncated {
				s.lines = append(s.lines, l.Stream+" "+string(s.open))
				s.open = nil
			}
		}
	}
	return out, all
}

func (b *testBus) messages(stream, subject string) []*jetstream.RawStreamMsg {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	s, err := b.js.Stream(ctx, stream)
	if err != nil {
		b.t.Fatalf("look up stream: %v", err)
	}
	var out []*jetstream.RawStreamMsg
	for next := uint64(1); ; {
		m, err := s.GetMsg(ctx, next, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return out
		}
		if err != nil {
			b.t.Fatalf("read message %d of %s: %v", next, subject, err)
		}
		out = append(out, m)
		next = m.Sequence + 1
	}
}

// lastSequence lets a test wait without reading everything.
func (b *testBus) lastSequence() uint64 {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	s, err := b.js.Stream(ctx, subjects.StreamLogs)
	if err != nil {
		b.t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}

// eventually polls until check returns nil.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	if err := poll(check); err != nil {
		t.Fatalf("not within %s: %v", deadline, err)
	}
}

func poll(check func() error) error {
	end := time.After(deadline)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-end:
			return err
		}
	}
}

// sameLines compares what was shipped of a copy with what it printed.
func sameLines(got *shipped, want []string) error {
	if got == nil {
		got = &shipped{}
	}
	for i := range min(len(got.lines), len(want)) {
		if got.lines[i] != want[i] {
			return fmt.Errorf("line %d is %.60q, want %.60q", i, got.lines[i], want[i])
		}
	}
	if len(got.lines) != len(want) {
		return fmt.Errorf("%d lines are shipped, want %d", len(got.lines), len(want))
	}
	if len(got.open) > 0 {
		return fmt.Errorf("the last line is not complete: %.60q", got.open)
	}
	return nil
}

// brokenJS is a JetStream whose publications can be made to go wrong.
type brokenJS struct {
	jetstream.JetStream
	// after, when set, sees every publication after it was carried out, and may replace
	// the answer.
	after atomic.Pointer[func(*nats.Msg, *jetstream.PubAck, error) (*jetstream.PubAck, error)]
	// before may refuse it.
	before atomic.Pointer[func(context.Context, *nats.Msg) error]
}

func (j *brokenJS) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if f := j.before.Load(); f != nil {
		if err := (*f)(ctx, m); err != nil {
			return nil, err
		}
	}
	ack, err := j.JetStream.PublishMsg(ctx, m, opts...)
	if f := j.after.Load(); f != nil {
		return (*f)(m, ack, err)
	}
	return ack, err
}
