package workers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// supersededError ends a command in favour of a newer one. It is the cause of the
// cancelled context, so that a driver cleans up what the attempt made.
type supersededError struct {
	// by is the newer command's sequence, 0 when not known.
	by uint64
}

func (e *supersededError) Error() string {
	if e.by == 0 {
		return "superseded by a newer command"
	}
	return fmt.Sprintf("superseded by command %d", e.by)
}

// Unwrap returns drivers.ErrStale.
func (e *supersededError) Unwrap() error { return drivers.ErrStale }

// errClaimLost: another worker took the claim. The command is not settled here; its
// new holder does that.
var errClaimLost = fmt.Errorf("claim taken over by another worker: %w", drivers.ErrStale)

// errTakenOver is the cause of a context that ends because the claim was lost. Unlike
// the fence's answer it does not match drivers.ErrStale: whoever holds the claim now
// may be carrying out this very command with what this attempt made, which therefore
// must be left alone.
var errTakenOver = errors.New("claim taken over by another worker")

// claims takes and keeps claims for one process.
type claims struct {
	store  recordStore
	holder string
	node   string
	lease  time.Duration
	// deadHolder says whether a holder of this node is known to be dead although its
	// lease has not run out: an earlier process whose engine lock we hold now.
	deadHolder func(backend string, c *claimData) bool
}

// claim is a claim held. All methods may be called concurrently.
type claim struct {
	claims *claims
	w      subjects.Workload
	seq    uint64
	epoch  uint64

	mu   sync.Mutex
	rec  record
	rev  uint64
	lost error
}

// request is a command that wants a claim.
type request struct {
	w    subjects.Workload
	id   string
	seq  uint64
	verb subjects.Verb
	// prepare is called on the record as it was found, before anything is written for
	// the command. It may change it, and may refuse by an error, which acquire returns.
	// It is called again when the record has changed meanwhile.
	prepare func(*record) error
	// idle waits between two tries.
	idle func(context.Context, *pause) error
}

