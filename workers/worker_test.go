package workers_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/drivers/sim"
	"github.com/kranix-io/kranix-runtime/subjects"
	"github.com/kranix-io/kranix-runtime/workers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of these tests; what is waited for takes milliseconds.
const patience = 20 * time.Second

// bus is a real NATS server in this process, with the streams of the contract.
type bus struct {
	t      *testing.T
	opts   *server.Options
	server *server.Server
	nc     *nats.Conn
	js     jetstream.JetStream
}

func newBus(t *testing.T) *bus {
	t.Helper()
	b := &bus{t: t, opts: &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true, SyncAlways: true,
	}}
	b.start()
	b.opts.Port = b.server.Addr().(*net.TCPAddr).Port
	t.Cleanup(func() { b.stop() })
	b.nc, b.js = b.connect()
	if err := subjects.Ensure(t.Context(), b.js, subjects.Settings{LogBytes: 64 << 20, MetricBytes: 64 << 20}); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bus) start() {
	b.t.Helper()
	s, err := server.NewServer(b.opts)
	if err != nil {
		b.t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		b.t.Fatal("NATS does not start")
	}
	b.server = s
}

func (b *bus) stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// connect makes a connection of its own, as another process would have.
func (b *bus) connect() (*nats.Conn, jetstream.JetStream) {
	b.t.Helper()
	return b.connectTo(b.server.ClientURL())
}

func (b *bus) connectTo(url string) (*nats.Conn, jetstream.JetStream) {
	b.t.Helper()
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		b.t.Fatal(err)
	}
	return nc, js
}

// runtime is a worker on a bus.
type runtime struct {
	cancel context.CancelFunc
	done   chan error
}

// startWorker runs a worker of a node on an engine. It is stopped at the end of the
// test, or before by stop.
func (b *bus) startWorker(node string, driver drivers.RuntimeDriver, change ...func(*workers.Config)) *runtime {
	b.t.Helper()
	return b.startWorkerOn(node, driver, b.server.ClientURL(), change...)
}

// startWorkerOn runs a worker that reaches the bus at url.
func (b *bus) startWorkerOn(node string, driver drivers.RuntimeDriver, url string, change ...func(*workers.Config)) *runtime {
	b.t.Helper()
	nc, js := b.connectTo(url)
	cfg := workers.Config{
		Node: node, Backends: []workers.Backend{{Name: "sim", Driver: driver}}, DefaultBackend: "sim", NC: nc, JS: js,
		AckWait: 2 * time.Second, Lease: 2 * time.Second, RetryMin: 10 * time.Millisecond, RetryMax: 100 * time.Millisecond,
		DrainTimeout: 5 * time.Second,
	}
	if os.Getenv("KRANIX_TEST_VERBOSE") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	for _, f := range change {
		f(&cfg)
	}
	w, err := workers.New(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &runtime{cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- w.Run(ctx) }()
	b.t.Cleanup(func() { r.stop(b.t) })
	return r
}

// stop drains the worker and waits for it.
func (r *runtime) stop(t *testing.T) {
	t.Helper()
	if r.done == nil {
		return
	}
	r.cancel()
	select {
	case err := <-r.done:
		if err != nil {
			t.Errorf("worker ended with: %v", err)
		}
	case <-time.After(patience):
		t.Error("worker does not end")
	}
	r.done = nil
}

// shared hides that an engine belongs to one host: any worker may serve it.
type shared struct{ drivers.RuntimeDriver }

// wire is a way to the bus that can be cut.
type wire struct {
	listener net.Listener
	mu       sync.Mutex
	isCut    bool
	conns    []net.Conn
	wg       sync.WaitGroup
}

func newWire(t *testing.T, b *bus) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l}
	to := b.server.Addr().String()
	w.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.carry(c, to)
		}
	})
	t.Cleanup(func() { l.Close(); w.cut(); w.wg.Wait() })
	return w
}

func (w *wire) url() string { return "nats://" + w.listener.Addr().String() }

// carry passes a connection on unless the wire is cut.
func (w *wire) carry(c net.Conn, to string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	far, err := net.Dial("tcp", to)
	if err != nil || w.isCut {
		c.Close()
		if err == nil {
			far.Close()
		}
		return
	}
	w.conns = append(w.conns, c, far)
	w.wg.Go(func() { _, _ = io.Copy(far, c); far.Close() })
	w.wg.Go(func() { _, _ = io.Copy(c, far); c.Close() })
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = true
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = false
}

