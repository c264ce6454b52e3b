package workers_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/drivers/sim"
	"github.com/kranix-io/kranix-runtime/subjects"
)

func TestDeployRestartDestroy(t *testing.T) {
	b := newBus(t)
	_, driver := newEngine(t, "n1", sim.Config{})
	b.startWorker("n1", driver)

	id, seq := b.command(subjects.Deploy, "cart", web("cart"))
	r := b.want(id, subjects.Done)
	if r.Sequence != seq || r.Verb != subjects.Deploy || r.Node != "n1" || r.Attempts != 1 {
		t.Errorf("result does not say what happened: %+v", r)
	}
	var status drivers.WorkloadStatus
	if err := json.Unmarshal(r.Status, &status); err != nil || status.Phase != drivers.PhaseRunning || status.Ready != 1 {
		t.Errorf("status in the result: %+v, %v", status, err)
	}
	kv, err := b.js.KeyValue(t.Context(), subjects.BucketStatus)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := kv.Get(t.Context(), "sim.n1.shop.cart")
	if err != nil {
		t.Fatalf("no status in the bucket although the result is there: %v", err)
	}
	if err := json.Unmarshal(entry.Value(), &status); err != nil || status.Phase != drivers.PhaseRunning {
		t.Errorf("status in the bucket: %s, %v", entry.Value(), err)
	}
	if got := b.phases("cart"); !slices.Contains(got, "accepted") || !slices.Contains(got, "running") {
		t.Errorf("phases %v lack accepted or running", got)
	}

	id, _ = b.command(subjects.Restart, "cart", nil)
	b.want(id, subjects.Done)

	id, _ = b.command(subjects.Destroy, "cart", nil)
	b.want(id, subjects.Done)
	if _, err := driver.GetStatus(t.Context(), "shop/cart"); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("something is left: %v", err)
	}
	if got := b.phases("cart"); got[len(got)-1] != "destroyed" {
		t.Errorf("the last phase is not destroyed: %v", got)
	}
	if _, err := kv.Get(t.Context(), "sim.n1.shop.cart"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("status is left in the bucket: %v", err)
	}
	// A destroy of what is not there is done, too.
	id, _ = b.command(subjects.Destroy, "cart", nil)
	b.want(id, subjects.Done)
}

func TestEveryEventOfACommandNamesIt(t *testing.T) {
	b := newBus(t)
	_, driver := newEngine(t, "n1", sim.Config{})
	b.startWorker("n1", driver)
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	id, seq := b.command(subjects.Deploy, "cart", web("cart"), subjects.ExtTraceParent, trace)
	b.want(id, subjects.Done)
	events := b.messages(subjects.StreamEvents, subjects.EventsOf(subjects.Workload{Backend: "sim", Namespace: "shop", Name: "cart"}))
	if len(events) < 2 {
		t.Fatalf("%d events", len(events))
	}
	for _, e := range events {
		if subjects.Extension(e, subjects.ExtCommandID) != id || subjects.Extension(e, subjects.ExtSequence) != subjects.PadSequence(seq) {
			t.Errorf("%s does not name its command: %v", e.Type(), e.Extensions())
		}
		if subjects.Extension(e, subjects.ExtTraceParent) != trace {
			t.Errorf("%s lost the trace: %v", e.Type(), e.Extensions())
		}
		if e.Source() != "/kranix/sim/n1" || e.Subject() != "shop/cart" {
			t.Errorf("%s has source %q, subject %q", e.Type(), e.Source(), e.Subject())
		}
	}
}

