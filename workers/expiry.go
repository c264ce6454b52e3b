package workers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/subjects"
)

// expiries ends workloads whose TTL has passed. The end is an ordinary destroy command
// with an id of its own per deploy, so that it takes its place in the order, happens
// once, and is in the history like any other.
type expiries struct {
	mu sync.Mutex
	at map[string]expiry
}

type expiry struct {
	w   subjects.Workload
	seq uint64
	at  time.Time
}

func newExpiries() *expiries { return &expiries{at: make(map[string]expiry)} }

// set notes when, by the server's clock, what the deploy seq made ends; the zero time is
// never.
func (x *expiries) set(w subjects.Workload, seq uint64, at time.Time) {
	if at.IsZero() {
		x.forget(w)
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.at[w.Identity().Key()] = expiry{w, seq, at}
}

func (x *expiries) forget(w subjects.Workload) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.at, w.Identity().Key())
}

// due returns what has ended by now.
func (x *expiries) due(now time.Time) []expiry {
	x.mu.Lock()
	defer x.mu.Unlock()
	var due []expiry
	for _, e := range x.at {
		if !e.at.After(now) {
			due = append(due, e)
		}
	}
	return due
}

// expire publishes the destroy commands of ended workloads until ctx ends.
func (w *Worker) expire(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, e := range w.expiries.due(w.serverNow()) {
			if err := w.publishExpiry(ctx, e); err != nil {
				w.log.Warn("end of TTL not published, trying again", "workload", e.w.ID(), "error", err)
				continue
			}
			w.expiries.forget(e.w)
		}
	}
}

// publishExpiry publishes the destroy unless a newer deploy is in the stream already,
// whether or not it has arrived here: the server compares.
func (w *Worker) publishExpiry(ctx context.Context, e expiry) error {
	deploys, err := subjects.CommandsFilter("", "", e.w.Namespace, e.w.Name, subjects.Deploy)
	if err != nil {
		return err
	}
	var last uint64
	switch msg, err := w.commands.GetLastMsgForSubject(ctx, deploys); {
	case err == nil:
		last = msg.Sequence
	case !errors.Is(err, jetstream.ErrMsgNotFound):
		return fmt.Errorf("look for newer deploys: %w", err)
	}
	if last > e.seq {
		return nil // that one decides how long the workload lives
	}
	subject, err := subjects.Command(e.w, subjects.Destroy)
	if err != nil {
		return err
	}
	event, err := subjects.NewEvent(e.w.Source(), subjects.TypeDestroy, e.w.ID(), nil, nil)
	if err != nil {
		return err
	}
	event.SetID(fmt.Sprintf("ttl-%s-%s-%d", e.w.Namespace, e.w.Name, e.seq))
	msg, err := subjects.Encode(subject, event)
	if err != nil {
		return err
	}
	_, err = w.cfg.JS.PublishMsg(ctx, msg, jetstream.WithExpectLastSequenceForSubject(last, deploys))
	if isWrongLastSequence(err) {
		return nil
	}
	return err
}
