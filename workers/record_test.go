package workers

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/subjects"
)

// TestRecordsDoNotWaitForALostAnswer: a request that went out as the bus went away must
// be given up soon, not when the command's own deadline, an hour away, passes.
func TestRecordsDoNotWaitForALostAnswer(t *testing.T) {
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.Shutdown()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS does not start")
	}
	nc, err := nats.Connect(s.ClientURL(), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: subjects.BucketWorkloads})
	if err != nil {
		t.Fatal(err)
	}
	records := kvRecords{kv}
	rev, err := records.put(t.Context(), cart, record{SpecSeq: 1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.Shutdown()
	s.WaitForShutdown()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	began := time.Now()
	if _, err := records.put(ctx, cart, record{SpecSeq: 2}, rev); err == nil {
		t.Error("a write without a bus succeeded")
	}
	if _, _, err := records.get(ctx, cart); err == nil {
		t.Error("a read without a bus succeeded")
	}
	if d := time.Since(began); d > 4*requestTimeout {
		t.Errorf("the requests waited %s", d)
	}
}
