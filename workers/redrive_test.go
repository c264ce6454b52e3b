package workers_test

import (
	"strings"
	"testing"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/drivers/sim"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// missing is a workload whose image cannot be had.
func missing(name string) *drivers.WorkloadSpec {
	spec := web(name)
	spec.Image = "missing/web:1"
	return spec
}

// TestRedrive: a failed deploy may be published again under its old place in the order,
// which lets it through only while nothing newer is there, or by force.
func TestRedrive(t *testing.T) {
	b := newBus(t)
	_, driver := newEngine(t, "n1", sim.Config{})
	b.startWorker("n1", driver)
	failed, _ := b.command(subjects.Deploy, "cart", missing("cart"))
	b.want(failed, subjects.Failed)
	again, _ := b.command(subjects.Deploy, "cart", missing("cart"), subjects.ExtRedriveOf, failed)
	b.want(again, subjects.Failed)
	newer, _ := b.command(subjects.Deploy, "cart", web("cart"))
	b.want(newer, subjects.Done)
	late, _ := b.command(subjects.Deploy, "cart", missing("cart"), subjects.ExtRedriveOf, failed)
	if r := b.want(late, subjects.Rejected); r.Reason != "NewerExists" {
		t.Errorf("reason %s: %s", r.Reason, r.Message)
	}
	forced := web("cart")
	forced.Image = "web:0"
	force, _ := b.command(subjects.Deploy, "cart", forced, subjects.ExtRedriveOf, failed, subjects.ExtForce, "true")
	b.want(force, subjects.Done)
	unknown, _ := b.command(subjects.Deploy, "cart", web("cart"), subjects.ExtRedriveOf, "no-such-command")
	b.want(unknown, subjects.Rejected)
}

// TestRedriveAfterDestroy: a failed deploy does not come back over a destroy that was
// published after it.
func TestRedriveAfterDestroy(t *testing.T) {
	b := newBus(t)
	engine, driver := newEngine(t, "n1", sim.Config{})
	b.startWorker("n1", driver)
	failed, _ := b.command(subjects.Deploy, "cart", missing("cart"))
	b.want(failed, subjects.Failed)
	destroy, _ := b.command(subjects.Destroy, "cart", nil)
	b.want(destroy, subjects.Done)
	late, _ := b.command(subjects.Deploy, "cart", web("cart"), subjects.ExtRedriveOf, failed)
	if r := b.want(late, subjects.Rejected); r.Reason != "NewerExists" {
		t.Errorf("reason %s: %s", r.Reason, r.Message)
	}
	if starts := engine.Starts("shop/cart"); len(starts) != 0 {
		t.Errorf("what was destroyed is back: %+v", starts)
	}
}

// TestRefusedRedriveEndsNothing: a redrive that is refused, because something newer is
// there or because it names no command, does not end the newer deploy in flight, neither
// in the worker that carries it out nor through another one.
func TestRefusedRedriveEndsNothing(t *testing.T) {
	for _, through := range []string{"n1", "n2"} {
		t.Run("redriven through "+through, func(t *testing.T) {
			b := newBus(t)
			creating := newHold(sim.OpCreate)
			engine := b.startShared(t, sim.Config{Intercept: creating.intercept})
			failed, _ := b.command(subjects.Deploy, "cart", missing("cart"))
			b.want(failed, subjects.Failed)
			subject, e := commandFor(t, subjects.Deploy, "cart", web("cart"))
			newer, seq := b.publish(onNode(subject, "n1"), e)
			creating.await(b)
			redrive := func(of string) string {
				subject, e := commandFor(t, subjects.Deploy, "cart", web("cart"), subjects.ExtRedriveOf, of)
				id, _ := b.publish(onNode(subject, through), e)
				return id
			}
			old, unknown := redrive(failed), redrive("no-such-command")
			b.taken(func(int) bool { return true })
			b.standsFor("cart", 3)
			close(creating.open)
			b.want(newer, subjects.Done)
			if r := b.want(old, subjects.Rejected); r.Reason != "NewerExists" {
				t.Errorf("redrive: reason %s: %s", r.Reason, r.Message)
			}
			if r := b.want(unknown, subjects.Rejected); len(r.Fields) != 1 || r.Fields[0].Path != subjects.ExtRedriveOf {
				t.Errorf("redrive of nothing: %+v", r)
			}
			if starts := engine.Starts("shop/cart"); len(starts) != 1 || starts[0].Sequence != seq {
				t.Errorf("started by %+v, want once by command %d", starts, seq)
			}
		})
	}
}

// TestCommandForAnotherNodeEndsNothing: a deploy that is addressed to a node which does
// not have the workload is rejected, and the older deploy in flight on the node that has
// it goes on.
func TestCommandForAnotherNodeEndsNothing(t *testing.T) {
	b := newBus(t)
	creating := newHold(sim.OpCreate)
	_, here := newEngine(t, "n1", sim.Config{Intercept: creating.intercept})
	b.startWorker("n1", here)
	elsewhere, there := newEngine(t, "n2", sim.Config{})
	b.startWorker("n2", there)
	deploy := func(node string) string {
		subject, e := commandFor(t, subjects.Deploy, "cart", web("cart"))
		id, _ := b.publish(onNode(subject, node), e)
		return id
	}
	running := deploy("n1")
	creating.await(b)
	wrong := deploy("n2")
	r := b.want(wrong, subjects.Rejected)
	if len(r.Fields) != 1 || r.Fields[0].Path != "node" || !strings.Contains(r.Message, "n1") {
		t.Errorf("result does not say where the workload is: %+v", r)
	}
	close(creating.open)
	b.want(running, subjects.Done)
	if j := journal(elsewhere); len(j) != 0 {
		t.Errorf("the other node's engine was reached: %v", j)
	}
}
