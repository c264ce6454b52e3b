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

var start = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

// waitShipped waits until all lines of a copy are in the stream, each once, in order.
func waitShipped(t *testing.T, b *testBus, e *fakeEngine, c *fakeCopy) *shipped {
	t.Helper()
	var got *shipped
	eventually(t, func() error {
		copies, _ := b.shippedOf(web, c.ordinal)
		got = copies[c.id]
		return sameLines(got, e.printed(c))
	})
	return got
}

func printMany(e *fakeEngine, c *fakeCopy, from, n int) {
	for i := from; i < from+n; i++ {
		// Three lines share a timestamp.
		e.print(c, start.Add(time.Duration(i/3)*time.Millisecond), streamNames[i%2], fmt.Sprintf("line %d", i))
	}
}

func TestShipperShipsInOrderWithStreamAndTime(t *testing.T) {
	b, e := startBus(t), newFakeEngine()
	c0, c1 := e.create("aaa", 0), e.create("bbb", 1)
	printMany(e, c0, 0, 50)
	printMany(e, c1, 0, 50)
	s := b.shipper(ShipperConfig{})
	s.Track(web, e)
	s.Track(web, e)
	waitShipped(t, b, e, c0)
	waitShipped(t, b, e, c1)
	printMany(e, c0, 50, 50)
	got := waitShipped(t, b, e, c0)
	for i, l := range got.entries {
		if want := start.Add(time.Duration(i/3) * time.Millisecond); !l.Time.Equal(want) || l.Stream != streamNames[i%2] {
			t.Fatalf("entry %d is %+v, want time %s", i, l, want)
		}
	}
	if len(got.gaps) > 0 {
		t.Errorf("gaps: %+v", got.gaps)
	}
}

func TestShipperResumesWhereTheStreamEnds(t *testing.T) {
	tests := map[string]struct {
		end func(*Shipper)
		// lose makes the server's answers get lost before the end.
		lose bool
	}{
		"closed":                {end: func(s *Shipper) { _ = s.Close(context.Background()) }},
		"killed":                {end: abort},
		"killed before the ack": {end: abort, lose: true},
		"closed without any ack": {end: func(s *Shipper) {
			ctx, c := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer c()
			_ = s.Close(ctx)
		}, lose: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b, e := startBus(t), newFakeEngine()
			c := e.create("aaa", 0)
			js := &brokenJS{JetStream: b.js}
			if test.lose {
				lost := func(*nats.Msg, *jetstream.PubAck, error) (*jetstream.PubAck, error) {
					return nil, context.DeadlineExceeded
				}
				js.after.Store(&lost)
			}
			s := b.shipper(ShipperConfig{JS: js, MaxBatchBytes: 1000})
			printMany(e, c, 0, 100)
			s.Track(web, e)
			eventually(t, func() error {
				if b.lastSequence() == 0 {
					return errors.New("nothing is stored")
				}
				return nil
			})
			test.end(s)
			printMany(e, c, 100, 100)
			b.shipper(ShipperConfig{}).Track(web, e)
			if got := waitShipped(t, b, e, c); len(got.gaps) > 0 {
				t.Errorf("gaps: %+v", got.gaps)
			}
		})
	}
}

func TestShipperReplacedCopies(t *testing.T) {
	for _, follows := range []bool{true, false} {
		t.Run(fmt.Sprintf("engine follows new copies %v", follows), func(t *testing.T) {
			b, e := startBus(t), newFakeEngine()
			e.followsNew = follows
			old := e.create("old", 0)
			s := b.shipper(ShipperConfig{})
			s.Track(web, e)
			printMany(e, old, 0, 10)
			waitShipped(t, b, e, old)
			// An update that starts the new copy first: both print, then the old one ends.
			fresh := e.create("new", 0)
			s.Track(web, e)
			printMany(e, fresh, 0, 10)
			printMany(e, old, 10, 10)
			waitShipped(t, b, e, old)
			waitShipped(t, b, e, fresh)
			abort(s)
			// Both go on while nobody reads; the cursor of either must be known.
			printMany(e, fresh, 10, 10)
			printMany(e, old, 20, 10)
			s = b.shipper(ShipperConfig{})
			s.Track(web, e)
			waitShipped(t, b, e, old)
			waitShipped(t, b, e, fresh)
			e.remove(old)
			scaled := e.create("second", 1)
			s.Track(web, e)
			printMany(e, scaled, 0, 10)
			printMany(e, fresh, 20, 10)
			waitShipped(t, b, e, scaled)
			waitShipped(t, b, e, fresh)
			waitShipped(t, b, e, old)
		})
	}
}

