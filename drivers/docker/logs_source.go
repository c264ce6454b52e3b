package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// logTarget is a container whose log is read.
type logTarget struct {
	id, workloadID string
	instance       int
	tty            bool
	rotation       rotation
	path           string
}

// logTarget inspects a container for what its log's reader must know.
func (d *Driver) logTarget(ctx context.Context, o object) (logTarget, container.InspectResponse, error) {
	c, err := d.inspect(ctx, o.id)
	if err != nil {
		return logTarget{}, c, containerError("inspect container "+o.id, err)
	}
	return logTarget{id: o.id, workloadID: o.workloadID, instance: o.ordinal,
		tty: c.Config.Tty, rotation: rotationOf(c), path: c.LogPath}, c, nil
}

// containerError is classify for calls about a container that may be gone, which here,
// other than in a deploy, is an answer and not a fault.
func containerError(op string, err error) error {
	if cerrdefs.IsNotFound(err) {
		return &drivers.Error{Class: drivers.ErrNotFound, Op: op, Err: plain(err)}
	}
	return classify(op, err)
}

// logQuery is what the engine is asked for. Bounds are inclusive at the engine.
type logQuery struct {
	since, until time.Time
	// tail counts pieces, not lines; 0 is all.
	tail   int
	follow bool
	// stream leaves out the other one.
	stream string
}

// logSource is an open log. Close it.
type logSource struct {
	pieces pieceReader
	body   io.Closer
	cancel context.CancelFunc

	joiner joiner
	queue  []line
	// read counts the pieces that were read; first is the time of the first.
	read  int
	first time.Time
}

// openLog asks the engine for a log.
func (d *Driver) openLog(ctx context.Context, t logTarget, q logQuery) (*logSource, error) {
	opts := container.LogsOptions{
		ShowStdout: q.stream != stderr.String(), ShowStderr: q.stream != stdout.String(),
		Timestamps: true, Follow: q.follow, Tail: "all",
		Since: engineSeconds(q.since), Until: engineSeconds(q.until),
	}
	if t.tty {
		opts.ShowStdout = true // a terminal has no other
	}
	if q.tail > 0 {
		opts.Tail = strconv.Itoa(q.tail)
	}
	ctx, cancel := context.WithCancel(ctx)
	body, err := d.cli.ContainerLogs(ctx, t.id, opts)
	if err != nil {
		cancel()
		return nil, containerError("read logs of container "+t.id, err)
	}
	s := &logSource{body: body, cancel: cancel}
	if t.tty {
		s.pieces = newTTYReader(body)
	} else {
		s.pieces = newFrameReader(body)
	}
	return s, nil
}

// engineSeconds writes a time as the API wants it, Unix seconds with a fraction; empty
// for none.
func engineSeconds(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond())
}

// close ends the request. A read that waits returns.
func (s *logSource) close() {
	s.cancel()
	s.body.Close() //nolint:errcheck // nothing was written
}

// next returns the next line, io.EOF at the end. Lines that are open then are kept: see
// rest.
func (s *logSource) next() (line, error) {
	for len(s.queue) == 0 {
		if err := s.fill(); err != nil {
			return line{}, err
		}
	}
	l := s.queue[0]
	s.queue = s.queue[1:]
	if len(s.queue) == 0 {
		s.queue = nil
	}
	return l, nil
}

// fill reads one piece.
func (s *logSource) fill() error {
	p, err := s.pieces.next()
	if err != nil {
		return err
	}
	if s.read++; s.read == 1 {
		s.first = p.time
	}
	s.queue = s.joiner.add(s.queue, p)
	return nil
}

// begin reads the first piece, if it was not read yet; the end is no error.
func (s *logSource) begin() error {
	if s.read > 0 {
		return nil
	}
	if err := s.fill(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// ready says whether next would return without waiting for the engine (or, for a long
// line, nearly so).
func (s *logSource) ready() bool { return len(s.queue) > 0 || s.pieces.ready() }

// rest returns the lines that were still open at the end.
func (s *logSource) rest() []line { return s.joiner.flush(nil) }

// wholeLog reads a log to its end, lines that are open then included: for readers who
// want what there is now.
type wholeLog struct {
	src  *logSource
	rest []line
	done bool
}

func (w *wholeLog) next() (line, error) {
	if !w.done {
		l, err := w.src.next()
		if !errors.Is(err, io.EOF) {
			return l, err
		}
		w.done, w.rest = true, w.src.rest()
	}
	if len(w.rest) == 0 {
		return line{}, io.EOF
	}
	l := w.rest[0]
	w.rest = w.rest[1:]
	return l, nil
}

// The number of pieces that are asked for when it is not known how many are needed, and
// what it grows by when it was too few.
const (
	tailFirst  = 64
	tailGrowth = 8
	// tailMost is where one asks for everything.
	tailMost = 1 << 20
)

// widen is the next larger number of pieces to ask for; 0 is all.
func widen(tail int) int {
	if tail == 0 || tail >= tailMost {
		return 0
	}
	return tail * tailGrowth
}

// openBefore opens a log so that everything from low on is in it, without making the
// engine read all of the log: it finds an end of it quickly, a time only by reading all
// that comes before. tail is a first guess. whole says that the beginning of the log is
// in it.
func (d *Driver) openBefore(ctx context.Context, t logTarget, low time.Time, tail int, follow bool) (src *logSource, whole bool, err error) {
	for ; ; tail = widen(tail) {
		src, err := d.openLog(ctx, t, logQuery{tail: tail, follow: follow})
		if err != nil {
			return nil, false, err
		}
		if tail == 0 {
			return src, true, nil
		}
		err = src.fill()
		switch {
		case errors.Is(err, io.EOF) && !follow:
			return src, true, nil
		case err != nil:
			src.close()
			return nil, false, err
		// A piece of the same time could be the second half of a line, or the second
		// line of that time.
		case src.first.Before(low):
			return src, false, nil
		}
		src.close()
	}
}

// selection is which lines of a log are wanted.
type selection struct {
	since, until time.Time
	stream       string
}

func (s selection) wants(l line) bool {
	return (s.stream == "" || s.stream == l.stream.String()) &&
		(s.since.IsZero() || !l.time.Before(s.since)) &&
		(s.until.IsZero() || l.time.Before(s.until))
}

// logLine is what the caller gets.
func (t logTarget) logLine(l line) drivers.LogLine {
	return drivers.LogLine{Time: l.time, Stream: l.stream.String(), Instance: t.instance, InstanceID: t.id, Line: l.text, Truncated: l.truncated}
}
