package telemetry

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// errDrained ends the reading of a workload that is gone and whose log does not end.
var errDrained = errors.New("drain timeout")

// statusReader is implemented by every RuntimeDriver. With it a follow knows which
// copies there are before it reads them, and need not read old lines to find out.
type statusReader interface {
	GetStatus(ctx context.Context, workloadID string) (*drivers.WorkloadStatus, error)
}

// follow reads the log of one workload, all instances, on one goroutine.
type follow struct {
	s *Shipper
	w subjects.Workload
	// after is closed when an earlier follow of the workload has ended.
	after <-chan struct{}
	// gone is closed when the workload is untracked, done when the follow has ended and
	// shipped everything.
	gone, done chan struct{}
	// wake holds one token: do not wait any longer to read again.
	wake chan struct{}
	// senders are the senders of all lanes; stored says that one of them was successful
	// since the log was last opened.
	senders sync.WaitGroup
	stored  atomic.Bool
	// Only the reading goroutine touches these: the quota; that the last reading came to
	// the end of the log; that it was ended while lines were waiting.
	limiter    *limiter
	clean, cut bool
	// since is where the reading in hand began; met are the copies that appeared in one
	// that did not begin at the beginning, and fromStart makes the next one do so.
	since     time.Time
	met       map[string]bool
	fromStart bool
	// refreshing: a look for new copies is under way.
	refreshing atomic.Bool

	mu     sync.Mutex
	reader drivers.LogReader
	lanes  map[int]*lane
	known  map[string]bool
	stop   context.CancelCauseFunc
	timer  *time.Timer
}

func (f *follow) run(ctx context.Context) {
	defer close(f.done)
	defer f.senders.Wait()
	if f.after != nil {
		select {
		case <-f.after:
		case <-ctx.Done():
			return
		}
	}
	pause := backoff{first: 250 * time.Millisecond, most: 30 * time.Second}
	for {
		f.stored.Store(false)
		err := f.read(ctx)
		if ctx.Err() != nil {
			if f.isGone() {
				f.finish(err)
			}
			return
		}
		ended := err == nil || errors.Is(err, drivers.ErrNotFound)
		if f.isGone() && (ended || errors.Is(err, errDrained)) {
			f.finish(err)
			return
		}
		if f.stored.Load() {
			pause.reset()
		}
		if !ended && !errors.Is(err, errReopen) && pause.firstTime() {
			f.s.cfg.Logger.Warn("log is read again after an error", "workload", f.w.String(), "error", err)
		}
		if !f.rest(ctx, pause.step()) {
			return
		}
	}
}

// rest waits before the log is read again. It says whether ctx is still alive.
func (f *follow) rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	gone := f.gone
	if f.isGone() {
		gone = nil // It is no news; an engine that fails is still not asked in a loop.
	}
	select {
	case <-timer.C:
	case <-f.wake:
	case <-gone:
	case <-ctx.Done():
		return false
	}
	return true
}

