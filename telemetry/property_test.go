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
	"pgregory.net/rapid"
)

// Whatever is printed, with whatever timestamps, and whenever the shipper is killed,
// closed, cut off from the answers of the server or from the engine: the stream holds
// every line of every copy once and in order, and declares no gap.
func TestShipperExactlyOnce(t *testing.T) {
	b := startBus(t)
	var run atomic.Int64
	rapid.Check(t, func(t *rapid.T) {
		w := web
		w.Name = fmt.Sprintf("web-%d", run.Add(1))
		e := newFakeEngine()
		e.followsNew = rapid.Bool().Draw(t, "engine follows new copies")
		clock := [2]time.Time{start, start}
		var copies []*fakeCopy
		live := make(map[int]*fakeCopy)
		js := &brokenJS{JetStream: b.js}
		var ship *Shipper
		cfg := ShipperConfig{JS: js, MaxDelay: time.Millisecond,
			MaxBatchBytes:   rapid.IntRange(1, 600).Draw(t, "batch"),
			MaxPendingBytes: rapid.IntRange(1, 1200).Draw(t, "pending")}
		newShipper := func() {
			s, err := NewShipper(cfg)
			if err != nil {
				t.Fatal(err)
			}
			ship = s
			ship.Track(w, e)
		}
		stop := func() {
			if ship != nil {
				abort(ship)
				ship = nil
			}
		}
		defer stop()
		create := func(t *rapid.T) {
			ordinal := rapid.IntRange(0, 1).Draw(t, "ordinal")
			// The engine's identifiers repeat from run to run: they identify nothing beyond
			// their workload.
			c := e.create(fmt.Sprintf("copy%d", len(copies)), ordinal)
			copies = append(copies, c)
			live[ordinal] = c
			if ship != nil {
				ship.Track(w, e)
			}
		}
		create(t)
		t.Repeat(map[string]func(*rapid.T){
			"print": func(t *rapid.T) {
				n := rapid.IntRange(1, 12).Draw(t, "lines")
				for range n {
					c := rapid.SampledFrom(copies).Draw(t, "copy")
					i := rapid.IntRange(0, 1).Draw(t, "stream")
					// Each stream's time stands still or goes on; the two may be out of order.
					clock[i] = clock[i].Add(time.Duration(rapid.SampledFrom([]int{0, 0, 1, 50}).Draw(t, "after")) * time.Millisecond)
					if other := clock[1-i]; other.Sub(clock[i]) > writerSkew/2 {
						clock[i] = other
					}
					text := strings.Repeat("x", rapid.SampledFrom([]int{0, 1, 40, 900}).Draw(t, "size"))
					if rapid.IntRange(0, 9).Draw(t, "binary") == 0 {
						text += "\xff"
					}
					e.print(c, clock[i], streamNames[i], fmt.Sprintf("%d %s", c.lines, text))
				}
			},
			"create": func(t *rapid.T) {
				if len(copies) >= 6 {
					t.Skip("enough copies")
				}
				create(t)
			},
			"start": func(t *rapid.T) {
				if ship != nil {
					t.Skip("it runs")
				}
				newShipper()
			},
			"kill": func(*rapid.T) { stop() },
			"close": func(*rapid.T) {
				if ship != nil {
					ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
					defer cancel()
					_ = ship.Close(ctx)
					ship = nil
				}
			},
			"lose answers": func(*rapid.T) {
				lost := func(*nats.Msg, *jetstream.PubAck, error) (*jetstream.PubAck, error) {
					return nil, errors.New("the answer is lost")
				}
				js.after.Store(&lost)
			},
			"get answers": func(*rapid.T) { js.after.Store(nil) },
			"break the log": func(t *rapid.T) {
				e.update(func() { e.failAfter = rapid.IntRange(5, 30).Draw(t, "after") })
			},
			"mend the log": func(*rapid.T) { e.update(func() { e.failAfter = 0 }) },
			// Not waiting for anything: it lets the next action meet another moment.
			"go on": func(t *rapid.T) {
				<-time.After(time.Duration(rapid.IntRange(0, 5).Draw(t, "ms")) * time.Millisecond)
			},
		})
		js.after.Store(nil)
		e.update(func() { e.failAfter = 0 })
		stop()
		newShipper()
		err := poll(func() error {
			for ordinal := range 2 {
				got, messages := b.shippedOf(w, ordinal)
				for _, c := range copies {
					if c.ordinal != ordinal {
						continue
					}
					if err := sameLines(got[c.id], e.printed(c)); err != nil {
						return fmt.Errorf("%s: %w", c.id, err)
					}
				}
				for _, m := range messages {
					if m.Gap != nil {
						return fmt.Errorf("a gap: %+v", m.Gap)
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
