package workers

import (
	"context"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// pool is a backend with its slots.
type pool struct {
	name   string
	driver drivers.RuntimeDriver
	// hostLocal says that the engine's state belongs to one host, so that a workload
	// has an owner.
	hostLocal bool
	slots     chan struct{}
}

func newPool(b Backend) *pool {
	_, local := b.Driver.(drivers.Identifier)
	return &pool{name: b.Name, driver: b.Driver, hostLocal: local, slots: make(chan struct{}, b.Concurrency)}
}

// enter waits for a slot. Errors: ctx's cause.
func (p *pool) enter(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leave gives a slot back. At the end of a drain a task may have none to give.
func (p *pool) leave() {
	select {
	case <-p.slots:
	default:
	}
}
