package workers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// Worker carries out the commands of its pools.
type Worker struct {
	cfg       Config
	log       *slog.Logger
	pools     map[string]*pool
	observers map[string]*observer
	door      *door
	lanes     *lanes
	claims    *claims
	records   recordStore
	outbox    *outbox
	expiries  *expiries
	commands  jetstream.Stream
	nodes     jetstream.KeyValue

	// working is the parent of all tasks; it ends, with errShutdown, when a drain has
	// waited long enough. settling outlives it by the time results need.
	working     context.Context
	stopWorking context.CancelCauseFunc
	settling    context.Context
	stopSettle  context.CancelFunc

	// offset is the server's clock less ours, in nanoseconds.
	offset atomic.Int64
	locks  engineLocks
}

// New makes a worker; Run starts it. Errors: every fault of the configuration.
func New(cfg Config) (*Worker, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	schemas, err := newSchemas()
	if err != nil {
		return nil, err
	}
	w := &Worker{
		cfg: cfg, log: cfg.Logger, pools: make(map[string]*pool), observers: make(map[string]*observer), expiries: newExpiries(),
	}
	for _, b := range cfg.Backends {
		w.pools[b.Name] = newPool(b)
	}
	w.door = &door{
		node: cfg.Node, defaultBackend: cfg.DefaultBackend, backends: w.pools, deadline: cfg.Deadline, policy: cfg.Policy, schemas: schemas,
	}
	w.lanes = newLanes(w.carryOut, func(t *task, by uint64) {
		w.settle(t, nil, ending{
			outcome: subjects.Superseded, reason: "Superseded", err: &supersededError{by: by}, started: w.serverNow(),
		})
	})
	w.working, w.stopWorking = context.WithCancelCause(context.Background())
	w.settling, w.stopSettle = context.WithCancel(context.Background())
	return w, nil
}

// Run works until ctx ends, then drains: nothing more is pulled, commands that have
// not begun are given back at once, running ones have DrainTimeout to end, and what is
// still running then is left half made for the next worker to adopt. A Worker runs
// once.
//
// Errors: streams or buckets that are missing or older than the records, an engine
// that another node serves. Bus and engine going away later is waited out.
func (w *Worker) Run(ctx context.Context) error {
	defer w.locks.release()
	mine, err := w.open(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil // asked to end while starting
		}
		return err
	}
	// Two lives: what takes work in ends first, what reports goes on until the work
	// that was taken in has ended.
	var taking, reporting sync.WaitGroup
	running, stop := context.WithCancel(ctx)
	defer stop()
	observing, stopObserving := context.WithCancel(context.WithoutCancel(ctx))
	defer stopObserving()
	failed := make(chan error, len(w.pools))
	for _, p := range w.pools {
		taking.Go(func() {
			if err := w.lockEngine(running, p); err != nil {
				if running.Err() == nil {
					failed <- err
				}
				return
			}
			reporting.Go(func() { w.observers[p.name].run(observing) })
			w.serve(running, p, mine[p.name], &taking)
		})
	}
	if w.cfg.RejectUnserved {
		cfg := subjects.UnservedConsumer(w.cfg.Node, w.consumerOptions())
		taking.Go(func() { w.intake(running, subjects.StreamCommands, cfg, w.receiveUnserved) })
	}
	taking.Go(func() { w.expire(running) })
	reporting.Go(func() { w.keepAlive(observing) })
	reporting.Go(func() { w.followClock(observing) })

	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stop()
	taking.Wait()
	w.drain()
	stopObserving()
	reporting.Wait()
	closing, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	w.outbox.close(closing)
	return err
}

