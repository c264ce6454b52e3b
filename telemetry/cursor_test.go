package telemetry

import (
	"testing"
	"time"
)

func TestCopySince(t *testing.T) {
	at := func(d time.Duration) cursor { return cursor{start.Add(d), 1} }
	tests := map[string]struct {
		out, err cursor
		want     time.Time
	}{
		"nothing read":    {cursor{}, cursor{}, time.Time{}},
		"one stream":      {at(time.Hour), cursor{}, start.Add(time.Hour - writerSkew)},
		"one quiet":       {at(time.Hour), at(0), start.Add(time.Hour - writerSkew)},
		"both at once":    {at(time.Hour), at(time.Hour - time.Millisecond), start.Add(time.Hour - time.Millisecond)},
		"the same moment": {at(time.Hour), at(time.Hour), start.Add(time.Hour)},
	}
	for name, test := range tests {
		c := copyState{read: [2]cursor{test.out, test.err}}
		if got := c.since(); !got.Equal(test.want) {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
