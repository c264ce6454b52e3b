package telemetry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// A retry must not be stored twice even when the server has forgotten the message ID.
func TestShipperLostAcks(t *testing.T) {
	b, e := startBus(t), newFakeEngine()
	ctx := t.Context()
	st, err := b.js.Stream(ctx, subjects.StreamLogs)
	if err != nil {
		t.Fatal(err)
	}
	cfg := st.CachedInfo().Config
	cfg.Duplicates = 100 * time.Millisecond
	if _, err := b.js.UpdateStream(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	c := e.create("aaa", 0)
	js := &brokenJS{JetStream: b.js}
	var n atomic.Int64
	lost := func(_ *nats.Msg, ack *jetstream.PubAck, err error) (*jetstream.PubAck, error) {
		if err == nil && n.Add(1)%2 == 1 {
			// Longer than the window in which the server knows the ID.
			<-time.After(300 * time.Millisecond)
			return nil, context.DeadlineExceeded
		}
		return ack, err
	}
	js.after.Store(&lost)
	s := b.shipper(ShipperConfig{JS: js, MaxBatchBytes: 2000, MaxPendingBytes: 2000})
	printMany(e, c, 0, 200)
	s.Track(web, e)
	waitShipped(t, b, e, c)
	if n.Load() < 4 {
		t.Errorf("only %d publications", n.Load())
	}
}

func TestShipperWithTheBusAway(t *testing.T) {
	b, e := startBus(t), newFakeEngine()
	c := e.create("aaa", 0)
	s := b.shipper(ShipperConfig{MaxPendingBytes: 10_000, MaxBatchBytes: 5_000})
	s.Track(web, e)
	printMany(e, c, 0, 30)
	waitShipped(t, b, e, c)
	b.stop()
	printMany(e, c, 30, 3000)
	l := s.follows[web].lanes[0]
	full := func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.pending < 10_000 {
			return fmt.Errorf("%d bytes are pending", l.pending)
		}
		if l.pending > 11_000 {
			t.Fatalf("%d bytes are pending, which is not bounded", l.pending)
		}
		return nil
	}
	eventually(t, full)
	printMany(e, c, 3030, 1000) // The workload does not wait: printing succeeds.
	if err := full(); err != nil {
		t.Error(err)
	}
	b.start()
	if got := waitShipped(t, b, e, c); len(got.gaps) > 0 {
		t.Errorf("gaps: %+v", got.gaps)
	}
}

// The server acknowledges before it writes: after a crash its latest messages may be
// gone. What the stream has not, is shipped again, also when nothing more is printed.
func TestShipperWhenTheServerLostItsTail(t *testing.T) {
	for _, more := range []int{0, 40} {
		t.Run(fmt.Sprintf("%d more lines", more), func(t *testing.T) {
			b, e := startBus(t), newFakeEngine()
			c := e.create("aaa", 0)
			s := b.shipper(ShipperConfig{})
			s.Track(web, e)
			printMany(e, c, 0, 60)
			waitShipped(t, b, e, c)
			snapshot := b.snapshot()
			printMany(e, c, 60, 60)
			waitShipped(t, b, e, c)
			printMany(e, c, 120, 60)
			waitShipped(t, b, e, c)
			b.stop()
			b.restore(snapshot)
			printMany(e, c, 180, more)
			b.start()
			if got := waitShipped(t, b, e, c); len(got.gaps) > 0 {
				t.Errorf("gaps: %+v", got.gaps)
			}
		})
	}
}

func TestShipperWhenTheStreamIsMadeAnew(t *testing.T) {
	b, e := startBus(t), newFakeEngine()
	c := e.create("aaa", 0)
	s := b.shipper(ShipperConfig{})
	s.Track(web, e)
	printMany(e, c, 0, 10)
	waitShipped(t, b, e, c)
	printMany(e, c, 10, 10)
	waitShipped(t, b, e, c)
	if err := b.js.DeleteStream(t.Context(), subjects.StreamLogs); err != nil {
		t.Fatal(err)
	}
	printMany(e, c, 20, 10)
	eventually(t, func() error {
		if n := s.follows[web].lanes[0].unsent(); n == 0 {
			return errors.New("nothing waits")
		}
		return nil
	})
	if _, err := b.js.CreateStream(t.Context(), subjects.Streams(subjects.Settings{LogBytes: 64 << 20})[5]); err != nil {
		t.Fatal(err)
	}
	waitShipped(t, b, e, c)
}

