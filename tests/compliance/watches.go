package compliance

import (
	"context"
	"fmt"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func watchCases() []Case {
	return []Case{
		{"WatchBeginsWithResync", "the first change asks to compare everything, and the channel ends with the context", watchResync},
		{"CrashIsSeenAtOnce", "an instance that is killed is a change within the event's time", watchCrash},
		{"WatchSeesStartAndRemoval", "start and removal are changes", watchLife},
		{"StatsArePlausible", "what runs uses memory and more and more CPU time; what does not is left out", stats},
	}
}

func (r *run) watch() (changes <-chan drivers.Change, stop func()) {
	r.Helper()
	w, ok := r.d.(drivers.Watcher)
	if !ok {
		r.Fatalf("the driver of %s watches nothing", r.d.Backend())
	}
	ctx, cancel := context.WithCancel(r.timed())
	r.Cleanup(cancel)
	ch, err := w.Watch(ctx)
	if err != nil {
		r.Fatalf("watch: %v", err)
	}
	first, ok := r.change(ch, r.h.Timeouts.Step)
	if !ok || !first.Resync || first.WorkloadID != "" {
		r.Fatalf("want a resync first, got %+v", first)
	}
	return ch, cancel
}

// change receives the next change within d.
func (r *run) change(ch <-chan drivers.Change, d time.Duration) (drivers.Change, bool) {
	select {
	case c, ok := <-ch:
		return c, ok
	case <-time.After(d):
		return drivers.Change{}, false
	}
}

// wantChange wants a change of a workload within the time of an event.
func (r *run) wantChange(ch <-chan drivers.Change, id string, kinds ...drivers.ChangeKind) drivers.Change {
	r.Helper()
	deadline := time.Now().Add(r.h.Timeouts.Event)
	for {
		c, ok := r.change(ch, time.Until(deadline))
		if !ok {
			r.Fatalf("want a change %v of %s within %s", kinds, id, r.h.Timeouts.Event)
		}
		for _, k := range kinds {
			if c.WorkloadID == id && c.Kind == k {
				return c
			}
		}
	}
}

func watchResync(r *run) {
	ch, stop := r.watch()
	stop()
	deadline := time.Now().Add(r.h.Timeouts.Step)
	for {
		if _, ok := r.change(ch, time.Until(deadline)); !ok {
			break
		}
	}
	if time.Now().After(deadline) {
		r.Errorf("want the channel closed when the context ends")
	}
}

func watchCrash(r *run) {
	s := r.h.Workloads.Sleeper("web", 1)
	s.Restart.Policy = drivers.RestartNo
	s = r.spec(s)
	r.deploy(s)
	in := r.instance(s.ID())
	ch, stop := r.watch()
	defer stop()
	r.h.Kill(r.T, in.ID)
	c := r.wantChange(ch, s.ID(), drivers.ChangeExited)
	if c.Instance != 0 || c.InstanceID != in.ID || c.ExitCode != 137 || time.Since(c.At).Abs() > time.Minute {
		r.Errorf("want instance 0 %s, exit code 137, now, got %+v", in.ID, c)
	}
	st := r.wantPhase(s.ID(), drivers.PhaseFailed)
	if got := r.one(st); got.ExitCode == nil || *got.ExitCode != 137 {
		r.Errorf("want exit code 137, got %+v", got)
	}
}

func watchLife(r *run) {
	ch, stop := r.watch()
	defer stop()
	s := r.spec(r.h.Workloads.Sleeper("web", 1))
	done := make(chan error, 1)
	go func() {
		_, err := r.d.Deploy(r.command().on(r.timed()), s)
		done <- err
	}()
	// The deploy itself may take longer than an event.
	var began drivers.Change
	deadline := time.Now().Add(r.h.Timeouts.Step)
	for began.WorkloadID != s.ID() || began.Kind != drivers.ChangeStarted {
		c, ok := r.change(ch, time.Until(deadline))
		if !ok {
			r.Fatalf("want a change when an instance starts")
		}
		began = c
	}
	if err := <-done; err != nil {
		r.Fatalf("deploy: %v", err)
	}
	r.destroy(s.ID())
	r.wantChange(ch, s.ID(), drivers.ChangeRemoved)
}

func stats(r *run) {
	reader, ok := r.d.(drivers.StatsReader)
	if !ok {
		if r.h.Features.Stats {
			r.Errorf("stats are declared and the driver of %s does not read them", r.d.Backend())
		}
		return
	}
	s := r.h.Workloads.Ticks("web")
	s = r.replicas(s, 2)
	r.deploy(s)
	read := func() []drivers.InstanceStats {
		r.Helper()
		out, err := reader.ReadStats(r.timed(), s.ID())
		if err != nil {
			r.Fatalf("read stats: %v", err)
		}
		return out
	}
	first := read()
	if len(first) != 2 {
		r.Fatalf("want two readings, got %+v", first)
	}
	for i, st := range first {
		if st.Instance != i || st.InstanceID == "" || st.MemoryBytes == 0 || st.MemoryBytes > 1<<40 || time.Since(st.At).Abs() > time.Minute {
			r.Errorf("want a plausible reading of instance %d, got %+v", i, st)
		}
	}
	r.eventually("CPU time grows", func() error {
		if now := read(); len(now) != 2 || now[0].CPUNanoseconds <= first[0].CPUNanoseconds {
			return fmt.Errorf("got %+v, then %+v", first, now)
		}
		return nil
	})
	job := r.h.Workloads.Exits("job", 0, 0)
	job.Restart.Policy = drivers.RestartNo
	job = r.spec(job)
	r.deploy(job)
	out, err := reader.ReadStats(r.timed(), job.ID())
	if err != nil || len(out) != 0 {
		r.Errorf("want no reading of what has ended, got %+v, %v", out, err)
	}
}
