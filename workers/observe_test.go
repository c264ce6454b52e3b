package workers_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/drivers/sim"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// reporter is an engine whose changes are the test's, and whose next list can be kept
// from arriving once it has been made.
type reporter struct {
	*sim.Driver
	changes chan drivers.Change

	mu     sync.Mutex
	made   chan struct{}
	arrive chan struct{}
}

func newReporter(d *sim.Driver) *reporter {
	return &reporter{Driver: d, changes: make(chan drivers.Change)}
}

func (r *reporter) Watch(ctx context.Context) (<-chan drivers.Change, error) {
	out := make(chan drivers.Change)
	go func() {
		defer close(out)
		for {
			select {
			case <-ctx.Done():
				return
			case c := <-r.changes:
				select {
				case out <- c:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out, nil
}

// holdList has the next list held back: made is closed when it has been made, and it
// arrives when the caller closes arrive.
func (r *reporter) holdList() (made <-chan struct{}, arrive chan<- struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made, r.arrive = make(chan struct{}), make(chan struct{})
	return r.made, r.arrive
}

func (r *reporter) ListWorkloads(ctx context.Context, namespace string) ([]*drivers.WorkloadStatus, error) {
	list, err := r.Driver.ListWorkloads(ctx, namespace)
	r.mu.Lock()
	made, arrive := r.made, r.arrive
	r.made = nil
	r.mu.Unlock()
	if made != nil {
		close(made)
		select {
		case <-arrive:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return list, err
}

// observed waits until every change before has been dealt with: changes are taken in
// order, and that of the workload "other" is announced.
func (r *reporter) observed(b *bus) {
	b.t.Helper()
	const said = "kranix.evt.sim.n1.shop.other.oom-killed"
	before := b.count(subjects.StreamEvents, said)
	r.changes <- drivers.Change{WorkloadID: "shop/other", Kind: drivers.ChangeOOMKilled, ExitCode: 137}
	b.eventually("the change of another workload", func() bool { return b.count(subjects.StreamEvents, said) > before })
}

// TestStaleListIsNoNews: a list of the engine that was made before a command and arrives
// after it says nothing of the workload that was true before and is not any more.
func TestStaleListIsNoNews(t *testing.T) {
	cases := []struct {
		name string
		// verb is the command between the making of the list and its arrival.
		verb    subjects.Verb
		phantom drivers.Phase
		known   bool
	}{
		{"destroyed meanwhile", subjects.Destroy, drivers.PhaseRunning, false},
		{"deployed meanwhile", subjects.Deploy, drivers.PhaseDestroyed, true},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			b := newBus(t)
			_, driver := newEngine(t, "n1", sim.Config{})
			engine := newReporter(driver)
			b.startWorker("n1", engine)
			id, _ := b.command(subjects.Deploy, "other", web("other"))
			b.want(id, subjects.Done)
			var data any = web("cart")
			if tc.verb == subjects.Destroy {
				id, _ := b.command(subjects.Deploy, "cart", data)
				b.want(id, subjects.Done)
				data = nil
			}
			made, arrive := engine.holdList()
			engine.changes <- drivers.Change{Resync: true}
			<-made
			id, _ = b.command(tc.verb, "cart", data)
			b.want(id, subjects.Done)
			before := b.phases("cart")
			close(arrive)
			engine.observed(b)
			engine.changes <- drivers.Change{Resync: true}
			engine.observed(b)
			b.published("cart")
			if after := b.phases("cart")[len(before):]; slices.Contains(after, string(tc.phantom)) {
				t.Errorf("after the command had its result the workload was said to be %v", after)
			}
			if b.has(subjects.BucketStatus, "sim.n1.shop.cart") != tc.known {
				t.Errorf("status in the bucket: %t, want %t", !tc.known, tc.known)
			}
		})
	}
}

// TestLateExit: the end of an instance that a command replaced or destroyed is what the
// command asked for, and no crash, however late the engine tells of it.
func TestLateExit(t *testing.T) {
	b := newBus(t)
	_, driver := newEngine(t, "n1", sim.Config{})
	engine := newReporter(driver)
	b.startWorker("n1", engine)
	id, _ := b.command(subjects.Deploy, "other", web("other"))
	b.want(id, subjects.Done)
	crashes := func() (n int) {
		for _, phase := range b.phases("cart") {
			if phase == string(drivers.PhaseCrashed) || phase == string(drivers.PhaseOOMKilled) {
				n++
			}
		}
		return n
	}
	exit := func(instanceID string) {
		t.Helper()
		b.taken(exactly(0))
		engine.changes <- drivers.Change{WorkloadID: "shop/cart", Kind: drivers.ChangeExited, ExitCode: 137, InstanceID: instanceID}
		engine.changes <- drivers.Change{WorkloadID: "shop/cart", Kind: drivers.ChangeOOMKilled, ExitCode: 137, InstanceID: instanceID}
		engine.observed(b)
		b.published("cart")
	}
	instance := func() string {
		t.Helper()
		status, err := driver.GetStatus(t.Context(), "shop/cart")
		if err != nil || len(status.Instances) != 1 {
			t.Fatalf("status %+v, %v", status, err)
		}
		return status.Instances[0].ID
	}

	id, _ = b.command(subjects.Deploy, "cart", web("cart"))
	b.want(id, subjects.Done)
	first := instance()
	changed := web("cart")
	changed.Env = map[string]string{"A": "B"}
	id, _ = b.command(subjects.Deploy, "cart", changed)
	b.want(id, subjects.Done)
	second := instance()
	exit(first)
	if n := crashes(); n != 0 {
		t.Errorf("the end of an instance that was replaced was told as %d crashes", n)
	}
	exit(second)
	if n := crashes(); n == 0 {
		t.Error("nothing was said about an instance that crashed")
	}
	before := crashes()
	id, _ = b.command(subjects.Destroy, "cart", nil)
	b.want(id, subjects.Done)
	exit(second)
	if n := crashes(); n != before {
		t.Errorf("the end of an instance that was destroyed was told as a crash: %v", b.phases("cart"))
	}
}