// One stream was quiet for long: that its old line is not read again is no rotation.
func TestShipperQuietStreamIsNoGap(t *testing.T) {
	b, e := startBus(t), newFakeEngine()
	c := e.create("aaa", 0)
	s := b.shipper(ShipperConfig{})
	e.print(c, start, "stderr", "early")
	for i := range 20 {
		e.print(c, start.Add(time.Duration(i)*time.Minute), "stdout", fmt.Sprintf("line %d", i))
	}
	s.Track(web, e)
	waitShipped(t, b, e, c)
	abort(s)
	e.print(c, start.Add(time.Hour), "stderr", "late")
	e.print(c, start.Add(time.Hour), "stdout", "late too")
	b.shipper(ShipperConfig{}).Track(web, e)
	if got := waitShipped(t, b, e, c); len(got.gaps) > 0 {
		t.Errorf("gaps: %+v", got.gaps)
	}
	if reads := e.readings(); !reads[len(reads)-1].Since.Equal(start.Add(19*time.Minute - writerSkew)) {
		t.Errorf("read from %s, which is not close to the cursor", reads[len(reads)-1].Since)
	}
}

// stdout and stderr may be stored out of order with each other.
func TestShipperStreamsOutOfOrder(t *testing.T) {
	for stored := 1; stored <= 4; stored++ {
		t.Run(fmt.Sprintf("killed after %d", stored), func(t *testing.T) {
			b, e := startBus(t), newFakeEngine()
			c := e.create("aaa", 0)
			lines := []struct {
				at     time.Duration
				stream string
			}{{2, "stdout"}, {1, "stderr"}, {4, "stdout"}, {3, "stderr"}, {5, "stdout"}}
			s := b.shipper(ShipperConfig{})
			s.Track(web, e)
			for i, l := range lines {
				e.print(c, start.Add(l.at), l.stream, fmt.Sprint(i))
				if i+1 == stored {
					waitShipped(t, b, e, c)
					abort(s)
				}
			}
			b.shipper(ShipperConfig{}).Track(web, e)
			waitShipped(t, b, e, c)
		})
	}
}

func TestShipperRateLimitIsDeclared(t *testing.T) {
	tests := map[string]ShipperConfig{
		"lines": {LinesPerSecond: 100},
		"bytes": {BytesPerSecond: 700},
	}
	for name, cfg := range tests {
		t.Run(name, func(t *testing.T) {
			b, e := startBus(t), newFakeEngine()
			c := e.create("aaa", 0)
			m := NewMetrics("test")
			cfg.Metrics = m
			s := b.shipper(cfg)
			const total = 2500
			for i := range total { // 1,000 lines a second
				e.print(c, start.Truncate(time.Second).Add(time.Duration(i)*time.Millisecond), "stdout", fmt.Sprintf("%07d", i))
			}
			s.Track(web, e)
			var got *shipped
			var messages []subjects.LogData
			eventually(t, func() error {
				var copies map[string]*shipped
				copies, messages = b.shippedOf(web, 0)
				got = copies[c.id]
				if got == nil || int64(len(got.lines))+got.lost != total {
					return fmt.Errorf("%+v", got)
				}
				return nil
			})
			if len(got.lines) != 300 || got.lost != 2200 {
				t.Errorf("%d shipped and %d lost, want 300 and 2200", len(got.lines), got.lost)
			}
			for _, g := range got.gaps {
				if g.Reason != gapRateLimit || g.From.IsZero() || g.To.Before(g.From) {
					t.Errorf("gap is %+v", g)
				}
			}
			if len(messages) > 20 {
				t.Errorf("%d messages for three bursts", len(messages))
			}
			if v := counterValue(t, m, "kranix_log_lines_lost_total"); v != 2200 {
				t.Errorf("kranix_log_lines_lost_total is %v", v)
			}
			if v := counterValue(t, m, "kranix_log_lines_shipped_total"); v != 300 {
				t.Errorf("kranix_log_lines_shipped_total is %v", v)
			}
			// Lines that were declared lost are not shipped by the next shipper either.
			abort(s)
			e.print(c, start.Add(time.Minute), "stdout", "last")
			s = b.shipper(cfg)
			s.Track(web, e)
			eventually(t, func() error {
				copies, _ := b.shippedOf(web, 0)
				if n := len(copies[c.id].lines); n != 301 || copies[c.id].lost != 2200 {
					return fmt.Errorf("%d shipped and %d lost", n, copies[c.id].lost)
				}
				return nil
			})
		})
	}
}

