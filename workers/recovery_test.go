package workers_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/drivers/sim"
	"github.com/kranix-io/kranix-runtime/subjects"
	"github.com/kranix-io/kranix-runtime/workers"
)

// TestCrashBetweenResultAndRecord: a worker that dies after it published a result and
// before it wrote the record leaves that to its successor, which carries nothing out
// again and lets the TTL run from when the deploy was done.
func TestCrashBetweenResultAndRecord(t *testing.T) {
	b := newBus(t)
	engine, driver := newEngine(t, "n1", sim.Config{})
	w := b.startWorker("n1", driver)
	spec := web("cart")
	spec.TTL = drivers.Duration(3 * time.Second)
	id, seq := b.command(subjects.Deploy, "cart", spec)
	b.want(id, subjects.Done)
	w.stop(t)
	rec := b.record("cart")
	good := rec["goodRevision"]
	// As it was when the command had been taken up, and no later.
	for _, key := range []string{"settledSeq", "outcome", "goodSeq", "goodRevision", "expiresAt", "spec"} {
		delete(rec, key)
	}
	rec["claim"] = map[string]any{"holder": "n1/died", "node": "n1", "epoch": 1, "duration": "2s", "sequence": seq, "commandId": id}
	value, err := json.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	b.setRecord("cart", value)

	b.startWorker("n1", newDriver(t, "n1", sim.Config{}, engine))
	b.eventually("the record to be completed", func() bool {
		rec = b.record("cart")
		return rec["claim"] == nil && rec["settledSeq"] == float64(seq)
	})
	if rec["outcome"] != string(subjects.Done) || rec["goodSeq"] != float64(seq) || rec["goodRevision"] != good || rec["spec"] == nil {
		t.Errorf("record %v", rec)
	}
	b.eventually("the end of the TTL", func() bool {
		return b.count(subjects.StreamEvents, "kranix.evt.sim.n1.shop.cart.destroyed") > 0
	})
	if starts := engine.Starts("shop/cart"); len(starts) != 1 {
		t.Errorf("%d starts", len(starts))
	}
	if n := b.count(subjects.StreamResults, subjects.ResultFilter(id)); n != 1 {
		t.Errorf("%d results", n)
	}
}

// TestTTLOutlivesWhatWasNotDone: a newer deploy ends a TTL only when it was carried out;
// one that was rejected or failed leaves it in force.
func TestTTLOutlivesWhatWasNotDone(t *testing.T) {
	b := newBus(t)
	_, driver := newEngine(t, "n1", sim.Config{})
	b.startWorker("n1", driver)
	names := []string{"rejected", "failed", "kept"}
	for _, name := range names {
		spec := web(name)
		spec.TTL = drivers.Duration(1500 * time.Millisecond)
		id, _ := b.command(subjects.Deploy, name, spec)
		b.want(id, subjects.Done)
	}
	invalid := web("rejected")
	invalid.Image = ""
	id, _ := b.command(subjects.Deploy, "rejected", invalid)
	b.want(id, subjects.Rejected)
	id, _ = b.command(subjects.Deploy, "failed", missing("failed"))
	b.want(id, subjects.Failed)
	id, _ = b.command(subjects.Deploy, "kept", web("kept"))
	b.want(id, subjects.Done)
	for _, name := range names[:2] {
		b.eventually("the end of the TTL of "+name, func() bool {
			_, err := driver.GetStatus(t.Context(), "shop/"+name)
			return errors.Is(err, drivers.ErrNotFound)
		})
	}
	if _, err := driver.GetStatus(t.Context(), "shop/kept"); err != nil {
		t.Errorf("a deploy without a TTL was ended by that of an older one: %v", err)
	}
}

// broken is a driver whose deploys end with err, after they made something or before.
type broken struct {
	*sim.Driver
	makes bool
	err   error
}

func (d broken) Deploy(ctx context.Context, spec *drivers.WorkloadSpec) (*drivers.WorkloadStatus, error) {
	if d.makes {
		if _, err := d.Driver.Deploy(ctx, spec); err != nil {
			return nil, err
		}
	}
	return nil, d.err
}

// Ping fails like deploys do: an engine that is away is waited for only as long as it
// does not answer.
func (d broken) Ping(context.Context) error { return d.err }

