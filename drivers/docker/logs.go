package docker

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

var _ drivers.LogReader = (*Driver)(nil)

// The bounds of the last lines that are kept as evidence.
const (
	evidenceBytes   = 4 << 10
	evidenceTimeout = 5 * time.Second
)

// StreamLogs implements drivers.RuntimeDriver. An error after the first line closes the
// channel: who must know of it uses ReadLogs.
func (d *Driver) StreamLogs(ctx context.Context, podID string, opts *drivers.LogOptions) (<-chan string, error) {
	if opts == nil {
		opts = &drivers.LogOptions{}
	}
	r, err := d.prepareLogs(ctx, podID, opts)
	if err != nil {
		return nil, err
	}
	lines := make(chan string)
	d.running.Add(1)
	go func() {
		defer d.running.Done()
		defer close(lines)
		err := r.run(ctx, func(l drivers.LogLine) error {
			text := string(l.Line)
			if opts.Timestamps {
				text = l.Time.Format(time.RFC3339Nano) + " " + text
			}
			select {
			case lines <- text:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			case <-d.life.Done():
				return errDriverClosed
			}
		})
		if err != nil {
			d.log.Debug("log stream ended", "workload", podID, "error", err)
		}
	}()
	return lines, nil
}

// ReadLogs implements drivers.LogReader. A line's bytes belong to fn. Lines come in
// order of their times per instance, and without Follow over all instances; only a line
// that took longer than 25 ms to print (because it is longer than 16 KiB) comes when it
// is complete, with the time at which it began.
//
// With Follow it returns nil when the last instance has been removed and none has come
// in its place for some seconds.
func (d *Driver) ReadLogs(ctx context.Context, workloadID string, opts *drivers.LogOptions, fn func(drivers.LogLine) error) error {
	if opts == nil {
		opts = &drivers.LogOptions{}
	}
	r, err := d.prepareLogs(ctx, workloadID, opts)
	if err != nil {
		return err
	}
	return r.run(ctx, fn)
}

// logReading is one call of ReadLogs.
type logReading struct {
	d          *Driver
	workloadID string
	// ordinal is -1 for all instances.
	ordinal   int
	opts      drivers.LogOptions
	selection selection
	found     []object
}

// prepareLogs finds what there is to read.
func (d *Driver) prepareLogs(ctx context.Context, id string, opts *drivers.LogOptions) (*logReading, error) {
	workloadID, ordinal, err := drivers.ParseInstanceID(id)
	if err != nil {
		return nil, err
	}
	if err := checkLogOptions(opts); err != nil {
		return nil, err
	}
	r := &logReading{d: d, workloadID: workloadID, ordinal: ordinal, opts: *opts,
		selection: selection{since: opts.Since, until: opts.Until, stream: opts.Stream}}
	if r.found, err = r.list(ctx); err != nil {
		return nil, err
	}
	if len(r.found) == 0 {
		return nil, &drivers.Error{Class: drivers.ErrNotFound, Op: "read logs of " + id}
	}
	return r, nil
}

func checkLogOptions(opts *drivers.LogOptions) error {
	faults := &drivers.FieldErrors{Class: drivers.ErrInvalidSpec}
	if opts.Tail < 0 {
		faults.Add("tail", "want a number of lines, got %d", opts.Tail)
	}
	if opts.Stream != "" && opts.Stream != stdout.String() && opts.Stream != stderr.String() {
		faults.Add("stream", "want stdout or stderr, got %q", opts.Stream)
	}
	if !opts.Since.IsZero() && !opts.Until.IsZero() && opts.Until.Before(opts.Since) {
		faults.Add("until", "is before since")
	}
	return faults.ErrOrNil()
}

// list finds the containers of the instances that are read.
func (r *logReading) list(ctx context.Context) ([]object, error) {
	all, err := r.d.observe(ctx, r.workloadID)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(instances(all), func(o object) bool {
		return r.ordinal >= 0 && o.ordinal != r.ordinal
	}), nil
}

