package workers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
	"github.com/kranix-io/kranix-runtime/telemetry"
)

// observer keeps what the bus says about a backend's workloads in line with what the
// engine says. Changes are hints: the state is always read from the driver, so that a
// hint lost or repeated does no harm.
type observer struct {
	backend string
	node    string
	pool    *pool
	outbox  *outbox
	status  jetstream.KeyValue
	records recordStore
	logs    LogTracker
	metrics MetricTracker
	count   *telemetry.Metrics
	log     *slog.Logger
	// busy says whether a command works on the workload: then the command does the
	// talking.
	busy func(subjects.Workload) bool

	// turns counts, per group of workloads, how often a command began or ended: what was
	// read of the engine before the latest turn may be of the past.
	turns [256]atomic.Uint64

	mu   sync.Mutex
	seen map[string]*seen
	// dirty are the workloads to look at; looking those that are being looked at.
	dirty, looking map[string]bool
	// again are the workloads whose state could not be read, or waits because a command is
	// at work; waited are those that have waited for it once.
	again, waited map[string]bool
	wake          chan struct{}
}

// seen is what was last said about a workload.
type seen struct {
	phase   drivers.Phase
	digest  uint64
	tracked bool
	// oom is the instance whose kill was announced: its exit is no news.
	oom string
	// instances are the engine's identifiers of the instances.
	instances []string
}

// note remembers which instances there are.
func (s *seen) note(status *drivers.WorkloadStatus) {
	s.instances = s.instances[:0]
	for _, i := range status.Instances {
		s.instances = append(s.instances, i.ID)
	}
}

func (s *seen) has(instanceID string) bool {
	return instanceID == "" || slices.Contains(s.instances, instanceID)
}

const (
	// lookers is how many workloads are read from the engine at a time.
	lookers = 4
	// lookAgain is when a state that could not be read is read again.
	lookAgain = 2 * time.Second
	// resyncEvery is how often a driver that reports no changes is read whole.
	resyncEvery = 10 * time.Second
)

var digestSeed = maphash.MakeSeed()

// run observes until ctx ends.
func (o *observer) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { o.lookAll(ctx) })
	watcher, ok := o.pool.driver.(drivers.Watcher)
	if !ok {
		o.poll(ctx)
		return
	}
	for wait := newPause(100*time.Millisecond, 10*time.Second); ctx.Err() == nil; {
		changes, err := watcher.Watch(ctx)
		if err != nil {
			o.count.EngineUp(o.backend, false)
			o.log.Warn("engine cannot be watched, trying again", "backend", o.backend, "error", err)
			_ = wait.sleep(ctx) // the loop's condition sees the end
			continue
		}
		wait = newPause(100*time.Millisecond, 10*time.Second)
		for change := range changes {
			o.changed(ctx, change)
		}
	}
}

// poll reads the whole engine at an interval.
func (o *observer) poll(ctx context.Context) {
	ticker := time.NewTicker(resyncEvery)
	defer ticker.Stop()
	for {
		o.resync(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// changed acts on one change.
func (o *observer) changed(ctx context.Context, change drivers.Change) {
	if change.Resync {
		o.resync(ctx)
		return
	}
	on, err := o.workload(change.WorkloadID)
	if err != nil {
		o.log.Warn("change of something that is no workload", "backend", o.backend, "id", change.WorkloadID)
		return
	}
	switch change.Kind {
	case drivers.ChangeOOMKilled:
		o.announce(ctx, on, change, drivers.PhaseOOMKilled, "OOMKilled", "was killed for using more memory than its limit")
	case drivers.ChangeExited:
		if change.ExitCode != 0 && !o.busy(on) {
			o.announce(ctx, on, change, drivers.PhaseCrashed, "Exited", fmt.Sprintf("exited with code %d", change.ExitCode))
		}
	}
	o.look(change.WorkloadID)
}

// announce says at once what happened to an instance, before the status is read.
func (o *observer) announce(ctx context.Context, on subjects.Workload, change drivers.Change, phase drivers.Phase, reason, what string) {
	o.mu.Lock()
	s := o.seen[on.ID()]
	if s == nil || !s.has(change.InstanceID) {
		o.mu.Unlock()
		return // of an instance that was replaced or destroyed
	}
	told := s.oom != "" && s.oom == change.InstanceID
	s.oom = ""
	if phase == drivers.PhaseOOMKilled {
		s.oom = change.InstanceID
	}
	o.mu.Unlock()
	if told {
		return
	}
	data := subjects.WorkloadEvent{
		Phase: string(phase), Reason: reason, Instance: &change.Instance, ExitCode: &change.ExitCode,
		Message: fmt.Sprintf("instance %d %s", change.Instance, what),
	}
	o.say(ctx, on, data, origin{})
}

// turned notes that a command of the workload begins or ends.
func (o *observer) turned(on subjects.Workload) { o.turn(on).Add(1) }

func (o *observer) turn(on subjects.Workload) *atomic.Uint64 {
	return &o.turns[maphash.String(digestSeed, on.ID())%uint64(len(o.turns))]
}

// entry returns what was last said; the caller holds o.mu.
func (o *observer) entry(id string) *seen {
	s := o.seen[id]
	if s == nil {
		s = &seen{}
		o.seen[id] = s
	}
	return s
}

// look asks for a workload's state to be read soon.
func (o *observer) look(id string) {
	o.mu.Lock()
	o.dirty[id] = true
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// lookAll reads the workloads that look named, a few at a time and each by one reader.
func (o *observer) lookAll(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, lookers)
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			o.mu.Lock()
			maps.Copy(o.dirty, o.again)
			clear(o.again)
			o.mu.Unlock()
		case <-o.wake:
		}
		for {
			id, ok := o.nextDirty()
			if !ok {
				break
			}
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				o.read(ctx, id)
				o.mu.Lock()
				delete(o.looking, id)
				again := o.dirty[id]
				o.mu.Unlock()
				if again {
					o.look(id)
				}
			})
		}
	}
}