func TestShipperLongAndBinaryLines(t *testing.T) {
	texts := map[string]string{
		"1 MB":          strings.Repeat("x", drivers.MaxLogLine),
		"1 MB controls": strings.Repeat("\x01", drivers.MaxLogLine),
		"1 MB binary":   strings.Repeat("\xff\xfe", drivers.MaxLogLine/2),
		"1 MB runes":    strings.Repeat("a€", drivers.MaxLogLine/4),
		"binary":        "a\xffb",
		"empty":         "",
		"escapes":       "\"\\\t\r\x00\x7f<&>\u2028\ufffd",
	}
	for name, text := range texts {
		for _, payload := range []int32{0, 64 << 10} {
			t.Run(fmt.Sprintf("%s with payload %d", name, payload), func(t *testing.T) {
				b, e := startBusWith(t, payload), newFakeEngine()
				c := e.create("aaa", 0)
				e.print(c, start, "stdout", "before")
				e.print(c, start, "stdout", text)
				e.print(c, start, "stderr", "after")
				js := &brokenJS{JetStream: b.js}
				s := b.shipper(ShipperConfig{JS: js})
				// Killed somewhere within the line, twice.
				for range 2 {
					var n atomic.Int64
					stop := func(ctx context.Context, _ *nats.Msg) error {
						if n.Add(1) > 2 {
							<-ctx.Done()
							return ctx.Err()
						}
						return nil
					}
					js.before.Store(&stop)
					s.Track(web, e)
					_ = poll(func() error {
						if n.Load() <= 2 && sameNow(b, e, c) != nil {
							return errors.New("not there yet")
						}
						return nil
					})
					abort(s)
					s = b.shipper(ShipperConfig{JS: js})
				}
				js.before.Store(nil)
				s.Track(web, e)
				got := waitShipped(t, b, e, c)
				for i, entry := range got.entries {
					if entry.Base64 == nil && strings.ContainsRune(entry.Line, '\ufffd') && name != "escapes" {
						t.Errorf("entry %d has replaced bytes and no original", i)
					}
				}
			})
		}
	}
}

func sameNow(b *testBus, e *fakeEngine, c *fakeCopy) error {
	copies, _ := b.shippedOf(web, c.ordinal)
	return sameLines(copies[c.id], e.printed(c))
}

func TestShipperUntrackShipsWhatIsLeft(t *testing.T) {
	b, e := startBus(t), newFakeEngine()
	c := e.create("aaa", 0)
	s := b.shipper(ShipperConfig{MaxDelay: time.Minute})
	s.Track(web, e)
	eventually(t, func() error {
		if len(e.readings()) == 0 {
			return errors.New("not read yet")
		}
		return nil
	})
	printMany(e, c, 0, 500)
	e.remove(c)
	s.Untrack(web)
	s.Untrack(web)
	// Deployed again at once: the new copy's lines come after.
	fresh := e.create("new", 0)
	printMany(e, fresh, 0, 5)
	s.Track(web, e)
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := waitShipped(t, b, e, c); len(got.gaps) > 0 {
		t.Errorf("gaps: %+v", got.gaps)
	}
	b.shipper(ShipperConfig{}).Track(web, e)
	waitShipped(t, b, e, fresh)
}

func TestShipperUntrackIsBounded(t *testing.T) {
	b, e := startBus(t), newFakeEngine()
	c := e.create("aaa", 0)
	e.endless = true
	s := b.shipper(ShipperConfig{DrainTimeout: 50 * time.Millisecond})
	s.Track(web, e)
	printMany(e, c, 0, 5)
	waitShipped(t, b, e, c)
	s.Untrack(web)
	eventually(t, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := len(s.follows); n > 0 {
			return fmt.Errorf("%d workloads are still followed", n)
		}
		return nil
	})
	if got := waitShipped(t, b, e, c); len(got.gaps) > 0 {
		t.Errorf("gaps: %+v", got.gaps)
	}
}

func TestShipperConfigFaults(t *testing.T) {
	_, err := NewShipper(ShipperConfig{MaxDelay: -1, LinesPerSecond: -1})
	if err == nil {
		t.Fatal("no error")
	}
	for _, key := range []string{"JS", "MaxDelay", "LinesPerSecond"} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("%q does not name %s", err, key)
		}
	}
}