// run reads until the end.
func (r *logReading) run(ctx context.Context, fn func(drivers.LogLine) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The driver's end is the reading's end too.
	defer context.AfterFunc(r.d.life, func() {
		cancel(&drivers.Error{Class: drivers.ErrUnavailable, Op: "read logs of " + r.workloadID, Err: errDriverClosed})
	})()
	var err error
	if r.opts.Follow && (r.opts.Until.IsZero() || time.Now().Before(r.opts.Until)) {
		err = r.follow(ctx, cancel, fn)
	} else {
		err = r.readNow(ctx, fn)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// readNow reads what there is, in order of time over all instances.
func (r *logReading) readNow(ctx context.Context, fn func(drivers.LogLine) error) error {
	var targets []logTarget
	var starts []logStart
	var logs []lineSource
	for _, o := range r.found {
		t, start, src, err := r.openNow(ctx, o)
		if errors.Is(err, drivers.ErrNotFound) || errors.Is(err, drivers.ErrConflict) {
			continue // removed, or about to be, since it was listed
		}
		if err != nil {
			return err
		}
		defer src.close()
		targets, starts = append(targets, t), append(starts, start)
		logs = append(logs, &ordered{src: &wholeLog{src: src}})
	}
	m, err := newMerge(logs)
	if err != nil {
		return r.readError(err)
	}
	for {
		l, i, err := m.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return r.readError(err)
		}
		if !r.selection.wants(l) || !starts[i].read.after(l) {
			continue
		}
		if err := fn(targets[i].logLine(l)); err != nil {
			return err
		}
	}
}

// openNow opens the log of one instance where the selection begins.
func (r *logReading) openNow(ctx context.Context, o object) (logTarget, logStart, *logSource, error) {
	t, _, err := r.d.logTarget(ctx, o)
	if err != nil {
		return t, logStart{}, nil, err
	}
	var start logStart
	if r.opts.Tail > 0 {
		if start, err = r.d.tailStart(ctx, t, r.selection, r.opts.Tail); err != nil {
			return t, start, nil, err
		}
	}
	if start.low.IsZero() {
		src, err := r.d.openLog(ctx, t, logQuery{since: r.opts.Since, until: r.opts.Until, stream: r.opts.Stream})
		return t, start, src, err
	}
	src, _, err := r.d.openBefore(ctx, t, start.low, start.tail, false)
	return t, start, src, err
}

func (r *logReading) readError(err error) error {
	return classify("read logs of "+r.workloadID, err)
}

// lastLogs returns the last lines of a container, at most n and 4 KiB, as evidence of
// why it ended. What cannot be read is left out: evidence must not hide the fault that
// it is about.
func (d *Driver) lastLogs(ctx context.Context, containerID string, n int) []string {
	ctx, cancel := context.WithTimeout(ctx, evidenceTimeout)
	defer cancel()
	t, _, err := d.logTarget(ctx, object{id: containerID, ordinal: hook})
	if err != nil {
		return nil
	}
	// Enough for lines that the engine split into a few pieces; of longer ones, less than
	// the first few KiB would be shown anyway.
	src, err := d.openLog(ctx, t, logQuery{tail: 4*n + tailFirst})
	if err != nil {
		return nil
	}
	defer src.close()
	var last []string
	lines := &ordered{src: &wholeLog{src: src}}
	for {
		l, err := lines.next()
		if err != nil {
			break
		}
		if len(l.text) > evidenceBytes {
			l.text = l.text[:evidenceBytes]
		}
		last = append(last, strings.ToValidUTF8(string(l.text), "\uFFFD"))
		if len(last) > n {
			last = last[1:]
		}
	}
	size := 0
	for i := len(last) - 1; i >= 0; i-- {
		if size += len(last[i]); size > evidenceBytes {
			if keep := len(last[i]) - (size - evidenceBytes); keep > 0 {
				last[i] = strings.ToValidUTF8(last[i][:keep], "")
				return slices.Clone(last[i:])
			}
			return slices.Clone(last[i+1:])
		}
	}
	return slices.Clone(last)
}