// open finds streams and buckets, checks them against the records, and returns what
// this node was working on when it last ended, by backend.
func (w *Worker) open(ctx context.Context) (map[string][]uint64, error) {
	js := w.cfg.JS
	var err error
	if w.commands, err = js.Stream(ctx, subjects.StreamCommands); err != nil {
		return nil, fmt.Errorf("open stream %s: %w", subjects.StreamCommands, err)
	}
	buckets := map[string]jetstream.KeyValue{}
	for _, name := range []string{subjects.BucketWorkloads, subjects.BucketStatus, subjects.BucketNodes} {
		if buckets[name], err = js.KeyValue(ctx, name); err != nil {
			return nil, fmt.Errorf("open bucket %s: %w", name, err)
		}
	}
	w.nodes = buckets[subjects.BucketNodes]
	w.records = kvRecords{buckets[subjects.BucketWorkloads]}
	w.claims = &claims{
		store: w.records, holder: w.cfg.Node + "/" + nuid.Next(), node: w.cfg.Node, lease: w.cfg.Lease,
		// An earlier process of this node is dead: the engine's lock is ours.
		deadHolder: func(backend string, c *claimData) bool { return c.Node == w.cfg.Node && w.pools[backend].hostLocal },
	}
	w.outbox = newOutbox(js, buckets[subjects.BucketStatus], w.log)
	for name, p := range w.pools {
		w.observers[name] = &observer{
			backend: name, node: w.cfg.Node, pool: p, outbox: w.outbox, status: buckets[subjects.BucketStatus], records: w.records,
			logs: w.cfg.Logs, metrics: w.cfg.Metrics, count: w.cfg.Counters, log: w.log, busy: w.lanes.busy,
			seen: make(map[string]*seen), dirty: make(map[string]bool), looking: make(map[string]bool), again: make(map[string]bool), waited: make(map[string]bool), wake: make(chan struct{}, 1),
		}
	}
	mine := make(map[string][]uint64)
	var highest uint64
	err = w.records.each(ctx, func(key string, rec record, err error) {
		if err != nil {
			w.log.Error("record passed over", "key", key, "error", err)
			return
		}
		highest = max(highest, rec.SpecSeq, rec.OpSeq)
		on, err := subjects.ParseKey(key)
		if err != nil {
			return
		}
		if rec.Claim != nil && rec.Claim.Node == w.cfg.Node {
			mine[on.Backend] = append(mine[on.Backend], rec.Claim.Sequence)
		}
		if p := w.pools[on.Backend]; !rec.ExpiresAt.IsZero() && p != nil && (rec.Owner == w.cfg.Node || !p.hostLocal) {
			w.expiries.set(on.On(w.cfg.Node), rec.GoodSeq, rec.ExpiresAt)
		}
	})
	if err != nil {
		w.outbox.close(ctx)
		return nil, err
	}
	info, err := w.commands.Info(ctx)
	if err == nil && info.State.LastSeq < highest {
		err = fmt.Errorf("stream %s ends at sequence %d, but records in %s know of %d: the stream was lost or replaced, and new commands "+
			"would count as old; recreate it with first sequence (FirstSeq) %d, or delete the bucket if nothing it describes runs any more",
			subjects.StreamCommands, info.State.LastSeq, subjects.BucketWorkloads, highest, highest+1)
	}
	if err == nil {
		err = w.readClock(ctx)
	}
	if err != nil {
		w.outbox.close(ctx)
		return nil, fmt.Errorf("start worker: %w", err)
	}
	return mine, nil
}

// serve takes up what was interrupted and has the pool's commands pulled. The engine is
// known and ours by then.
func (w *Worker) serve(ctx context.Context, p *pool, resume []uint64, taking *sync.WaitGroup) {
	for _, seq := range resume {
		if err := w.resume(ctx, seq, nil); err != nil {
			w.log.Warn("interrupted command is left to its redelivery", "sequence", seq, "error", err)
		}
	}
	o := w.consumerOptions()
	isDefault := p.name == w.cfg.DefaultBackend
	for _, cfg := range []jetstream.ConsumerConfig{
		subjects.PoolConsumer(p.name, isDefault, o), subjects.NodeConsumer(p.name, w.cfg.Node, isDefault, o),
	} {
		taking.Go(func() { w.intake(ctx, subjects.StreamCommands, cfg, w.receive) })
	}
	assigned := subjects.AssignmentConsumer(p.name, w.cfg.Node, o)
	taking.Go(func() { w.intake(ctx, subjects.StreamAssignments, assigned, w.receiveAssignment) })
	w.log.Info("serving", "backend", p.name, "node", w.cfg.Node)
}

