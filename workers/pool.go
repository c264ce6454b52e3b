package workers

import (
	"context"
	"errors"
	"fmt"
	"time"

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

const (
	// statusTimeout and listTimeout bound reading one workload's state, or all.
	statusTimeout = 30 * time.Second
	listTimeout   = 2 * time.Minute
	pingTimeout   = 5 * time.Second
)

// status reads a workload's state. A driver that hangs or panics is one that failed: it
// must take down neither the worker nor what it observes of other workloads.
func (p *pool) status(ctx context.Context, id string) (*drivers.WorkloadStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	status, err := guarded(p.name, func() (*drivers.WorkloadStatus, error) { return p.driver.GetStatus(ctx, id) })
	if err == nil && status == nil {
		return nil, fmt.Errorf("driver %s returned no status of %s", p.name, id)
	}
	return status, err
}

// answers says whether the engine is there now.
func (p *pool) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	_, err := guarded(p.name, func() (struct{}, error) { return struct{}{}, p.driver.Ping(ctx) })
	return err == nil
}

// list reads the state of all workloads, with the same care.
func (p *pool) list(ctx context.Context) ([]*drivers.WorkloadStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	return guarded(p.name, func() ([]*drivers.WorkloadStatus, error) { return p.driver.ListWorkloads(ctx, "") })
}

// errPanicked is matched by the error a driver's panic becomes.
var errPanicked = errors.New("driver panicked")

// guarded makes an error of a driver's panic.
func guarded[T any](name string, call func() (T, error)) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: %w: %v", name, errPanicked, p)
		}
	}()
	return call()
}

// slot is a command's right to work on the engine. It belongs to one goroutine.
type slot struct {
	pool *pool
	held bool
}

// enter waits for a slot. Errors: ctx's cause.
func (s *slot) enter(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	select {
	case s.pool.slots <- struct{}{}:
		s.held = true
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leave gives the slot back, if it is held.
func (s *slot) leave() {
	if s.held {
		s.held = false
		<-s.pool.slots
	}
}

// idle waits without the slot, which others may use meanwhile. After an error it is not
// held. Errors: ctx's cause.
func (s *slot) idle(ctx context.Context, wait *pause) error {
	s.leave()
	if err := wait.sleep(ctx); err != nil {
		return err
	}
	return s.enter(ctx)
}
