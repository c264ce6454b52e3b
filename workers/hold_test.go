package workers_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/drivers/sim"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// hold stops the first call of a kind to the engine until the test lets it go on, so
// that a command is in flight for exactly as long as a test needs it to be.
type hold struct {
	op      sim.Op
	once    sync.Once
	reached chan struct{}
	open    chan struct{}
}

func newHold(op sim.Op) *hold {
	return &hold{op: op, reached: make(chan struct{}), open: make(chan struct{})}
}

// intercept is for sim.Config.Intercept.
func (h *hold) intercept(ctx context.Context, op sim.Op, _ string) error {
	if op != h.op {
		return nil
	}
	var err error
	h.once.Do(func() {
		close(h.reached)
		select {
		case <-h.open:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	})
	return err
}

// await waits until the call is held.
func (h *hold) await(b *bus) {
	b.t.Helper()
	b.eventually("a call of "+string(h.op), func() bool {
		select {
		case <-h.reached:
			return true
		default:
			return false
		}
	})
}

// taken waits until the workers have taken in every command published and ok holds of
// the number of those not acknowledged.
func (b *bus) taken(ok func(unacknowledged int) bool) {
	b.t.Helper()
	stream, err := b.js.Stream(b.t.Context(), subjects.StreamCommands)
	if err != nil {
		b.t.Fatal(err)
	}
	b.eventually("the commands to be taken in", func() bool {
		pending, unacknowledged := uint64(0), 0
		consumers := stream.ListConsumers(b.t.Context())
		for c := range consumers.Info() {
			pending, unacknowledged = pending+c.NumPending, unacknowledged+c.NumAckPending
		}
		return consumers.Err() == nil && pending == 0 && ok(unacknowledged)
	})
}

// standsFor waits until the claim on a workload has been renewed, or a command has ended:
// by then whoever wanted to end the command in flight would have.
func (b *bus) standsFor(name string, results int) {
	b.t.Helper()
	touch := func() float64 { n, _ := b.record(name)["touch"].(float64); return n }
	before := touch()
	// The first renewal may have been under way already.
	b.eventually("the claim to be renewed", func() bool {
		return touch() >= before+2 || b.count(subjects.StreamResults, "kranix.>") > results
	})
}

// onNode addresses the subject of a command to a node instead of the pool.
func onNode(subject, node string) string {
	return strings.Replace(subject, "."+subjects.Any+".", "."+node+".", 1)
}

// exactly is for taken.
func exactly(n int) func(int) bool { return func(got int) bool { return got == n } }

// duplicate publishes a command another time, past the server's dedupe window.
func (b *bus) duplicate(subject string, e event.Event) {
	b.t.Helper()
	msg, err := subjects.Encode(subject, e)
	if err != nil {
		b.t.Fatal(err)
	}
	msg.Header.Del(jetstream.MsgIDHeader) // what the window would have remembered
	if _, err := b.js.PublishMsg(b.t.Context(), msg); err != nil {
		b.t.Fatal(err)
	}
}

// deployData publishes a deploy with its data as it stands in the argument.
func (b *bus) deployData(name, data string) string {
	b.t.Helper()
	subject, e := commandFor(b.t, subjects.Deploy, name, web(name))
	msg, err := subjects.Encode(subject, e)
	if err != nil {
		b.t.Fatal(err)
	}
	msg.Data = []byte(data)
	if _, err := b.js.PublishMsg(b.t.Context(), msg); err != nil {
		b.t.Fatal(err)
	}
	return subjects.CommandIDOf(e)
}

// published waits until everything said about a workload so far is on the bus: a result
// comes after it, even that of a command which is refused and changes nothing.
func (b *bus) published(name string) {
	b.t.Helper()
	b.want(b.deployData(name, `{"name":"`+name+`"}`), subjects.Rejected)
}

func (b *bus) bucket(name string) jetstream.KeyValue {
	b.t.Helper()
	kv, err := b.js.KeyValue(b.t.Context(), name)
	if err != nil {
		b.t.Fatal(err)
	}
	return kv
}

// has says whether a bucket has a value under a key.
func (b *bus) has(bucket, key string) bool {
	b.t.Helper()
	_, err := b.bucket(bucket).Get(b.t.Context(), key)
	if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		b.t.Fatal(err)
	}
	return err == nil
}

// record reads a workload's record as another program would.
func (b *bus) record(name string) map[string]any {
	b.t.Helper()
	entry, err := b.bucket(subjects.BucketWorkloads).Get(b.t.Context(), "sim._.shop."+name)
	if err != nil {
		b.t.Fatal(err)
	}
	var rec map[string]any
	if err := json.Unmarshal(entry.Value(), &rec); err != nil {
		b.t.Fatal(err)
	}
	return rec
}

// setRecord overwrites a workload's record.
func (b *bus) setRecord(name string, value []byte) {
	b.t.Helper()
	if _, err := b.bucket(subjects.BucketWorkloads).Put(b.t.Context(), "sim._.shop."+name, value); err != nil {
		b.t.Fatal(err)
	}
}

// startShared runs two workers, n1 and n2, that serve one engine together.
func (b *bus) startShared(t *testing.T, cfg sim.Config) *sim.Engine {
	t.Helper()
	engine, driver := newEngine(t, "n1", cfg)
	b.startWorker("n1", shared{driver})
	b.startWorker("n2", shared{newDriver(t, "n1", cfg, engine)})
	return engine
}
