package workers

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// outbox publishes what a worker has to say, in order per workload, and does not give
// up while the bus is away: what is queued waits. Workloads share a fixed number of
// shards, so that one fsync does not make all wait for each other.
type outbox struct {
	js     jetstream.JetStream
	status jetstream.KeyValue
	log    *slog.Logger
	seed   maphash.Seed
	shards []chan item
	ctx    context.Context // ends the retries at the end of a drain
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

// item is one thing to do on the bus; it is repeated until it succeeds, so it must be
// idempotent.
type item struct {
	what string
	do   func(context.Context) error
}

const (
	outboxShards = 16
	outboxDepth  = 256
)

func newOutbox(js jetstream.JetStream, status jetstream.KeyValue, log *slog.Logger) *outbox {
	o := &outbox{js: js, status: status, log: log, seed: maphash.MakeSeed(), shards: make([]chan item, outboxShards)}
	o.ctx, o.stop = context.WithCancel(context.Background())
	for i := range o.shards {
		o.shards[i] = make(chan item, outboxDepth)
		o.wg.Go(func() { o.drain(o.shards[i]) })
	}
	return o
}

func (o *outbox) shard(w subjects.Workload) chan item {
	return o.shards[maphash.String(o.seed, w.Identity().Key())%outboxShards]
}

func (o *outbox) drain(items chan item) {
	for it := range items {
		var refusedSince time.Time
		for wait := newPause(50*time.Millisecond, 2*time.Second); ; {
			ctx, cancel := context.WithTimeout(o.ctx, requestTimeout)
			err := it.do(ctx)
			cancel()
			if err == nil {
				break
			}
			if isRefused(err) && refusedSince.IsZero() {
				refusedSince = time.Now()
			}
			if isPermanent(err) || isRefused(err) && time.Since(refusedSince) > refusedFor {
				o.log.Error("cannot be published", "what", it.what, "error", err)
				break
			}
			if o.ctx.Err() != nil {
				o.log.Error("not published before the end", "what", it.what, "error", err)
				break
			}
			o.log.Warn("publishing again", "what", it.what, "error", err)
			if wait.sleep(o.ctx) != nil {
				continue // one last try, with a context that has ended, names the loss
			}
		}
	}
}

// put queues an item, waiting for room. Errors: ctx's cause.
func (o *outbox) put(ctx context.Context, w subjects.Workload, it item) error {
	select {
	case o.shard(w) <- it:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// offer queues an item unless there is no room: for what a later one replaces.
func (o *outbox) offer(w subjects.Workload, it item) {
	select {
	case o.shard(w) <- it:
	default:
	}
}

// flush waits until everything queued for the workload so far is on the bus.
func (o *outbox) flush(ctx context.Context, w subjects.Workload) error {
	done := make(chan struct{})
	mark := item{what: "flush", do: func(context.Context) error { close(done); return nil }}
	if err := o.put(ctx, w, mark); err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// close publishes what is queued, until ctx ends at the latest. Nothing may be put any
// more.
func (o *outbox) close(ctx context.Context) {
	for _, s := range o.shards {
		close(s)
	}
	done := make(chan struct{})
	go func() { o.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
	o.stop()
	<-done
}

// origin is what caused an event.
type origin struct {
	command *command
	attempt int
}

// eventItem makes the publication of a workload event.
func (o *outbox) eventItem(w subjects.Workload, data subjects.WorkloadEvent, from origin) (item, error) {
	subject, err := subjects.Event(w, data.Phase)
	if err != nil {
		return item{}, err
	}
	data.Attempt, data.Message = from.attempt, truncate(data.Message, maxTextBytes)
	msg, err := message(subject, w, subjects.WorkloadType(data.Phase), data, from.command)
	if err != nil {
		return item{}, err
	}
	return item{what: subject, do: func(ctx context.Context) error {
		_, err := o.js.PublishMsg(ctx, msg)
		return err
	}}, nil
}

// message encodes an event about a workload, with what it owes to a command.
func message(subject string, w subjects.Workload, typ string, data any, cmd *command) (*nats.Msg, error) {
	ext := map[string]string{}
	if cmd != nil {
		ext[subjects.ExtCommandID] = cmd.id
		ext[subjects.ExtSequence] = subjects.PadSequence(cmd.seq)
		for _, name := range []string{subjects.ExtTraceParent, subjects.ExtTraceState} {
			if v := extension(cmd.event, name); v != "" {
				ext[name] = v
			}
		}
	}
	e, err := subjects.NewEvent(w.Source(), typ, w.ID(), data, ext)
	if err != nil {
		return nil, fmt.Errorf("make event %s: %w", typ, err)
	}
	msg, err := subjects.Encode(subject, e)
	if err != nil {
		return nil, fmt.Errorf("encode event %s: %w", typ, err)
	}
	return msg, nil
}

// statusItem makes the publication of a workload's latest status.
func (o *outbox) statusItem(w subjects.Workload, status *drivers.WorkloadStatus) item {
	return item{what: "status of " + w.String(), do: func(ctx context.Context) error {
		_, err := o.status.Put(ctx, w.Key(), fitStatus(status))
		return err
	}}
}

// goneItem removes a workload's status.
func (o *outbox) goneItem(w subjects.Workload) item {
	return item{what: "end of status of " + w.String(), do: func(ctx context.Context) error {
		return o.status.Delete(ctx, w.Key())
	}}
}