// Retention takes the messages away; that is no reason to ship them again.
func TestShipperAfterRetention(t *testing.T) {
	b, e := startBus(t), newFakeEngine()
	c := e.create("aaa", 0)
	s := b.shipper(ShipperConfig{})
	s.Track(web, e)
	printMany(e, c, 0, 10)
	waitShipped(t, b, e, c)
	st, err := b.js.Stream(t.Context(), subjects.StreamLogs)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	printMany(e, c, 10, 10)
	eventually(t, func() error {
		copies, _ := b.shippedOf(web, 0)
		return sameLines(copies[c.id], e.printed(c)[10:])
	})
}

func TestShipperReadsAgainAfterErrors(t *testing.T) {
	b, e := startBus(t), newFakeEngine()
	c := e.create("aaa", 0)
	e.failAfter = 37
	s := b.shipper(ShipperConfig{})
	s.Track(web, e)
	printMany(e, c, 0, 120)
	waitShipped(t, b, e, c)
	reads := e.readings()
	if last := reads[len(reads)-1]; last.Since.IsZero() || !last.Follow {
		t.Errorf("read again with %+v, want to follow from the cursor", last)
	}
}

func TestShipperDeclaresRotation(t *testing.T) {
	b, e := startBus(t), newFakeEngine()
	c := e.create("aaa", 0)
	s := b.shipper(ShipperConfig{})
	for i := range 20 {
		e.print(c, start.Add(time.Duration(i)*2*time.Second), "stdout", fmt.Sprintf("line %d", i))
	}
	s.Track(web, e)
	waitShipped(t, b, e, c)
	abort(s)
	for i := 20; i < 40; i++ {
		e.print(c, start.Add(time.Duration(i)*2*time.Second), "stdout", fmt.Sprintf("line %d", i))
	}
	e.rotate(c, 30)
	b.shipper(ShipperConfig{}).Track(web, e)
	all := e.printed(c)
	var got *shipped
	eventually(t, func() error {
		copies, _ := b.shippedOf(web, 0)
		got = copies[c.id]
		return sameLines(got, append(append([]string(nil), all[:20]...), all[30:]...))
	})
	want := subjects.LogGap{From: start.Add(38 * time.Second), To: start.Add(60 * time.Second), Reason: gapRotated}
	if len(got.gaps) != 1 || !got.gaps[0].From.Equal(want.From) || !got.gaps[0].To.Equal(want.To) || got.gaps[0].Reason != want.Reason || got.gaps[0].Lines != 0 {
		t.Errorf("gaps are %+v, want %+v", got.gaps, want)
	}
}

// A rotation while the log is being read: the driver says where lines are missing, and a
// second reading of the same lines does not declare it again.
func TestShipperPassesAGapOn(t *testing.T) {
	b, e := startBus(t), newFakeEngine()
	c := e.create("aaa", 0)
	s := b.shipper(ShipperConfig{})
	e.print(c, start, "stdout", "before")
	e.printLine(c, drivers.LogLine{Time: start.Add(time.Second), Stream: "stdout", Line: []byte("after"), Gap: true})
	s.Track(web, e)
	waitShipped(t, b, e, c)
	abort(s)
	e.print(c, start.Add(2*time.Second), "stdout", "later")
	b.shipper(ShipperConfig{}).Track(web, e)
	got := waitShipped(t, b, e, c)
	if len(got.gaps) != 1 || got.gaps[0].Reason != gapRotated || !got.gaps[0].From.Equal(start) || !got.gaps[0].To.Equal(start.Add(time.Second)) {
		t.Errorf("gaps are %+v, want one from %s to %s", got.gaps, start, start.Add(time.Second))
	}
}