// TestOwnerOfWhatIsLeft: a deploy that was not done leaves its workload with the node as
// long as anything of it is there, so that no other node makes a second copy; when
// nothing is left any node may take the next deploy.
func TestOwnerOfWhatIsLeft(t *testing.T) {
	away := &drivers.Error{Class: drivers.ErrUnavailable, Op: "inspect"}
	cases := []struct {
		name    string
		makes   bool
		err     error
		outcome subjects.Outcome
		// node is where the next deploy has to be carried out.
		node string
	}{
		{"expired with containers left", true, away, subjects.Expired, "n1"},
		{"failed with containers left", true, errors.New("disk on fire"), subjects.Failed, "n1"},
		{"failed with nothing left", false, errors.New("disk on fire"), subjects.Failed, "n2"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBus(t)
			first, driver := newEngine(t, "n1", sim.Config{})
			w := b.startWorker("n1", broken{driver, tc.makes, tc.err}, func(c *workers.Config) { c.MaxAttempts, c.Deadline = 1, time.Second })
			id, _ := b.command(subjects.Deploy, "cart", web("cart"))
			b.want(id, tc.outcome)
			w.stop(t)

			second, other := newEngine(t, "n2", sim.Config{})
			b.startWorker("n2", other)
			id, _ = b.command(subjects.Deploy, "cart", web("cart"))
			if tc.node == "n1" {
				b.eventually("the deploy to be handed to its node", func() bool { return b.count(subjects.StreamAssignments, ">") == 1 })
				b.startWorker("n1", newDriver(t, "n1", sim.Config{}, first))
			}
			if r := b.want(id, subjects.Done); r.Node != tc.node {
				t.Errorf("done on %s, want %s", r.Node, tc.node)
			}
			starts := map[string]int{"n1": len(first.Starts("shop/cart")), "n2": len(second.Starts("shop/cart"))}
			if starts["n1"]+starts["n2"] != 1 || starts[tc.node] != 1 {
				t.Errorf("starts %v, want one, on %s", starts, tc.node)
			}
		})
	}
}

// TestUnreadableRecord: a record that somebody damaged does not keep a worker from
// starting, and costs other workloads nothing, not even a slot; commands of its own
// workload fail, naming the key, until it has been put right.
func TestUnreadableRecord(t *testing.T) {
	b := newBus(t)
	_, driver := newEngine(t, "n1", sim.Config{})
	b.setRecord("cart", []byte("garbage"))
	b.startWorker("n1", driver, func(c *workers.Config) { c.Backends[0].Concurrency = 1 })
	for _, verb := range []subjects.Verb{subjects.Deploy, subjects.Destroy} {
		var data any
		if verb == subjects.Deploy {
			data = web("cart")
		}
		id, _ := b.command(verb, "cart", data)
		if r := b.want(id, subjects.Failed); r.Reason != "RecordUnreadable" || !strings.Contains(r.Message, "sim._.shop.cart") {
			t.Errorf("%s: reason %s: %s", verb, r.Reason, r.Message)
		}
	}
	id, _ := b.command(subjects.Deploy, "other", web("other"))
	b.want(id, subjects.Done)
	if err := b.bucket(subjects.BucketWorkloads).Delete(t.Context(), "sim._.shop.cart"); err != nil {
		t.Fatal(err)
	}
	id, _ = b.command(subjects.Deploy, "cart", web("cart"))
	b.want(id, subjects.Done)
}

// TestBigRecord: a spec that would not fit its record if it were escaped for HTML is kept
// whole, and the workload's next command is carried out.
func TestBigRecord(t *testing.T) {
	b := newBus(t)
	_, driver := newEngine(t, "n1", sim.Config{})
	b.startWorker("n1", driver)
	big := strings.Repeat("<", 100<<10)
	b.want(b.deployData("cart", `{"name":"cart","image":"web:1","update":{"monitor":"0s"},"env":{"A":"`+big+`"}}`), subjects.Done)
	restart, _ := b.command(subjects.Restart, "cart", nil)
	b.want(restart, subjects.Done)
	spec, _ := b.record("cart")["spec"].(map[string]any)
	env, _ := spec["env"].(map[string]any)
	if env["A"] != big {
		t.Error("the record does not have the spec")
	}
}

