package workers_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/drivers/sim"
	"github.com/kranix-io/kranix-runtime/subjects"
	"github.com/kranix-io/kranix-runtime/workers"
)

// TestDuplicateLongAfter: the same source and id again, past the server's dedupe
// window, has no second effect and the old result is the answer (fault 15).
func TestDuplicateLongAfter(t *testing.T) {
	b := newBus(t)
	engine, driver := newEngine(t, "n1", sim.Config{})
	b.startWorker("n1", driver)
	subject, e := commandFor(t, subjects.Deploy, "cart", web("cart"))
	id, seq := b.publish(subject, e)
	b.want(id, subjects.Done)
	destroy, _ := b.command(subjects.Destroy, "cart", nil)
	b.want(destroy, subjects.Done)
	before := len(journal(engine))

	msg, err := subjects.Encode(subject, e)
	if err != nil {
		t.Fatal(err)
	}
	msg.Header.Del(jetstream.MsgIDHeader) // what the window would have remembered
	ack, err := b.js.PublishMsg(t.Context(), msg)
	if err != nil || ack.Sequence <= seq {
		t.Fatalf("the duplicate was not stored: %+v, %v", ack, err)
	}
	// The next command of the workload is settled after the duplicate was looked at.
	marker, _ := b.command(subjects.Destroy, "cart", nil)
	b.want(marker, subjects.Done)
	if r := b.result(id); r.Sequence != seq {
		t.Errorf("the old result was replaced: %+v", r)
	}
	if after := journal(engine); len(after) != before {
		t.Errorf("the duplicate reached the engine: %v", after[before:])
	}
	if n := b.count(subjects.StreamResults, subjects.ResultFilter(id)); n != 1 {
		t.Errorf("%d results", n)
	}
}

// TestNewerSupersedesRunning: a deploy that hangs in its pull gives way to a newer one
// at once, and nothing of it ever runs.
func TestNewerSupersedesRunning(t *testing.T) {
	b := newBus(t)
	engine, driver := newEngine(t, "n1", sim.Config{})
	b.startWorker("n1", driver)
	slow := web("cart")
	slow.Image = "web:slow"
	slow.Env = map[string]string{"SIM_PULL": "1h"}
	first, firstSeq := b.command(subjects.Deploy, "cart", slow)
	b.eventually("the pull", func() bool {
		return b.count(subjects.StreamEvents, "kranix.evt.sim.n1.shop.cart.pulling") > 0
	})
	second, secondSeq := b.command(subjects.Deploy, "cart", web("cart"))
	b.want(second, subjects.Done)
	if r := b.want(first, subjects.Superseded); r.SupersededBy != secondSeq {
		t.Errorf("superseded by %d, want %d", r.SupersededBy, secondSeq)
	}
	for _, j := range journal(engine) {
		if j.Sequence == firstSeq {
			t.Errorf("something of the superseded deploy ran: %+v", j)
		}
	}
}

// TestHourLongCommandsDelayNobody: commands that hang leave room for others as long as
// there are slots, and a restart of one workload waits for its own deploy only.
func TestHourLongCommandsDelayNobody(t *testing.T) {
	b := newBus(t)
	_, driver := newEngine(t, "n1", sim.Config{})
	b.startWorker("n1", driver, func(c *workers.Config) { c.Backends[0].Concurrency = 20 })
	for i := range 10 {
		slow := web(fmt.Sprintf("slow-%d", i))
		slow.Image = "web:slow"
		slow.Env = map[string]string{"SIM_PULL": "1h"}
		b.command(subjects.Deploy, slow.Name, slow)
		b.command(subjects.Restart, slow.Name, nil)
	}
	id, _ := b.command(subjects.Deploy, "quick", web("quick"))
	start := time.Now()
	b.want(id, subjects.Done)
	if d := time.Since(start); d > time.Second {
		t.Errorf("took %s", d)
	}
}

// TestShutdownLeavesForTheNext: a worker that is stopped in the middle of a deploy
// gives it back, and the next one ends it: one result, one instance.
func TestShutdownLeavesForTheNext(t *testing.T) {
	b := newBus(t)
	engine, driver := newEngine(t, "n1", sim.Config{})
	w := b.startWorker("n1", driver, func(c *workers.Config) { c.DrainTimeout = 50 * time.Millisecond })
	spec := web("cart")
	spec.Health = &drivers.HealthCheck{TCP: &drivers.TCPProbe{Port: 80}, Interval: drivers.Duration(20 * time.Millisecond), StartPeriod: drivers.Duration(time.Minute)}
	spec.Env = map[string]string{"SIM_HEALTH": "after:1500ms"}
	id, _ := b.command(subjects.Deploy, "cart", spec)
	b.eventually("the start", func() bool {
		return slices.ContainsFunc(journal(engine), func(j sim.Entry) bool { return j.Kind == sim.EntryStarted })
	})
	w.stop(t)
	if n := b.count(subjects.StreamResults, subjects.ResultFilter(id)); n != 0 {
		t.Fatalf("the interrupted command has %d results already", n)
	}
	b.startWorker("n1", newDriver(t, "n1", sim.Config{}, engine))
	b.want(id, subjects.Done)
	starts := 0
	for _, j := range journal(engine) {
		if j.Kind == sim.EntryStarted {
			starts++
		}
	}
	if starts != 1 {
		t.Errorf("%d starts, want the first instance adopted", starts)
	}
}

