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
	// tries counts the destroy commands published so far.
	tries int
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
	x.at[w.Identity().Key()] = expiry{w: w, seq: seq, at: at}
}

func (x *expiries) forget(w subjects.Workload) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.at, w.Identity().Key())
}

// postpone has an expiry looked at again later; published says that its destroy command
// is on its way, and that it is tried again should that fail. An expiry that was set
// anew or forgotten meanwhile stays as it is.
func (x *expiries) postpone(e expiry, now time.Time, published bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	key := e.w.Identity().Key()
	if x.at[key] != e {
		return
	}
	if published {
		e.tries++
		e.at = now.Add(expiryRetry)
	} else {
		e.at = now.Add(expiryWait)
	}
	x.at[key] = e
}

const (
	// expiryRetry is when a destroy that has not ended the workload is published again.
	expiryRetry = 5 * time.Minute
	// expiryWait is when it is looked again whether a newer deploy was carried out.
	expiryWait = 2 * time.Second
)

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
			try, cancel := context.WithTimeout(ctx, tryTimeout)
			published, err := w.publishExpiry(try, e)
			cancel()
			if err != nil && ctx.Err() == nil {
				w.log.Warn("end of TTL not published, trying again", "workload", e.w.ID(), "error", err)
			}
			w.expiries.postpone(e, w.serverNow(), published)
		}
	}
}

// publishExpiry publishes the destroy unless a newer deploy is in the stream already,
// whether or not it has arrived here: the server compares. A newer one that was carried
// out has a TTL of its own, or none; one that was not leaves this TTL in force.
func (w *Worker) publishExpiry(ctx context.Context, e expiry) (published bool, err error) {
	deploys, err := subjects.CommandsFilter(e.w.Backend, "", e.w.Namespace, e.w.Name, subjects.Deploy)
	if err != nil {
		return false, err
	}
	var last uint64
	raw, err := w.commands.GetLastMsgForSubject(ctx, deploys)
	switch {
	case err == nil:
		last = raw.Sequence
	case !errors.Is(err, jetstream.ErrMsgNotFound):
		return false, fmt.Errorf("look for newer deploys: %w", err)
	}
	if last > e.seq {
		newer, _ := w.door.open(ctx, arrival{subject: raw.Subject, header: raw.Header, data: raw.Data, seq: raw.Sequence, published: raw.Time})
		r, err := w.findAnswer(ctx, e.w, newer.id)
		if err != nil || r == nil || r.Outcome == subjects.Done {
			return false, err
		}
	}
	subject, err := subjects.Command(e.w, subjects.Destroy)
	if err != nil {
		return false, err
	}
	event, err := subjects.NewEvent(e.w.Source(), subjects.TypeDestroy, e.w.ID(), nil, nil)
	if err != nil {
		return false, err
	}
	event.SetID(fmt.Sprintf("ttl-%s-%s-%d-%d", e.w.Namespace, e.w.Name, e.seq, e.tries))
	msg, err := subjects.Encode(subject, event)
	if err != nil {
		return false, err
	}
	_, err = w.cfg.JS.PublishMsg(ctx, msg, jetstream.WithExpectLastSequenceForSubject(last, deploys))
	if isWrongLastSequence(err) {
		return false, nil // one came in between
	}
	return err == nil, err
}