// acquire claims the workload for a command. It waits while another live worker holds
// it, having raised the record's sequence so that the holder gives way.
//
// Errors: prepare's, *supersededError, errUnreadable, ctx's cause.
func (c *claims) acquire(ctx context.Context, r request) (*claim, error) {
	var seen observed
	for wait := newPause(5*time.Millisecond, 500*time.Millisecond); ; {
		rec, rev, err := c.store.get(ctx, r.w)
		if errors.Is(err, errUnreadable) {
			return nil, err
		}
		if err == nil {
			var held *claim
			held, err = c.try(ctx, r, rec, rev, &seen)
			if err == nil && held != nil {
				return held, nil
			}
			var final *refusedError
			if errors.As(err, &final) {
				return nil, final.err
			}
		}
		// A lost race, a live holder or a bus that does not answer: look again.
		if err := r.idle(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// refusedError carries out of the loop what trying again would not change.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }

func (c *claims) try(ctx context.Context, r request, rec record, rev uint64, seen *observed) (*claim, error) {
	held := rec.Claim
	live := held != nil && held.Holder != c.holder && !c.deadHolder(r.w.Backend, held) && !seen.expired(rev, held.Duration.D())
	if live && held.CommandID == r.id {
		return nil, nil // the same command, published twice: its result will be the answer
	}
	found := rec.SpecSeq
	if err := r.prepare(&rec); err != nil {
		return nil, &refusedError{err}
	}
	if by := supersededBy(rec, r.seq, r.verb); by != nil {
		return nil, &refusedError{by}
	}
	if r.verb != subjects.Restart {
		rec.SpecSeq, rec.Verb = r.seq, r.verb
	}
	if live {
		if r.verb == subjects.Restart || found >= r.seq {
			return nil, nil // it waits its turn
		}
		// Raise the bar, and nothing else: the holder finds out at its next renewal or
		// fence.
		next, err := c.store.put(ctx, r.w, rec, rev)
		if err == nil {
			seen.revised(next)
		}
		return nil, err
	}
	rec.Epoch++
	rec.Claim = &claimData{Holder: c.holder, Node: c.node, Epoch: rec.Epoch, Duration: drivers.Duration(c.lease), Sequence: r.seq, CommandID: r.id}
	next, err := c.store.put(ctx, r.w, rec, rev)
	if err != nil {
		return nil, err
	}
	return &claim{claims: c, w: r.w, seq: r.seq, epoch: rec.Epoch, rec: rec, rev: next}, nil
}

// supersededBy tells whether the record knows of something newer than the command.
func supersededBy(rec record, seq uint64, verb subjects.Verb) error {
	switch {
	case rec.SpecSeq > seq:
		return &supersededError{by: rec.SpecSeq}
	case verb == subjects.Restart && rec.OpSeq > seq:
		return &supersededError{by: rec.OpSeq}
	}
	return nil
}

// observed measures how long a record has stood unchanged, on this process's clock.
type observed struct {
	rev   uint64
	since time.Time
}

func (o *observed) expired(rev uint64, lease time.Duration) bool {
	if o.rev != rev || o.since.IsZero() {
		o.rev, o.since = rev, time.Now()
		return false
	}
	return time.Since(o.since) > lease
}

// revised notes a revision this process wrote itself: it says nothing about the
// holder, so the clock goes on.
func (o *observed) revised(rev uint64) {
	if !o.since.IsZero() {
		o.rev = rev
	}
}

// record returns a copy of the record as last written or read.
func (c *claim) record() record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec
}

// update writes the record while the claim is held. It retries while the bus does not
// answer, until ctx ends. Errors: *supersededError, errClaimLost, ctx's cause.
func (c *claim) update(ctx context.Context, change func(*record)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for wait := newPause(20*time.Millisecond, time.Second); ; {
		if c.lost != nil {
			return c.lost
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		rec := c.rec
		change(&rec)
		rec.Touch++
		next, err := c.claims.store.put(ctx, c.w, rec, c.rev)
		if err == nil {
			c.rec, c.rev = rec, next
			return nil
		}
		if errors.Is(err, errConflict) {
			if err = c.reload(ctx); err == nil {
				continue
			}
		}
		if c.lost != nil {
			return c.lost
		}
		if err := wait.sleep(ctx); err != nil {
			return err
		}
	}
}

// reload reads the record after a conflict: the write may have been our own, whose
// answer was lost, or somebody's who raised the bar or took over.
func (c *claim) reload(ctx context.Context) error {
	rec, rev, err := c.claims.store.get(ctx, c.w)
	if err != nil {
		return err
	}
	if rev <= c.rev {
		return errConflict // a replica that lags behind
	}
	switch {
	case rec.Claim == nil || rec.Claim.Holder != c.claims.holder || rec.Claim.Epoch != c.epoch:
		c.lost = errClaimLost
	case rec.SpecSeq > c.seq && rec.SpecSeq > c.rec.SpecSeq:
		c.lost = &supersededError{by: rec.SpecSeq}
	}
	c.rec, c.rev = rec, rev
	return c.lost
}

// fence proves that the claim is still held, by renewing it.
func (c *claim) fence(ctx context.Context) error {
	return c.update(ctx, func(*record) {})
}

// release ends the claim with a last change to the record. A claim that was lost is
// not ours to release; a superseded one is.
func (c *claim) release(ctx context.Context, change func(*record)) error {
	c.mu.Lock()
	var by *supersededError
	if errors.As(c.lost, &by) {
		c.lost = nil
	}
	c.mu.Unlock()
	for {
		err := c.update(ctx, func(rec *record) {
			change(rec)
			rec.Claim = nil
		})
		if !errors.As(err, &by) {
			return err
		}
		// The bar was raised between our read and our write: the claim still is ours.
		c.mu.Lock()
		c.lost = nil
		c.mu.Unlock()
	}
}

// keep renews the claim until ctx ends and calls lost, once, when it is gone.
func (c *claim) keep(ctx context.Context, lost func(error)) {
	ticker := time.NewTicker(c.claims.lease / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := c.fence(ctx)
		if err == nil || ctx.Err() != nil {
			continue
		}
		lost(err)
		return
	}
}

// pause is a wait that doubles.
type pause struct{ next, most time.Duration }

func newPause(first, most time.Duration) *pause { return &pause{next: first, most: most} }

// sleep waits, or returns the cause when ctx ends first.
func (p *pause) sleep(ctx context.Context) error {
	t := time.NewTimer(p.next)
	defer t.Stop()
	p.next = min(2*p.next, p.most)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