func TestFailedDeployLeavesEvidence(t *testing.T) {
	b := newBus(t)
	engine, driver := newEngine(t, "n1", sim.Config{})
	b.startWorker("n1", driver)
	good, _ := b.command(subjects.Deploy, "cart", web("cart"))
	b.want(good, subjects.Done)

	broken := web("cart")
	broken.Image = "web:2"
	broken.Update.Monitor = drivers.DurationPtr(200e6)
	broken.Env = map[string]string{"SIM_EXIT_AFTER": "10ms", "SIM_EXIT_CODE": "3"}
	broken.Restart.Policy = drivers.RestartNo
	id, seq := b.command(subjects.Deploy, "cart", broken)
	r := b.want(id, subjects.Failed)
	if !r.RolledBack || r.Reason == "" {
		t.Errorf("result does not say that it was rolled back, and why: %+v", r)
	}
	var evidence drivers.RolloutError
	if err := json.Unmarshal(r.Evidence, &evidence); err != nil || evidence.ExitCode != 3 {
		t.Errorf("evidence %s, %v", r.Evidence, err)
	}
	status, err := driver.GetStatus(t.Context(), "shop/cart")
	if err != nil || status.Image != "web:1" || status.Phase != drivers.PhaseRunning {
		t.Errorf("after the roll-back: %+v, %v", status, err)
	}
	letters := b.messages(subjects.StreamDeadLetter, "kranix.dlq.>")
	if len(letters) != 1 {
		t.Fatalf("%d dead letters, want 1", len(letters))
	}
	var letter subjects.DeadLetterData
	if err := json.Unmarshal(letters[0].Data(), &letter); err != nil {
		t.Fatal(err)
	}
	if letter.CommandID != id || letter.Sequence != seq || letter.Evidence == nil || letter.Status == nil ||
		!strings.Contains(string(letter.Command), "web:2") {
		t.Errorf("dead letter %s", letters[0].Data())
	}
	_ = engine
}

func TestUnavailableEngineIsWaitedFor(t *testing.T) {
	b := newBus(t)
	engine, driver := newEngine(t, "n1", sim.Config{})
	b.startWorker("n1", driver)
	first, _ := b.command(subjects.Deploy, "first", web("first"))
	b.want(first, subjects.Done)
	engine.SetUnavailable(true)
	id, _ := b.command(subjects.Deploy, "cart", web("cart"))
	b.eventually("more tries than an engine failure gets", func() bool {
		return b.count(subjects.StreamEvents, "kranix.evt.sim.n1.shop.cart.retrying") > 6
	})
	engine.SetUnavailable(false)
	if r := b.want(id, subjects.Done); r.Attempts != 1 {
		t.Errorf("an engine that was away cost %d attempts", r.Attempts)
	}
}

// TestUnavailableRegistryIsNotWaitedForLong: the engine answers, what it needs does not.
func TestUnavailableRegistryIsNotWaitedForLong(t *testing.T) {
	b := newBus(t)
	_, driver := newEngine(t, "n1", sim.Config{Failures: []sim.Failure{{Op: sim.OpPull, Class: drivers.ErrUnavailable, Message: "no such host"}}})
	b.startWorker("n1", driver)
	id, _ := b.command(subjects.Deploy, "cart", web("cart"))
	if r := b.want(id, subjects.Failed); r.Attempts != 5 || r.Reason != "Unavailable" {
		t.Errorf("result %+v", r)
	}
}

func TestEngineFailuresAreBounded(t *testing.T) {
	b := newBus(t)
	_, driver := newEngine(t, "n1", sim.Config{Failures: []sim.Failure{{Op: sim.OpCreate, Message: "disk on fire"}}})
	b.startWorker("n1", driver)
	id, _ := b.command(subjects.Deploy, "cart", web("cart"))
	r := b.want(id, subjects.Failed)
	if r.Attempts != 5 || !strings.Contains(r.Message, "disk on fire") {
		t.Errorf("result %+v", r)
	}
	letters := b.messages(subjects.StreamDeadLetter, "kranix.dlq.>")
	var letter subjects.DeadLetterData
	if len(letters) != 1 || json.Unmarshal(letters[0].Data(), &letter) != nil || len(letter.Attempts) != 5 {
		t.Errorf("dead letters %v", letters)
	}
}
