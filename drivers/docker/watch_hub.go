package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// The pauses between attempts to open the engine's event stream.
const (
	reopenFirst = 50 * time.Millisecond
	reopenMost  = 5 * time.Second
)

// eventHub reads the engine's events once for all who want to know: watchers, and
// everyone who follows logs. It reads only while somebody subscribes. The zero value is
// ready.
type eventHub struct {
	mu     sync.Mutex
	subs   map[*changeQueue]struct{}
	reader *hubReader
}

// hubReader is one run of the reading goroutine. connected is guarded by the hub's
// lock.
type hubReader struct {
	cancel    context.CancelFunc
	connected bool
}

// subscribe returns a queue of changes, the first of which is a resync once the event
// stream stands, and a function that ends the subscription.
func (h *eventHub) subscribe(d *Driver) (*changeQueue, func()) {
	q := newChangeQueue()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs == nil {
		h.subs = make(map[*changeQueue]struct{})
	}
	h.subs[q] = struct{}{}
	switch {
	case h.reader == nil:
		ctx, cancel := context.WithCancel(d.life)
		r := &hubReader{cancel: cancel}
		h.reader = r
		d.running.Add(1)
		go func() {
			defer d.running.Done()
			d.readEvents(ctx, r)
		}()
	case h.reader.connected:
		q.push(drivers.Change{Resync: true, At: time.Now().UTC()})
	}
	return q, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subs, q)
		if len(h.subs) == 0 && h.reader != nil {
			h.reader.cancel()
			h.reader = nil
		}
	}
}

// publish gives c to all subscribers of r; a reader that was replaced has none.
func (h *eventHub) publish(r *hubReader, c drivers.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reader != r {
		return
	}
	r.connected = r.connected || c.Resync
	for q := range h.subs {
		q.push(c)
	}
}

func (h *eventHub) disconnected(r *hubReader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.connected = false
}

// readEvents keeps an event stream open until ctx ends. Docker's streams do not
// reconnect by themselves.
func (d *Driver) readEvents(ctx context.Context, r *hubReader) {
	var t eventTranslator
	pause := reopenFirst
	for {
		opened, err := d.readEventStream(ctx, r, &t)
		d.events.disconnected(r)
		if ctx.Err() != nil {
			return
		}
		if opened {
			pause = reopenFirst
		}
		d.log.Debug("engine event stream ended", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, reopenMost)
	}
}

// readEventStream opens one stream and reads it to its end. opened says that it stood.
func (d *Driver) readEventStream(ctx context.Context, r *hubReader, t *eventTranslator) (opened bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The engine answers a little before it subscribes us to its events: what happens in
	// between is replayed because of since, by the engine's own clock.
	since := t.last
	if since.IsZero() {
		if since, err = d.engineTime(ctx); err != nil {
			return false, err
		}
	}
	messages, errs := d.cli.Events(ctx, events.ListOptions{
		Since: fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond()),
		Filters: filters.NewArgs(
			filters.Arg("type", string(events.ContainerEventType)),
			filters.Arg("label", drivers.LabelNode+"="+d.env.Node),
			filters.Arg("label", drivers.LabelWorkload),
			filters.Arg("event", string(events.ActionStart)), filters.Arg("event", string(events.ActionDie)),
			filters.Arg("event", string(events.ActionOOM)), filters.Arg("event", string(events.ActionHealthStatus)),
			filters.Arg("event", string(events.ActionDestroy)), filters.Arg("event", string(events.ActionPause)),
			filters.Arg("event", string(events.ActionUnPause)), filters.Arg("event", string(events.ActionUpdate)),
		),
	})
	select {
	case err := <-errs:
		return false, err
	default:
	}
	d.events.publish(r, drivers.Change{Resync: true, At: since})
	for {
		select {
		case m := <-messages:
			if c, ok := t.translate(m); ok {
				d.events.publish(r, c)
			}
		case err := <-errs:
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return true, err
		}
	}
}

// engineTime is the time of the engine's clock, which may differ from ours.
func (d *Driver) engineTime(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.CallTimeout)
	defer cancel()
	info, err := d.cli.Info(ctx)
	if err != nil {
		return time.Time{}, classify("read engine's time", err)
	}
	t, err := time.Parse(time.RFC3339Nano, info.SystemTime)
	if err != nil {
		return time.Time{}, fmt.Errorf("read engine's time: %w", err)
	}
	return t.UTC(), nil
}

// eventTranslator turns the engine's events into changes. It remembers how containers
// ended, because the engine reports an out-of-memory kill and the exit it causes as two
// events, in either order, and only one of them has the exit code.
type eventTranslator struct {
	// last is the engine's time of the newest event.
	last time.Time
	ooms map[string]bool
	exit map[string]int
}

func (t *eventTranslator) translate(m events.Message) (drivers.Change, bool) {
	at := time.Unix(0, m.TimeNano).UTC()
	if at.After(t.last) {
		t.last = at
	}
	if t.ooms == nil {
		t.ooms, t.exit = make(map[string]bool), make(map[string]int)
	}
	attrs := m.Actor.Attributes
	c := drivers.Change{WorkloadID: attrs[drivers.LabelWorkload], Kind: drivers.ChangeOther,
		Instance: ordinalOf(attrs), InstanceID: m.Actor.ID, At: at}
	if c.WorkloadID == "" || attrs[drivers.LabelRole] == drivers.RoleHook {
		return drivers.Change{}, false
	}
	id := m.Actor.ID
	switch action := string(m.Action); {
	case action == string(events.ActionStart):
		c.Kind = drivers.ChangeStarted
		delete(t.ooms, id)
		delete(t.exit, id)
	case action == string(events.ActionDie):
		c.Kind = drivers.ChangeExited
		c.ExitCode, _ = strconv.Atoi(attrs["exitCode"])
		if t.ooms[id] {
			c.Kind = drivers.ChangeOOMKilled
		}
		t.exit[id] = c.ExitCode
	case action == string(events.ActionOOM):
		t.ooms[id] = true
		// Without an exit it was a child that was killed, and the instance lives on.
		if code, ended := t.exit[id]; ended {
			c.Kind, c.ExitCode = drivers.ChangeOOMKilled, code
		}
	case action == string(events.ActionDestroy):
		c.Kind = drivers.ChangeRemoved
		delete(t.ooms, id)
		delete(t.exit, id)
	case strings.HasPrefix(action, string(events.ActionHealthStatus)):
		c.Kind = drivers.ChangeHealth
	}
	return c, true
}

// ordinalOf reads the instance's ordinal from a container's labels; -1 when there is
// none.
func ordinalOf(labels map[string]string) int {
	n, err := strconv.Atoi(labels[drivers.LabelInstance])
	if err != nil || n < 0 {
		return -1
	}
	return n
}