// nextDirty takes a workload that nobody is looking at.
func (o *observer) nextDirty() (string, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id := range o.dirty {
		if !o.looking[id] {
			delete(o.dirty, id)
			o.looking[id] = true
			return id, true
		}
	}
	return "", false
}

// wait puts a look at a workload off while a command is at work on it: most commands end
// within a moment and are followed by a look, and the engine has better to do. A command
// that takes longer does not keep the workload from being looked at.
func (o *observer) wait(on subjects.Workload) bool {
	busy := o.busy(on)
	o.mu.Lock()
	defer o.mu.Unlock()
	if !busy || o.waited[on.ID()] {
		delete(o.waited, on.ID())
		return false
	}
	o.waited[on.ID()], o.again[on.ID()] = true, true
	return true
}

// read reads one workload's state and says what is new.
func (o *observer) read(ctx context.Context, id string) {
	on, err := o.workload(id)
	if err != nil {
		return
	}
	if o.wait(on) {
		return
	}
	before := o.turn(on).Load()
	status, err := o.pool.status(ctx, id)
	if o.turn(on).Load() != before {
		o.look(id) // what was read may be of before the turn
		return
	}
	// A turn that falls between here and what is said below is made good by another look.
	defer func() {
		if o.turn(on).Load() != before {
			o.look(id)
		}
	}()
	switch {
	case errors.Is(err, drivers.ErrNotFound):
		o.mu.Lock()
		_, known := o.seen[id]
		o.mu.Unlock()
		if known && !o.busy(on) {
			o.gone(ctx, on, origin{}, "Missing", "nothing of the workload is left on the engine")
		}
	case err != nil:
		if ctx.Err() == nil {
			o.log.Warn("status not read, looking again", "workload", id, "backend", o.backend, "error", err)
		}
		o.mu.Lock()
		o.again[id] = true
		o.mu.Unlock()
	case o.busy(on):
		o.keep(ctx, on, status)
	default:
		o.report(ctx, status, origin{}, subjects.WorkloadEvent{})
	}
}

// resync has everything looked at: what the engine has, and what the bus knows. The
// lists are of the past as soon as they are read, so they only say where to look.
func (o *observer) resync(ctx context.Context) {
	list, err := o.pool.list(ctx)
	o.count.EngineUp(o.backend, err == nil)
	if err != nil {
		if ctx.Err() == nil {
			o.log.Warn("workloads not listed", "backend", o.backend, "error", err)
		}
		return
	}
	for _, status := range list {
		if on, err := o.workload(status.ID); err == nil {
			o.recall(ctx, on)
			o.look(status.ID)
		}
	}
	filter, err := subjects.StatusKeyFilter(o.backend, o.node, "", "")
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	keys, err := o.status.ListKeysFiltered(ctx, filter)
	if err != nil {
		o.log.Warn("known statuses not listed", "backend", o.backend, "error", err)
		return
	}
	for key := range keys.Keys() {
		if on, err := subjects.ParseKey(key); err == nil {
			o.recall(ctx, on)
			o.look(on.ID())
		}
	}
}

// recall learns, after a restart of this process, what was last said about a workload,
// so that nothing is said twice.
func (o *observer) recall(ctx context.Context, on subjects.Workload) {
	o.mu.Lock()
	_, known := o.seen[on.ID()]
	o.mu.Unlock()
	if known {
		return
	}
	entry, err := o.status.Get(ctx, on.Key())
	if err != nil {
		return
	}
	var last drivers.WorkloadStatus
	if json.Unmarshal(entry.Value(), &last) != nil {
		return
	}
	o.mu.Lock()
	s := o.entry(on.ID())
	s.phase, s.digest = last.Phase, digest(&last)
	s.note(&last)
	o.mu.Unlock()
}