// read opens the log and reads it to its end.
func (f *follow) read(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f.mu.Lock()
	f.stop = cancel
	reader := f.reader
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.stop = nil
	}()
	if f.isDrained() {
		return errDrained
	}
	// What is read again is not charged again.
	f.limiter = newLimiter(f.s.cfg.LinesPerSecond, f.s.cfg.BytesPerSecond)
	f.cut = false
	since, err := f.open(ctx, reader)
	if err == nil {
		clean := f.clean
		err = reader.ReadLogs(ctx, f.w.ID(), &drivers.LogOptions{Follow: true, Since: since}, func(line drivers.LogLine) error {
			l, err := f.lane(ctx, line.Instance)
			if err != nil {
				return err
			}
			return l.add(ctx, line)
		})
		// That there is no log any more says nothing about how the last reading ended.
		f.clean = err == nil || clean && errors.Is(err, drivers.ErrNotFound)
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// open finds out where to read from.
func (f *follow) open(ctx context.Context, reader drivers.LogReader) (since time.Time, err error) {
	// Opening asks the engine and the bus; a worker that starts with thousands of
	// workloads must not ask for all of them at once.
	select {
	case f.s.opens <- struct{}{}:
		defer func() { <-f.s.opens }()
	case <-ctx.Done():
		return time.Time{}, context.Cause(ctx)
	}
	lanes := f.allLanes()
	for _, l := range lanes {
		if err := l.prepare(ctx); err != nil {
			return time.Time{}, err
		}
	}
	complete, first := true, true
	var listed map[string]bool
	if engine, ok := reader.(statusReader); ok {
		status, err := engine.GetStatus(ctx, f.w.ID())
		if err != nil {
			return time.Time{}, err
		}
		listed = make(map[string]bool, len(status.Instances))
		for _, i := range status.Instances {
			listed[i.ID] = true
			l, err := f.lane(ctx, i.Instance)
			if err != nil {
				return time.Time{}, err
			}
			var from time.Time
			if at := slices.IndexFunc(l.copies, func(c *copyState) bool { return c.id == i.ID }); at >= 0 {
				from = l.copies[at].since()
			}
			if from.IsZero() {
				complete = false
			}
			if first || from.Before(since) {
				since, first = from, false
			}
		}
		f.mu.Lock()
		f.known = listed
		f.mu.Unlock()
	}
	if !complete || first || f.fromStart {
		since = time.Time{}
	}
	f.since, f.fromStart = since, false
	for _, l := range f.allLanes() {
		if listed != nil {
			l.retire(listed)
		}
		l.rewind(since)
	}
	return since, nil
}

// maxMet bounds the memory of copies met; forgetting one costs another reading.
const maxMet = 64

// meet says whether the lines of a copy that nothing is known of can be taken. A reading
// from a given time may have left out its first lines, whose timestamps are earlier
// when the engine's clock was set back: then all is read once more, from the beginning.
func (f *follow) meet(id string) error {
	if f.since.IsZero() || f.met[id] {
		return nil
	}
	if f.met == nil || len(f.met) >= maxMet {
		f.met = make(map[string]bool)
	}
	f.met[id], f.fromStart = true, true
	signal(f.wake)
	return errReopen
}

// lane finds or makes the lane of an ordinal, ready to take lines.
func (f *follow) lane(ctx context.Context, ordinal int) (*lane, error) {
	f.mu.Lock()
	l := f.lanes[ordinal]
	f.mu.Unlock()
	if l != nil {
		return l, nil
	}
	l, err := newLane(f, ordinal)
	if err != nil {
		return nil, err
	}
	if err := l.prepare(ctx); err != nil {
		return nil, err
	}
	// Met in the middle of reading: then everything is read, see open.
	l.rewind(time.Time{})
	f.mu.Lock()
	f.lanes[ordinal] = l
	f.mu.Unlock()
	return l, nil
}

func (f *follow) allLanes() []*lane {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]*lane, 0, len(f.lanes))
	for _, l := range f.lanes {
		out = append(out, l)
	}
	return out
}

// reopen makes the log be read again from the cursors, after a pause unless now.
func (f *follow) reopen(now bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stop != nil {
		f.stop(errReopen)
	}
	if now || f.stop == nil {
		signal(f.wake)
	}
}

// refresh looks for copies that the reading in hand may not cover.
func (f *follow) refresh(ctx context.Context) {
	defer f.refreshing.Store(false)
	f.mu.Lock()
	reader, known := f.reader, f.known
	f.mu.Unlock()
	engine, ok := reader.(statusReader)
	if !ok {
		return
	}
	status, err := engine.GetStatus(ctx, f.w.ID())
	if err != nil {
		return // The reading in hand meets the same error and deals with it.
	}
	for _, i := range status.Instances {
		if !known[i.ID] {
			f.reopen(true)
			return
		}
	}
}

// untrack lets the follow read to the end of the log, for a bounded time.
func (f *follow) untrack() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.gone)
	f.timer = time.AfterFunc(f.s.cfg.DrainTimeout, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.timer = nil
		if f.stop != nil {
			f.stop(errDrained)
		}
	})
}

func (f *follow) isGone() bool {
	select {
	case <-f.gone:
		return true
	default:
		return false
	}
}

func (f *follow) isDrained() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.timer == nil && f.isGone()
}

// finish declares what of a workload that is gone could not be read. err is how the
// last reading ended.
func (f *follow) finish(err error) {
	f.mu.Lock()
	if f.timer != nil {
		f.timer.Stop()
	}
	f.mu.Unlock()
	incomplete := f.cut
	switch {
	case err == nil:
		incomplete = false
	case errors.Is(err, drivers.ErrNotFound), !errors.Is(err, errDrained):
		incomplete = !f.clean
	}
	for _, l := range f.allLanes() {
		l.declareRemoved(incomplete)
	}
}

// drain waits until a follow of a workload that is gone has ended, or ctx does: what it
// does not read now, no later shipper can.
func (f *follow) drain(ctx context.Context) {
	ends := []<-chan struct{}{f.after}
	if f.isGone() {
		ends = append(ends, f.done)
	}
	for _, end := range ends {
		if end == nil {
			continue
		}
		select {
		case <-end:
		case <-ctx.Done():
			return
		}
	}
}
