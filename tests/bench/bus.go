package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
	"github.com/kranix-io/kranix-runtime/workers"
)

// bus is an embedded server set up as the runtime sets up its own: fsync before every
// acknowledgement.
type bus struct {
	dir    string
	server *server.Server
}

func newBus(ctx context.Context) (*bus, error) {
	dir, err := os.MkdirTemp("", "kranix-bench-")
	if err != nil {
		return nil, err
	}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, SyncAlways: true, NoSigs: true, NoLog: true,
	})
	if err != nil {
		return nil, err
	}
	b := &bus{dir: dir, server: s}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		b.close()
		return nil, errors.New("start NATS: not ready within 10s")
	}
	nc, js, err := b.connect()
	if err != nil {
		b.close()
		return nil, err
	}
	defer nc.Close()
	if err := subjects.Ensure(ctx, js, subjects.Settings{LogBytes: 64 << 20, MetricBytes: 64 << 20}); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bus) close() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
	os.RemoveAll(b.dir)
}

// connect makes a connection inside the process, as the worker has with embedded NATS.
func (b *bus) connect() (*nats.Conn, jetstream.JetStream, error) {
	nc, err := nats.Connect("", nats.InProcessServer(b.server))
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return nc, js, nil
}

// work runs a worker until stop is called.
func (b *bus) work(ctx context.Context, backend string, driver drivers.RuntimeDriver, concurrency int) (stop func() error, err error) {
	nc, js, err := b.connect()
	if err != nil {
		return nil, err
	}
	w, err := workers.New(workers.Config{
		Node: node, Backends: []workers.Backend{{Name: backend, Driver: driver, Concurrency: concurrency}}, NC: nc, JS: js,
		Policy: drivers.Policy{},
	})
	if err != nil {
		nc.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return func() error {
		cancel()
		err := <-done
		nc.Close()
		return err
	}, nil
}

const (
	node      = "bench"
	namespace = "bench"
)

// command encodes a command for the pool.
func command(backend, name string, verb subjects.Verb, spec *drivers.WorkloadSpec) (*nats.Msg, event.Event, error) {
	subject, err := subjects.Command(subjects.Workload{Backend: backend, Node: subjects.Any, Namespace: namespace, Name: name}, verb)
	if err != nil {
		return nil, event.Event{}, err
	}
	var data any
	if spec != nil {
		data = spec
	}
	e, err := subjects.NewEvent("/bench", subjects.CommandType(verb), namespace+"/"+name, data, nil)
	if err != nil {
		return nil, event.Event{}, err
	}
	msg, err := subjects.Encode(subject, e)
	return msg, e, err
}

// awaiter delivers what arrives on a subject.
type awaiter struct {
	sub *nats.Subscription
}

func await(nc *nats.Conn, subject string) (*awaiter, error) {
	sub, err := nc.SubscribeSync(subject)
	if err != nil {
		return nil, err
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return nil, err
	}
	return &awaiter{sub}, nc.Flush()
}

// collect waits for n messages.
func (a *awaiter) collect(n int) error {
	for i := range n {
		if _, err := a.sub.NextMsg(60 * time.Second); err != nil {
			return fmt.Errorf("wait for message %d of %d: %w", i+1, n, err)
		}
	}
	return nil
}

func (a *awaiter) close() { _ = a.sub.Unsubscribe() }