// TestBusAway: NATS is stopped for a while under load. Everything acknowledged is
// carried out, in exactly one result each; what runs is not touched.
func TestBusAway(t *testing.T) {
	b := newBus(t)
	engine, driver := newEngine(t, "n1", sim.Config{Latency: map[sim.Op]sim.Latency{sim.OpStart: {Base: 5 * time.Millisecond}}})
	b.startWorker("n1", driver)
	old, _ := b.command(subjects.Deploy, "old", web("old"))
	b.want(old, subjects.Done)
	var ids []string
	for i := range 60 {
		id, _ := b.command(subjects.Deploy, fmt.Sprintf("w-%d", i), web(fmt.Sprintf("w-%d", i)))
		ids = append(ids, id)
	}
	b.stop()
	away := time.NewTimer(1500 * time.Millisecond)
	<-away.C
	b.start()
	for _, id := range ids {
		b.want(id, subjects.Done)
		if n := b.count(subjects.StreamResults, subjects.ResultFilter(id)); n != 1 {
			t.Errorf("%d results of %s", n, id)
		}
	}
	starts := map[string]int{}
	for _, j := range journal(engine) {
		if j.Kind == sim.EntryStarted {
			starts[j.WorkloadID]++
		}
	}
	for w, n := range starts {
		if n != 1 {
			t.Errorf("%s was started %d times", w, n)
		}
	}
	if len(starts) != len(ids)+1 {
		t.Errorf("%d workloads were started, want %d", len(starts), len(ids)+1)
	}
}

// TestStreamOlderThanRecords: a command stream that was lost must not make new
// commands count as old.
func TestStreamOlderThanRecords(t *testing.T) {
	b := newBus(t)
	_, driver := newEngine(t, "n1", sim.Config{})
	w := b.startWorker("n1", driver)
	for range 3 {
		id, _ := b.command(subjects.Deploy, "cart", web("cart"))
		b.want(id, subjects.Done)
	}
	w.stop(t)
	if err := b.js.DeleteStream(t.Context(), subjects.StreamCommands); err != nil {
		t.Fatal(err)
	}
	if err := subjects.Ensure(t.Context(), b.js, subjects.Settings{LogBytes: 64 << 20, MetricBytes: 64 << 20}); err != nil {
		t.Fatal(err)
	}
	nc, js := b.connect()
	again, err := workers.New(workers.Config{
		Node: "n1", Backends: []workers.Backend{{Name: "sim", Driver: driver}}, NC: nc, JS: js,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := again.Run(ctx); err == nil {
		t.Fatal("the worker started on a stream that is older than its records")
	}
}

// TestTTL: a workload with a TTL ends by itself through a command of its own; a deploy
// in time gives it a new one.
func TestTTL(t *testing.T) {
	b := newBus(t)
	_, driver := newEngine(t, "n1", sim.Config{})
	b.startWorker("n1", driver)
	spec := web("cart")
	spec.TTL = drivers.Duration(1500 * time.Millisecond)
	id, _ := b.command(subjects.Deploy, "cart", spec)
	b.want(id, subjects.Done)
	b.eventually("the end of the TTL", func() bool {
		return b.count(subjects.StreamEvents, "kranix.evt.sim.n1.shop.cart.destroyed") > 0
	})
	if n := b.count(subjects.StreamCommands, "kranix.cmd.sim.*.shop.cart.destroy"); n != 1 {
		t.Errorf("%d destroy commands, want 1", n)
	}
}

// TestOverdue: a command whose deadline has passed when it is taken up is expired and
// nothing of it is done.
func TestOverdue(t *testing.T) {
	b := newBus(t)
	engine, driver := newEngine(t, "n1", sim.Config{})
	spec := web("cart")
	spec.Deadline = drivers.Duration(time.Second)
	id, _ := b.command(subjects.Deploy, "cart", spec)
	late := time.NewTimer(1200 * time.Millisecond)
	<-late.C
	// The host's clock is an hour slow; the server's decides.
	b.startWorker("n1", driver, func(c *workers.Config) { c.Now = func() time.Time { return time.Now().Add(-time.Hour) } })
	b.want(id, subjects.Expired)
	if j := journal(engine); len(j) != 0 {
		t.Errorf("the engine was reached: %v", j)
	}
	id, _ = b.command(subjects.Deploy, "cart", web("cart"))
	b.want(id, subjects.Done)
}

// TestZombie: a worker that stood still longer than its lease finds, when it goes on,
// that another one took the command over. It removes nothing the other works with, runs
// nothing, and settles nothing (fault 2).
func TestZombie(t *testing.T) {
	b := newBus(t)
	frozen, noticed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	cfg := sim.Config{Intercept: func(ctx context.Context, op sim.Op, id string) error {
		if op == sim.OpStart {
			once.Do(func() {
				close(frozen)
				<-ctx.Done()
				close(noticed)
			})
		}
		return nil
	}}
	engine, driver := newEngine(t, "n1", cfg)
	// Between the frozen worker and the bus nothing passes: its lease runs out.
	cut := newWire(t, b)
	b.startWorkerOn("n1", shared{driver}, cut.url(), func(c *workers.Config) { c.Lease, c.AckWait = time.Second, time.Second })
	id, _ := b.command(subjects.Deploy, "cart", web("cart"))
	<-frozen
	cut.cut()
	b.startWorker("n2", shared{newDriver(t, "n1", sim.Config{}, engine)}, func(c *workers.Config) { c.Lease, c.AckWait = time.Second, time.Second })
	b.want(id, subjects.Done)
	cut.mend()
	<-noticed
	marker, _ := b.command(subjects.Restart, "cart", nil)
	b.want(marker, subjects.Done)
	if n := b.count(subjects.StreamResults, subjects.ResultFilter(id)); n != 1 {
		t.Errorf("%d results", n)
	}
	status, err := driver.GetStatus(t.Context(), "shop/cart")
	if err != nil || status.Phase != drivers.PhaseRunning || len(status.Instances) != 1 {
		t.Errorf("after the zombie came back: %+v, %v", status, err)
	}
}