func (w *Worker) consumerOptions() subjects.ConsumerOptions {
	return subjects.ConsumerOptions{AckWait: w.cfg.AckWait}
}

// drain ends the work; see Run.
func (w *Worker) drain() {
	for _, msg := range w.lanes.abandon() {
		_ = msg.Nak() // a lost nak costs an ack wait
	}
	idle := make(chan struct{})
	go func() { w.lanes.wg.Wait(); close(idle) }()
	timer := time.NewTimer(w.cfg.DrainTimeout)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
		w.log.Warn("commands still running are left for the next worker", "count", w.lanes.len())
	}
	w.stopWorking(errShutdown)
	// Drivers let go of a cancelled call quickly; results then need the bus.
	grace := time.NewTimer(2 * requestTimeout)
	defer grace.Stop()
	select {
	case <-idle:
	case <-grace.C:
	}
	w.stopSettle()
	<-idle
}

// keepAlive tells the server about every command that is here, waiting or at work.
func (w *Worker) keepAlive(ctx context.Context) {
	ticker := time.NewTicker(w.cfg.AckWait / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.lanes.each((*task).alive)
		}
	}
}

// clockEvery is how often the server's clock is read again.
const clockEvery = time.Minute

// followClock keeps the server's clock known.
func (w *Worker) followClock(ctx context.Context) {
	ticker := time.NewTicker(clockEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := w.readClock(ctx); err != nil && ctx.Err() == nil {
			w.log.Debug("server's clock not read", "error", err)
		}
	}
}

// readClock measures the server's clock by a write it stamps, so that deadlines, which
// count from the server's time of a command, hold on a host whose own clock is wrong.
// The write is the node's heartbeat.
func (w *Worker) readClock(ctx context.Context) error {
	key := subjects.HeartbeatKey(w.cfg.Node)
	before := w.cfg.Now()
	if _, err := w.nodes.Put(ctx, key, encode(map[string]string{"worker": w.claims.holder})); err != nil {
		return fmt.Errorf("write heartbeat: %w", err)
	}
	after := w.cfg.Now()
	entry, err := w.nodes.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("read heartbeat: %w", err)
	}
	middle := before.Add(after.Sub(before) / 2)
	w.offset.Store(int64(entry.Created().Sub(middle)))
	return nil
}

// serverNow is the server's time.
func (w *Worker) serverNow() time.Time {
	return w.cfg.Now().Add(time.Duration(w.offset.Load()))
}

// errEngineTaken: another node serves the engine.
var errEngineTaken = errors.New("engine is served by another node")

// lockEngine makes sure that this node alone serves the pool's engine, waiting for the
// engine to answer.
func (w *Worker) lockEngine(ctx context.Context, p *pool) error {
	identifier, ok := p.driver.(drivers.Identifier)
	if !ok {
		return nil
	}
	for wait := newPause(200*time.Millisecond, 5*time.Second); ; {
		try, cancel := context.WithTimeout(ctx, statusTimeout)
		info, err := identifier.EngineInfo(try)
		cancel()
		w.cfg.Counters.EngineUp(p.name, err == nil)
		if err == nil {
			if w.cfg.LockDir == "" {
				return nil
			}
			return w.locks.take(w.cfg.LockDir, p.name, info.ID, w.cfg.Node)
		}
		w.log.Warn("engine does not answer, trying again", "backend", p.name, "error", err)
		if err := wait.sleep(ctx); err != nil {
			return err
		}
	}
}
