package telemetry

import (
	"fmt"
	"testing"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func TestLimiter(t *testing.T) {
	second := time.Unix(1_700_000_000, 0)
	type line struct {
		at   time.Duration
		size int
		want decision
	}
	tests := map[string]struct {
		lines, bytes int64
		in           []line
	}{
		"no quota":                 {0, 0, []line{{0, 1 << 30, admitted}, {0, 1 << 30, admitted}}},
		"lines":                    {2, 0, []line{{0, 1, admitted}, {1, 1, admitted}, {2, 1, dropped}, {time.Second, 1, admitted}}},
		"bytes":                    {0, 10, []line{{0, 6, admitted}, {0, 6, dropped}, {0, 1, dropped}, {0, 0, dropped}, {time.Second, 10, admitted}, {time.Second, 1, dropped}}},
		"larger than the quota":    {0, 10, []line{{0, 100, admitted}, {0, 1, dropped}, {time.Second, 1, admitted}}},
		"instances out of step":    {1, 0, []line{{5 * time.Second, 1, admitted}, {0, 1, admitted}, {5 * time.Second, 1, dropped}, {0, 1, dropped}}},
		"far behind the others":    {1, 0, []line{{time.Hour, 1, admitted}, {0, 1, admitted}, {0, 1, dropped}, {time.Hour, 1, dropped}}},
		"both":                     {2, 10, []line{{0, 9, admitted}, {0, 1, admitted}, {0, 0, dropped}}},
		"before 1970 is no reason": {1, 0, []line{{-60 * 365 * 24 * time.Hour, 1, admitted}, {-60 * 365 * 24 * time.Hour, 1, dropped}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLimiter(test.lines, test.bytes)
			for i, in := range test.in {
				if got := l.decide(second.Add(in.at), in.size); got != in.want {
					t.Errorf("line %d: %d, want %d", i, got, in.want)
				}
			}
		})
	}
}

func TestPartsOfALineShareOneDecision(t *testing.T) {
	b, e := startBus(t), newFakeEngine()
	c := e.create("aaa", 0)
	for i := range 3 { // each line comes in three parts
		for part := range 3 {
			e.printLine(c, drivers.LogLine{Time: start.Truncate(time.Second), Stream: "stdout",
				Line: []byte{byte('a' + i), byte('0' + part)}, Truncated: part < 2})
		}
	}
	b.shipper(ShipperConfig{LinesPerSecond: 2}).Track(web, e)
	eventually(t, func() error {
		copies, _ := b.shippedOf(web, 0)
		if err := sameLines(copies[c.id], []string{"stdout a0a1a2", "stdout b0b1b2"}); err != nil {
			return err
		}
		if lost := copies[c.id].lost; lost != 1 {
			return fmt.Errorf("%d lines lost, want 1", lost)
		}
		return nil
	})
}
