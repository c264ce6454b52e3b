package workers_test

import (
	"testing"

	"github.com/kranix-io/kranix-runtime/drivers/sim"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// TestDuplicateInFlight: a deploy that is published again while it is carried out does
// not end itself, neither in the worker that carries it out nor through another one. It
// has one effect and one result, which is done, and the copies are acknowledged after it.
func TestDuplicateInFlight(t *testing.T) {
	for _, through := range []string{"n1", "n2"} {
		t.Run("again through "+through, func(t *testing.T) {
			b := newBus(t)
			creating := newHold(sim.OpCreate)
			engine := b.startShared(t, sim.Config{Intercept: creating.intercept})
			subject, e := commandFor(t, subjects.Deploy, "cart", web("cart"))
			id, seq := b.publish(onNode(subject, "n1"), e)
			creating.await(b)
			b.duplicate(onNode(subject, through), e)
			b.duplicate(onNode(subject, through), e)
			b.taken(exactly(3))
			b.standsFor("cart", 0)
			if n := b.count(subjects.StreamResults, subjects.ResultFilter(id)); n != 0 {
				t.Fatalf("%d results while the deploy is in flight: %+v", n, b.result(id))
			}
			close(creating.open)
			if r := b.want(id, subjects.Done); r.Sequence != seq {
				t.Errorf("result is of command %d, want %d", r.Sequence, seq)
			}
			b.taken(exactly(0))
			if n := b.count(subjects.StreamResults, subjects.ResultFilter(id)); n != 1 {
				t.Errorf("%d results", n)
			}
			if starts := engine.Starts("shop/cart"); len(starts) != 1 || starts[0].Sequence != seq {
				t.Errorf("started by %+v, want once by command %d", starts, seq)
			}
			for _, j := range journal(engine) {
				if j.Kind == sim.EntryRemoved || j.Kind == sim.EntryStopped {
					t.Errorf("something of the deploy was taken away: %+v", j)
				}
			}
		})
	}
}

// TestDuplicateRestart: a restart that is published again, while it is carried out and
// after it, restarts once.
func TestDuplicateRestart(t *testing.T) {
	b := newBus(t)
	stopping := newHold(sim.OpStop)
	engine := b.startShared(t, sim.Config{Intercept: stopping.intercept})
	deploy, _ := b.command(subjects.Deploy, "cart", web("cart"))
	b.want(deploy, subjects.Done)
	subject, e := commandFor(t, subjects.Restart, "cart", nil)
	id, seq := b.publish(subject, e)
	stopping.await(b)
	b.duplicate(subject, e)
	b.duplicate(subject, e)
	b.taken(exactly(3))
	close(stopping.open)
	if r := b.want(id, subjects.Done); r.Sequence != seq {
		t.Errorf("result is of command %d, want %d", r.Sequence, seq)
	}
	b.duplicate(subject, e)
	b.taken(exactly(0))
	if starts := engine.Starts("shop/cart"); len(starts) != 2 {
		t.Errorf("%d starts, want the deploy's and the restart's: %+v", len(starts), starts)
	}
	if n := b.count(subjects.StreamResults, subjects.ResultFilter(id)); n != 1 {
		t.Errorf("%d results", n)
	}
}