// TestRestartWaitsForItsDeploy: a deploy and the restart behind it are both given back by
// a shutdown. Whichever comes first to the next worker, the restart is carried out after
// the deploy.
func TestRestartWaitsForItsDeploy(t *testing.T) {
	b := newBus(t)
	creating := newHold(sim.OpCreate)
	engine, driver := newEngine(t, "n1", sim.Config{Intercept: creating.intercept})
	w := b.startWorker("n1", driver, func(c *workers.Config) { c.DrainTimeout = 50 * time.Millisecond })
	deploy, deploySeq := b.command(subjects.Deploy, "cart", web("cart"))
	creating.await(b)
	restart, _ := b.command(subjects.Restart, "cart", nil)
	b.taken(exactly(2))
	w.stop(t)
	b.startWorker("n1", newDriver(t, "n1", sim.Config{}, engine))
	b.want(restart, subjects.Done)
	b.want(deploy, subjects.Done)
	starts := engine.Starts("shop/cart")
	if len(starts) != 2 || starts[0].Sequence != deploySeq {
		t.Errorf("starts %+v, want the deploy's and the restart's", starts)
	}
}

// TestRestartWaitsForADeployElsewhere: a restart that reaches a worker while the deploy
// before it still waits for another one is carried out after the deploy.
func TestRestartWaitsForADeployElsewhere(t *testing.T) {
	b := newBus(t)
	engine, driver := newEngine(t, "n1", sim.Config{})
	b.startWorker("n2", shared{driver})
	subject, e := commandFor(t, subjects.Deploy, "cart", web("cart"))
	deploy, seq := b.publish(onNode(subject, "n1"), e)
	restart, _ := b.command(subjects.Restart, "cart", nil)
	// By the time these are done a restart that did not wait would be, too.
	for _, name := range []string{"first", "second"} {
		id, _ := b.command(subjects.Deploy, name, web(name))
		b.want(id, subjects.Done)
	}
	if n := b.count(subjects.StreamResults, subjects.ResultFilter(restart)); n != 0 {
		t.Fatalf("the restart did not wait: %+v", b.result(restart))
	}
	b.startWorker("n1", shared{newDriver(t, "n1", sim.Config{}, engine)})
	b.want(deploy, subjects.Done)
	b.want(restart, subjects.Done)
	if starts := engine.Starts("shop/cart"); len(starts) != 2 || starts[0].Sequence != seq {
		t.Errorf("starts %+v, want the deploy's and the restart's", starts)
	}
}

// TestRestartWaitsForADeployGivenBack: a deploy that a worker took up and had to give
// back still comes before the restart published after it.
func TestRestartWaitsForADeployGivenBack(t *testing.T) {
	b := newBus(t)
	creating := newHold(sim.OpCreate)
	engine, driver := newEngine(t, "n1", sim.Config{Intercept: creating.intercept})
	subject, e := commandFor(t, subjects.Deploy, "cart", web("cart"))
	deploy, seq := b.publish(onNode(subject, "n1"), e)
	w := b.startWorker("n1", shared{driver}, func(c *workers.Config) { c.DrainTimeout = 50 * time.Millisecond })
	creating.await(b)
	w.stop(t)
	b.startWorker("n2", shared{newDriver(t, "n1", sim.Config{}, engine)})
	restart, _ := b.command(subjects.Restart, "cart", nil)
	// By the time this is done a restart that did not wait would be, too.
	marker, _ := b.command(subjects.Deploy, "other", web("other"))
	b.want(marker, subjects.Done)
	b.startWorker("n1", shared{newDriver(t, "n1", sim.Config{}, engine)})
	b.want(deploy, subjects.Done)
	b.want(restart, subjects.Done)
	if starts := engine.Starts("shop/cart"); len(starts) != 2 || starts[0].Sequence != seq {
		t.Errorf("starts %+v, want the deploy's and the restart's", starts)
	}
}

// TestEventsCannotBePublished: without its stream of events a worker still settles
// commands, and what it had to say is published when the stream is back.
func TestEventsCannotBePublished(t *testing.T) {
	b := newBus(t)
	_, driver := newEngine(t, "n1", sim.Config{})
	b.startWorker("n1", driver)
	if err := b.js.DeleteStream(t.Context(), subjects.StreamEvents); err != nil {
		t.Fatal(err)
	}
	deploy, _ := b.command(subjects.Deploy, "cart", web("cart"))
	other, _ := b.command(subjects.Destroy, "other", nil)
	b.want(deploy, subjects.Done)
	b.want(other, subjects.Done)
	if err := subjects.Ensure(t.Context(), b.js, subjects.Settings{LogBytes: 64 << 20, MetricBytes: 64 << 20}); err != nil {
		t.Fatal(err)
	}
	b.eventually("the events", func() bool {
		return b.count(subjects.StreamEvents, "kranix.evt.sim.n1.shop.cart.running") == 1
	})
}