// report says what is new about a workload: an event when its phase changed, or when
// data names a phase of its own, and the latest status when anything changed.
func (o *observer) report(ctx context.Context, status *drivers.WorkloadStatus, from origin, data subjects.WorkloadEvent) {
	on, err := o.workload(status.ID)
	if err != nil {
		return
	}
	phase := status.Phase
	if data.Phase != "" {
		phase = drivers.Phase(data.Phase)
	}
	o.mu.Lock()
	s := o.entry(status.ID)
	news := s.phase != phase || data.Phase != ""
	s.phase = phase
	o.mu.Unlock()
	if news {
		if data.Phase == "" {
			data.Phase, data.Reason, data.Message = string(status.Phase), status.Reason, status.Message
		}
		status.Node = o.node
		data.Status = fitStatus(status)
		o.say(ctx, on, data, from)
	}
	// After the event: whoever waits for it does not wait for this, too.
	o.keep(ctx, on, status)
}

// keep puts the status where `status` reads it, when anything but its time changed,
// and has the workload's logs and metrics followed.
func (o *observer) keep(ctx context.Context, on subjects.Workload, status *drivers.WorkloadStatus) {
	status.Node = o.node
	sum := digest(status)
	o.mu.Lock()
	s := o.entry(on.ID())
	changed, track := s.digest != sum, !s.tracked && len(status.Instances) > 0
	s.digest = sum
	s.tracked = s.tracked || track
	s.note(status)
	o.mu.Unlock()
	if track {
		o.track(ctx, on)
	}
	if !changed {
		return
	}
	if err := o.outbox.put(ctx, on, o.outbox.statusItem(on, status)); err != nil {
		o.log.Debug("status not queued", "workload", on.ID(), "error", err)
	}
}

// renewed says that a command may have replaced the workload's instances: its logs are
// looked at anew when the state is reported next.
func (o *observer) renewed(on subjects.Workload) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.entry(on.ID()).tracked = false
}

// track has the workload's logs and metrics followed.
func (o *observer) track(ctx context.Context, on subjects.Workload) {
	if r, ok := o.pool.driver.(drivers.StatsReader); ok && o.metrics != nil {
		o.metrics.Track(on, r)
	}
	if r, ok := o.pool.driver.(drivers.LogReader); ok && o.logs != nil && o.ships(ctx, on) {
		o.logs.Track(on, r)
	}
}

// ships says whether the workload's spec wants its logs shipped. The driver's label
// has the spec too, but only the record has it for every backend.
func (o *observer) ships(ctx context.Context, on subjects.Workload) bool {
	rec, _, err := o.records.get(ctx, on)
	if err != nil || rec.Spec == nil {
		return true
	}
	var spec struct {
		Logs drivers.LogConfig `json:"logs"`
	}
	if json.Unmarshal(rec.Spec, &spec) != nil {
		return true
	}
	return spec.Logs.Ship == nil || *spec.Logs.Ship
}

// gone says that a workload is no more.
func (o *observer) gone(ctx context.Context, on subjects.Workload, from origin, reason, message string) {
	o.mu.Lock()
	delete(o.seen, on.ID())
	o.mu.Unlock()
	if o.logs != nil {
		o.logs.Untrack(on)
	}
	if o.metrics != nil {
		o.metrics.Untrack(on)
	}
	o.say(ctx, on, subjects.WorkloadEvent{Phase: string(drivers.PhaseDestroyed), Reason: reason, Message: message}, from)
	if err := o.outbox.put(ctx, on, o.outbox.goneItem(on)); err != nil {
		o.log.Debug("end of status not queued", "workload", on.ID(), "error", err)
	}
}

func (o *observer) say(ctx context.Context, on subjects.Workload, data subjects.WorkloadEvent, from origin) {
	it, err := o.outbox.eventItem(on, data, from)
	if err == nil {
		err = o.outbox.put(ctx, on, it)
	}
	if err != nil {
		o.log.Warn("event not queued", "workload", on.ID(), "phase", data.Phase, "error", err)
	}
}

// workload is a workload ID as a workload on this node.
func (o *observer) workload(id string) (subjects.Workload, error) {
	namespace, name, err := drivers.ParseWorkloadID(id)
	return subjects.Workload{Backend: o.backend, Node: o.node, Namespace: namespace, Name: name}, err
}

// digest is a status without its time of observation.
func digest(status *drivers.WorkloadStatus) uint64 {
	s := *status
	s.ObservedAt = time.Time{}
	return maphash.Bytes(digestSeed, encode(s))
}
