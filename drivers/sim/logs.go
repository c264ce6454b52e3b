package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// lastLogLines is how many lines a RolloutError carries.
const lastLogLines = 20

// StreamLogs implements drivers.RuntimeDriver.
func (d *Driver) StreamLogs(ctx context.Context, podID string, opts *drivers.LogOptions) (<-chan string, error) {
	o, r, err := d.openLogs(ctx, podID, opts)
	if err != nil {
		return nil, err
	}
	out := make(chan string)
	err = d.spawn(ctx, func(ctx context.Context) {
		defer close(out)
		// The channel's end is all a reader of StreamLogs learns, by contract.
		_ = r.read(ctx, func(l drivers.LogLine) error {
			text := string(l.Line)
			if o.Timestamps {
				text = l.Time.Format(time.RFC3339Nano) + " " + text
			}
			select {
			case out <- text:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ReadLogs implements drivers.LogReader.
func (d *Driver) ReadLogs(ctx context.Context, workloadID string, opts *drivers.LogOptions, fn func(drivers.LogLine) error) error {
	_, r, err := d.openLogs(ctx, workloadID, opts)
	if err != nil {
		return err
	}
	return r.read(ctx, fn)
}

func (d *Driver) openLogs(ctx context.Context, podID string, opts *drivers.LogOptions) (drivers.LogOptions, *logReader, error) {
	var o drivers.LogOptions
	if opts != nil {
		o = *opts
	}
	id, ordinal, err := drivers.ParseInstanceID(podID)
	if err != nil {
		return o, nil, err
	}
	if o.Stream != "" && o.Stream != "stdout" && o.Stream != "stderr" {
		return o, nil, &drivers.Error{Class: drivers.ErrInvalidSpec, Op: "read logs of " + podID,
			Err: fmt.Errorf("stream: want stdout or stderr, got %q", o.Stream)}
	}
	if o.Tail < 0 {
		return o, nil, &drivers.Error{Class: drivers.ErrInvalidSpec, Op: "read logs of " + podID,
			Err: fmt.Errorf("tail: must not be negative, got %d", o.Tail)}
	}
	if err := d.before(ctx, OpLogs, id); err != nil {
		return o, nil, err
	}
	r := &logReader{engine: d.engine, workload: id, node: d.env.Node, ordinal: ordinal, opts: o}
	if _, _, _ = r.refresh(); len(r.cursors) == 0 {
		return o, nil, notFound("read logs of", podID)
	}
	return o, r, nil
}

// logReader reads the lines of a workload's instances, merged by time.
type logReader struct {
	engine   *Engine
	workload string
	node     string
	ordinal  int
	opts     drivers.LogOptions
	cursors  []*logCursor
	seen     bool
}

// logCursor is a place in the lines of one container. Lines are not stored: the nth
// line of a life follows from the spec.
type logCursor struct {
	engine *Engine
	c      *container
	lives  []life
	first  int // number of the first of lives
	life   int // number of the life at hand
	line   int
	rest   []byte // of a line that was too long
	gone   bool
}

// refresh looks at the engine: containers that are new get a cursor, all get the lives
// up to now. It returns the time, a channel closed at the next change and whether
// every container is gone.
func (r *logReader) refresh() (now time.Time, changed <-chan struct{}, gone bool) {
	e := r.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	now, changed, gone = e.cfg.Clock.Now(), e.wait(r.workload), true
	for _, c := range e.byWorkload[r.workload] {
		if c.Node != r.node || c.Role != drivers.RoleInstance || (r.ordinal >= 0 && c.Instance != r.ordinal) {
			continue
		}
		if !slices.ContainsFunc(r.cursors, func(k *logCursor) bool { return k.c == c }) {
			r.cursors = append(r.cursors, &logCursor{engine: e, c: c, life: -1})
		}
	}
	for _, k := range r.cursors {
		k.lives, k.first, k.gone = slices.Clone(k.c.Lives), k.c.Dropped, k.c.removed
		if k.life < k.first {
			k.life, k.line = k.first, 0
			if !r.seen {
				k.seek(r.opts, now)
			}
		}
		gone = gone && k.gone
	}
	r.seen = true
	return now, changed, gone
}

func (r *logReader) read(ctx context.Context, fn func(drivers.LogLine) error) error {
	for {
		now, changed, gone := r.refresh()
		next, err := r.drain(ctx, now, fn)
		if errors.Is(err, errPastUntil) {
			return nil
		}
		if err != nil || !r.opts.Follow || gone {
			return err
		}
		if !r.opts.Until.IsZero() && !now.Before(r.opts.Until) {
			return nil
		}
		if !r.opts.Until.IsZero() && r.opts.Until.Before(next) {
			next = r.opts.Until
		}
		if err := r.pause(ctx, changed, next.Sub(now)); err != nil {
			return err
		}
	}
}

func (r *logReader) pause(ctx context.Context, changed <-chan struct{}, d time.Duration) error {
	due := make(chan struct{})
	stop := r.engine.cfg.Clock.AfterFunc(max(d, 0), func() { close(due) })
	defer stop()
	select {
	case <-changed:
	case <-due:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// errPastUntil ends a reader whose remaining lines are all too new.
var errPastUntil = errors.New("past until")

// drain hands out the lines up to now in order of time and returns when the next is
// due.
func (r *logReader) drain(ctx context.Context, now time.Time, fn func(drivers.LogLine) error) (time.Time, error) {
	horizon := now.Add(time.Hour)
	for {
		var best *logCursor
		var at time.Time
		for _, k := range r.cursors {
			if t, ok := k.time(); ok && (best == nil || t.Before(at)) {
				best, at = k, t
			}
		}
		if best == nil {
			return horizon, ctx.Err()
		}
		if at.After(now) {
			return at, nil
		}
		if err := ctx.Err(); err != nil {
			return at, context.Cause(ctx)
		}
		if !r.opts.Until.IsZero() && !at.Before(r.opts.Until) {
			return at, errPastUntil
		}
		line := best.take(at)
		if at.Before(r.opts.Since) || (r.opts.Stream != "" && line.Stream != r.opts.Stream) {
			continue
		}
		if err := fn(line); err != nil {
			return at, err
		}
	}
}

// lines is how many lines a life has up to a time.
func (k *logCursor) lines(l life, now time.Time) int {
	s := k.c.steer
	n := len(s.print)
	if l.Ended && l.End.Before(now) {
		now = l.End
	}
	if s.logRate > 0 {
		n += int(now.Sub(l.Start).Seconds() * s.logRate)
	}
	return n
}

// seek goes to where Tail and Since begin.
func (k *logCursor) seek(o drivers.LogOptions, now time.Time) {
	if o.Tail > 0 {
		left := o.Tail
		for i := len(k.lives) - 1; i >= 0 && left > 0; i-- {
			n := k.lines(k.lives[i], now)
			k.life, k.line = k.first+i, max(0, n-left)
			left -= min(left, n)
		}
	}
	rate := k.c.steer.logRate
	for !o.Since.IsZero() && rate > 0 {
		l, ok := k.at()
		if !ok || !l.Start.Before(o.Since) {
			return
		}
		if l.Ended && l.End.Before(o.Since) {
			k.life, k.line = k.life+1, 0
			continue
		}
		// One too early is skipped later; one too late would be lost.
		skip := len(k.c.steer.print) + int(math.Floor(o.Since.Sub(l.Start).Seconds()*rate)) - 2
		k.line = max(k.line, skip)
		return
	}
}

// at is the life at hand.
func (k *logCursor) at() (life, bool) {
	if i := k.life - k.first; i >= 0 && i < len(k.lives) {
		return k.lives[i], true
	}
	return life{}, false
}

// time is when the next line is printed; ok is false when there is none for now.
func (k *logCursor) time() (time.Time, bool) {
	for {
		l, ok := k.at()
		if !ok {
			return time.Time{}, false
		}
		s := k.c.steer
		if k.line < len(s.print) {
			// A nanosecond apart, so that their order shows.
			return l.Start.Add(time.Duration(k.line)), true
		}
		if s.logRate > 0 {
			n := float64(k.line - len(s.print) + 1)
			at := l.Start.Add(time.Duration(n / s.logRate * float64(time.Second)))
			if !l.Ended || !at.After(l.End) {
				return at, true
			}
		}
		if !l.Ended {
			return time.Time{}, false
		}
		k.life, k.line = k.life+1, 0
	}
}

// take returns the next line, or the next piece of one that is too long.
func (k *logCursor) take(at time.Time) drivers.LogLine {
	out := drivers.LogLine{Time: at.UTC(), Stream: "stdout", Instance: k.c.Instance, InstanceID: k.c.ID}
	text := k.rest
	if text == nil {
		text = k.text()
	}
	if k.c.steer.isError(k.line) && !k.c.Spec.TTY {
		out.Stream = "stderr"
	}
	if len(text) > drivers.MaxLogLine {
		out.Line, out.Truncated = text[:drivers.MaxLogLine], true
		k.rest = text[drivers.MaxLogLine:]
		return out
	}
	out.Line, k.rest = text, nil
	k.line++
	return out
}

func (s *steering) isError(line int) bool {
	return line < len(s.print) && strings.HasPrefix(s.print[line], "err:")
}

func (k *logCursor) text() []byte {
	s := &k.c.steer
	if k.line < len(s.print) {
		l, _ := k.at()
		return []byte(k.engine.expand(k.c, l, strings.TrimPrefix(s.print[k.line], "err:")))
	}
	b := fmt.Appendf(nil, "tick %d", k.line-len(s.print)+1)
	if pad := s.logBytes - len(b) - 1; pad > 0 {
		b = append(append(b, ' '), bytes.Repeat([]byte{'.'}, pad)...)
	}
	return b
}

// lastLogs are the last lines of a container, for a person to see why it failed, without
// the secrets it may have printed.
func (e *Engine) lastLogs(c *container) []string {
	e.mu.Lock()
	k := &logCursor{engine: e, c: c, lives: slices.Clone(c.Lives), first: c.Dropped}
	now := e.cfg.Clock.Now()
	e.mu.Unlock()
	var secrets [][]byte
	for _, v := range c.secrets {
		secrets = append(secrets, []byte(v))
	}
	k.life = k.first
	k.seek(drivers.LogOptions{Tail: lastLogLines}, now)
	var out []string
	for {
		at, ok := k.time()
		if !ok || at.After(now) || len(out) == lastLogLines {
			return out
		}
		out = append(out, drivers.Redact(string(k.take(at).Line), secrets...))
	}
}