// newEngine makes a simulated engine and a driver of a node on it.
func newEngine(t *testing.T, node string, cfg sim.Config) (*sim.Engine, *sim.Driver) {
	t.Helper()
	engine, err := sim.NewEngine(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	return engine, newDriver(t, node, cfg, engine)
}

func newDriver(t *testing.T, node string, cfg sim.Config, engine *sim.Engine) *sim.Driver {
	t.Helper()
	d, err := sim.NewWithEngine(drivers.Environment{Node: node, Logger: slog.New(slog.DiscardHandler)}, cfg, engine)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// journal is everything that happened on an engine.
func journal(e *sim.Engine) []sim.Entry {
	entries, _ := e.Journal()
	return entries
}

// web is a workload that runs at once.
func web(name string) *drivers.WorkloadSpec {
	return &drivers.WorkloadSpec{
		Name: name, Namespace: "shop", Image: "web:1", Update: drivers.Update{Monitor: drivers.DurationPtr(0)},
	}
}

// commandFor makes a command as kranix-core would.
func commandFor(t *testing.T, verb subjects.Verb, name string, data any, ext ...string) (string, event.Event) {
	t.Helper()
	subject, err := subjects.Command(subjects.Workload{Backend: "sim", Node: subjects.Any, Namespace: "shop", Name: name}, verb)
	if err != nil {
		t.Fatal(err)
	}
	more := map[string]string{}
	for i := 0; i+1 < len(ext); i += 2 {
		more[ext[i]] = ext[i+1]
	}
	e, err := subjects.NewEvent("/test/core", subjects.CommandType(verb), "shop/"+name, data, more)
	if err != nil {
		t.Fatal(err)
	}
	return subject, e
}

// publish publishes a command and returns its token and sequence.
func (b *bus) publish(subject string, e event.Event) (string, uint64) {
	b.t.Helper()
	msg, err := subjects.Encode(subject, e)
	if err != nil {
		b.t.Fatal(err)
	}
	ack, err := b.js.PublishMsg(b.t.Context(), msg)
	if err != nil {
		b.t.Fatal(err)
	}
	return subjects.CommandIDOf(e), ack.Sequence
}

func (b *bus) command(verb subjects.Verb, name string, data any, ext ...string) (string, uint64) {
	b.t.Helper()
	return b.publish(commandFor(b.t, verb, name, data, ext...))
}

// result waits for a command's result.
func (b *bus) result(command string) subjects.ResultData {
	b.t.Helper()
	var data subjects.ResultData
	b.eventually("result of "+command, func() bool {
		_, e, err := subjects.FindResult(b.t.Context(), b.js, command)
		if err != nil {
			return false
		}
		if err := json.Unmarshal(e.Data(), &data); err != nil {
			b.t.Fatal(err)
		}
		return true
	})
	return data
}

// want waits for a command's result and checks its outcome.
func (b *bus) want(command string, outcome subjects.Outcome) subjects.ResultData {
	b.t.Helper()
	r := b.result(command)
	if r.Outcome != outcome {
		b.t.Fatalf("command ended %s (%s: %s), want %s", r.Outcome, r.Reason, r.Message, outcome)
	}
	return r
}

// eventually polls until ok.
func (b *bus) eventually(what string, ok func() bool) {
	b.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			b.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// count is the number of messages of a stream on a subject.
func (b *bus) count(stream, filter string) int {
	b.t.Helper()
	s, err := b.js.Stream(b.t.Context(), stream)
	if err != nil {
		b.t.Fatal(err)
	}
	info, err := s.Info(b.t.Context(), jetstream.WithSubjectFilter(filter))
	if err != nil {
		b.t.Fatal(err)
	}
	n := 0
	for _, c := range info.State.Subjects {
		n += int(c)
	}
	return n
}

// messages reads all messages of a stream on a subject, oldest first.
func (b *bus) messages(stream, filter string) []event.Event {
	b.t.Helper()
	c, err := b.js.OrderedConsumer(b.t.Context(), stream, jetstream.OrderedConsumerConfig{FilterSubjects: []string{filter}})
	if err != nil {
		b.t.Fatal(err)
	}
	n := b.count(stream, filter)
	var all []event.Event
	for range n {
		msg, err := c.Next(jetstream.FetchMaxWait(patience))
		if err != nil {
			b.t.Fatal(err)
		}
		e, err := subjects.Decode(msg.Headers(), msg.Data())
		if err != nil {
			b.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// phases lists the phases of a workload's events.
func (b *bus) phases(name string) []string {
	b.t.Helper()
	var phases []string
	for _, e := range b.messages(subjects.StreamEvents, subjects.EventsOf(subjects.Workload{Backend: "sim", Namespace: "shop", Name: name})) {
		var data subjects.WorkloadEvent
		if err := json.Unmarshal(e.Data(), &data); err != nil {
			b.t.Fatal(err)
		}
		phases = append(phases, data.Phase)
	}
	return phases
}