// A workload is destroyed while its lines cannot be published: what was not read is
// declared.
func TestShipperDeclaresWhatADestroyTookAway(t *testing.T) {
	b, e := startBus(t), newFakeEngine()
	c := e.create("aaa", 0)
	s := b.shipper(ShipperConfig{DrainTimeout: 100 * time.Millisecond, MaxPendingBytes: 2000, MaxBatchBytes: 2000})
	s.Track(web, e)
	printMany(e, c, 0, 10)
	waitShipped(t, b, e, c)
	b.stop()
	printMany(e, c, 10, 1000)
	eventually(t, func() error {
		if s.follows[web].lanes[0].unsent() < 5 {
			return errors.New("not read yet")
		}
		return nil
	})
	e.remove(c)
	f := s.follows[web]
	s.Untrack(web)
	eventually(t, func() error {
		if !f.isDrained() {
			return errors.New("not drained")
		}
		return nil
	})
	b.start()
	var got *shipped
	eventually(t, func() error {
		copies, _ := b.shippedOf(web, 0)
		if got = copies[c.id]; got == nil || len(got.gaps) == 0 {
			return errors.New("no gap")
		}
		return nil
	})
	if err := sameLines(got, e.printed(c)[:len(got.lines)]); err != nil {
		t.Error(err)
	}
	if g := got.gaps[0]; g.Reason != gapRemoved || g.From.IsZero() || len(got.lines) >= 1010 || len(got.lines) < 15 {
		t.Errorf("%d lines and gap %+v", len(got.lines), g)
	}
}

// Two shippers of one workload, which never should be, still ship each line once.
func TestShipperTwoAtOnce(t *testing.T) {
	b, e := startBus(t), newFakeEngine()
	c := e.create("aaa", 0)
	printMany(e, c, 0, 100)
	cfg := ShipperConfig{MaxBatchBytes: 500, MaxPendingBytes: 1000}
	b.shipper(cfg).Track(web, e)
	b.shipper(cfg).Track(web, e)
	waitShipped(t, b, e, c)
	printMany(e, c, 100, 100)
	waitShipped(t, b, e, c)
}

func TestShipperForeignMessageOnTheSubject(t *testing.T) {
	b, e := startBus(t), newFakeEngine()
	c := e.create("aaa", 0)
	subject, err := subjects.Log(web, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.js.Publish(t.Context(), subject, []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	printMany(e, c, 0, 10)
	b.shipper(ShipperConfig{}).Track(web, e)
	eventually(t, func() error {
		m := b.messages(subjects.StreamLogs, subject)
		if n := strings.Count(string(m[len(m)-1].Data), `"line":"line `); len(m) != 2 || n != 10 {
			return fmt.Errorf("%d messages, the last with %d lines", len(m), n)
		}
		return nil
	})
}

// What the server lost, and the engine has not any more either, is declared.
func TestShipperDeclaresWhatNobodyHas(t *testing.T) {
	b, e := startBus(t), newFakeEngine()
	c := e.create("aaa", 0)
	s := b.shipper(ShipperConfig{})
	s.Track(web, e)
	printMany(e, c, 0, 60)
	waitShipped(t, b, e, c)
	snapshot := b.snapshot()
	printMany(e, c, 60, 60)
	waitShipped(t, b, e, c)
	b.stop()
	b.restore(snapshot)
	e.remove(c)
	b.start()
	l := s.follows[web].lanes[0]
	eventually(t, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.lost || len(l.copies) == 0 || l.copies[0].wanted[stdout].zero() {
			return errors.New("the loss is not found yet")
		}
		return nil
	})
	s.Untrack(web)
	eventually(t, func() error {
		copies, _ := b.shippedOf(web, 0)
		got := copies[c.id]
		if got == nil || len(got.gaps) == 0 {
			return errors.New("no gap")
		}
		for _, g := range got.gaps {
			if g.Reason != gapRemoved || g.From.Before(start.Add(19*time.Millisecond)) || g.To.Before(start.Add(39*time.Millisecond)) {
				t.Errorf("gap is %+v", g)
			}
		}
		return sameLines(got, e.printed(c)[:60])
	})
}

// After a purge the server still knows the message IDs and drops what is shipped again
// as a duplicate, with an acknowledgement; that is no proof that it is stored.
func TestShipperDuplicateIsNoProof(t *testing.T) {
	b, e := startBus(t), newFakeEngine()
	st, err := b.js.Stream(t.Context(), subjects.StreamLogs)
	if err != nil {
		t.Fatal(err)
	}
	cfg := st.CachedInfo().Config
	cfg.Duplicates = 500 * time.Millisecond
	if _, err := b.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	c := e.create("aaa", 0)
	printMany(e, c, 0, 3)
	s := b.shipper(ShipperConfig{MaxDelay: 50 * time.Millisecond})
	s.Track(web, e)
	waitShipped(t, b, e, c)
	abort(s)
	if err := st.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.shipper(ShipperConfig{MaxDelay: 50 * time.Millisecond}).Track(web, e)
	waitShipped(t, b, e, c)
}
