package telemetry

import (
	"context"
	"sync"
)

// crew starts goroutines that live until stop, and adds them to a group that their owner
// waits for.
type crew struct {
	start func(func(context.Context))
	stop  context.CancelFunc
}

func newCrew(work *sync.WaitGroup) crew {
	ctx, stop := context.WithCancel(context.Background())
	return crew{stop: stop, start: func(f func(context.Context)) {
		work.Go(func() { f(ctx) })
	}}
}
