package compliance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func commandCases() []Case {
	return []Case{
		{"SupersededDeployLeavesNothing", "cancelled as stale, a deploy removes what it made before it returns", superseded},
		{"SupersededUpdateKeepsTheOld", "cancelled as stale, an update removes the new revision only", supersededUpdate},
		{"ShutdownIsAdopted", "cancelled for a shutdown, a deploy leaves what it made and its repetition adopts it", shutdown},
		{"LostFenceStartsNothing", "a claim lost between create and start: nothing ever runs, nothing stays", lostFence},
		{"LostFenceKeepsTheOld", "a claim lost during an update: what ran goes on, the new never ran", lostFenceUpdate},
		{"LostFenceStopsNothing", "destroy and restart without the claim change nothing", lostFenceDestroy},
		{"FenceOutOfReachDecidesNothing", "a fence that cannot be asked leaves everything for the next attempt", fenceOutOfReach},
		{"ZombieLeavesWhatWasAdopted", "a worker that lost its claim removes nothing that its successor runs", zombie},
		{"LowerSequenceIsStale", "a command older than what is there is ErrStale and changes nothing", lowerSequence},
		{"DestroyRemovesAnInterruptedDeploy", "a destroy removes what an interrupted deploy left", destroyInterrupted},
	}
}

var errLost = &drivers.Error{Class: drivers.ErrStale, Op: "pass fence", Err: errors.New("the claim was taken over")}

// interrupt deploys a spec that is not decided by itself and cancels it with a cause
// once an instance runs. It returns the command and Deploy's error.
func (r *run) interrupt(s *drivers.WorkloadSpec, cause error) (*command, error) {
	r.Helper()
	ctx, cancel := context.WithCancelCause(r.timed())
	defer cancel(nil)
	cmd := r.command()
	done := make(chan error, 1)
	go func() {
		_, err := r.d.Deploy(cmd.on(ctx), s)
		done <- err
	}()
	running := func() error {
		st, err := r.d.GetStatus(r.timed(), s.ID())
		if err != nil {
			return fmt.Errorf("get status: %w", err)
		}
		for _, in := range st.Instances {
			if in.Phase == drivers.PhaseRunning && in.Revision == s.Revision(st.ImageID) {
				return nil
			}
		}
		return fmt.Errorf("got %+v", st.Instances)
	}
	r.eventually("an instance of the interrupted deploy runs", running)
	cancel(cause)
	select {
	case err := <-done:
		if err == nil {
			r.Errorf("want an error from a cancelled deploy")
		}
		return cmd, err
	case <-time.After(r.h.Timeouts.Step):
		r.Fatalf("a cancelled deploy did not return")
		return nil, nil
	}
}

func superseded(r *run) {
	s := r.h.Workloads.Becomes("web", "exec", time.Hour)
	s.Volumes = append(s.Volumes, drivers.Volume{Source: "data", Target: "/data"})
	s.Networks = []drivers.Network{{Name: "back"}}
	s = r.spec(s)
	_, err := r.interrupt(s, errLost)
	r.wantClass("cancelled as stale", err, drivers.ErrStale)
	r.wantGone(s.ID())
	r.wantNothingLeft()
}

func supersededUpdate(r *run) {
	s := r.h.Workloads.Becomes("web", "exec", 0)
	good := r.deploy(r.spec(s))
	old := r.instance(good.ID)
	_, err := r.interrupt(r.spec(r.h.Workloads.Becomes("web", "exec", time.Hour)), errLost)
	r.wantClass("cancelled as stale", err, drivers.ErrStale)
	if now := r.instance(good.ID); now.ID != old.ID || now.StartedAt != old.StartedAt {
		r.Errorf("want the old instance untouched, got %+v, then %+v", old, now)
	}
}

func shutdown(r *run) {
	const after = 1500 * time.Millisecond
	s := r.spec(r.h.Workloads.Becomes("web", "exec", after))
	cmd, err := r.interrupt(s, context.Canceled)
	if errors.Is(err, drivers.ErrFailed) || errors.Is(err, drivers.ErrStale) {
		r.Errorf("want an error that asks for another attempt, got %v", err)
	}
	half := r.instance(s.ID())
	r.d = r.open()
	st, err := r.d.Deploy(cmd.on(r.timed()), s)
	if err != nil || st == nil {
		r.Fatalf("deploy again: %+v, %v", st, err)
	}
	if st.Phase != drivers.PhaseHealthy {
		r.Errorf("want healthy, got %+v", st)
	}
	if now := r.instance(s.ID()); now.ID != half.ID || now.StartedAt != half.StartedAt {
		r.Errorf("want the half-made instance adopted, got %+v, then %+v", half, now)
	}
}

// losing is a command whose claim is lost from its nth passing of the fence on.
func (r *run) losing(n int) *command {
	cmd := r.command()
	passed := 0
	cmd.Fence = func(context.Context) error {
		passed++
		if passed >= n {
			return errLost
		}
		return nil
	}
	return cmd
}

// starts watches what starts in the case's namespace; the function it returns stops
// and says what did.
func (r *run) starts() (stop func() []drivers.Change) {
	r.Helper()
	w, ok := r.d.(drivers.Watcher)
	if !ok {
		return func() []drivers.Change { return nil }
	}
	ctx, cancel := context.WithCancel(r.timed())
	ch, err := w.Watch(ctx)
	if err != nil {
		cancel()
		r.Fatalf("watch: %v", err)
	}
	done := make(chan []drivers.Change, 1)
	ready := make(chan struct{})
	go func() {
		var seen []drivers.Change
		first := true
		for c := range ch {
			if first {
				close(ready)
				first = false
			}
			if c.Kind == drivers.ChangeStarted && c.WorkloadID != "" {
				seen = append(seen, c)
			}
		}
		done <- seen
	}()
	select {
	case <-ready:
	case <-time.After(r.h.Timeouts.Step):
		r.Fatalf("a watcher delivered nothing within %s", r.h.Timeouts.Step)
	}
	return func() []drivers.Change {
		// What has started has been announced within an event's time.
		timer := time.NewTimer(r.h.Timeouts.Event)
		defer timer.Stop()
		<-timer.C
		cancel()
		return <-done
	}
}

func (r *run) wantNoStart(what string, seen []drivers.Change, id string) {
	r.Helper()
	for _, c := range seen {
		if c.WorkloadID == id {
			r.Errorf("%s: want that nothing ever ran, %+v did", what, c)
		}
	}
}

func lostFence(r *run) {
	s := r.h.Workloads.Sleeper("web", 1)
	s.Networks = []drivers.Network{{Name: "back"}}
	s = r.spec(s)
	stop := r.starts()
	_, err := r.d.Deploy(r.losing(1).on(r.timed()), s)
	r.wantClass("deploy without the claim", err, drivers.ErrStale)
	r.wantNoStart("deploy", stop(), s.ID())
	r.wantGone(s.ID())
	r.wantNothingLeft()
}

func lostFenceUpdate(r *run) {
	good := r.deploy(r.spec(r.h.Workloads.Sleeper("web", 1)))
	old := r.instance(good.ID)
	for _, order := range []string{drivers.StartFirst, drivers.StopFirst} {
		s := r.h.Workloads.Sleeper("web", 2)
		s.Update.Order = order
		s = r.spec(s)
		stop := r.starts()
		_, err := r.d.Deploy(r.losing(1).on(r.timed()), s)
		r.wantClass("update without the claim", err, drivers.ErrStale)
		r.wantNoStart(order, stop(), s.ID())
		if now := r.instance(good.ID); now.ID != old.ID || now.StartedAt != old.StartedAt || now.Phase != drivers.PhaseRunning {
			r.Errorf("%s: want the old instance untouched, got %+v, then %+v", order, old, now)
		}
	}
}

func lostFenceDestroy(r *run) {
	s := r.spec(r.h.Workloads.Sleeper("web", 1))
	r.deploy(s)
	old := r.instance(s.ID())
	r.wantClass("destroy without the claim", r.d.Destroy(r.losing(1).on(r.timed()), s.ID()), drivers.ErrStale)
	r.wantClass("restart without the claim", r.d.Restart(r.losing(1).on(r.timed()), s.ID()), drivers.ErrStale)
	if now := r.instance(s.ID()); now.ID != old.ID || now.StartedAt != old.StartedAt || now.Phase != drivers.PhaseRunning {
		r.Errorf("want the instance untouched, got %+v, then %+v", old, now)
	}
}

func fenceOutOfReach(r *run) {
	good := r.deploy(r.spec(r.h.Workloads.Sleeper("web", 1)))
	old := r.instance(good.ID)
	s := r.spec(r.h.Workloads.Sleeper("web", 2))
	cmd := r.command()
	unreachable := errors.New("no answer from the bus")
	cmd.Fence = func(context.Context) error { return unreachable }
	_, err := r.d.Deploy(cmd.on(r.timed()), s)
	if !errors.Is(err, unreachable) || errors.Is(err, drivers.ErrStale) || errors.Is(err, drivers.ErrFailed) {
		r.Errorf("want the fence's error and no verdict, got %v", err)
	}
	for _, in := range r.status(good.ID).Instances {
		if in.Revision == good.Revision && (in.ID != old.ID || in.StartedAt != old.StartedAt || in.Phase != drivers.PhaseRunning) {
			r.Errorf("want the old instance untouched, got %+v, then %+v", old, in)
		}
		if in.Revision != good.Revision && in.StartedAt != "" {
			r.Errorf("want the new one not started, got %+v", in)
		}
	}
	cmd.Fence = nil
	if _, err := r.d.Deploy(cmd.on(r.timed()), s); err != nil {
		r.Fatalf("deploy again: %v", explain(err))
	}
	if now := r.instance(good.ID); now.Revision == good.Revision {
		r.Errorf("want the new revision, got %+v", now)
	}
}

func zombie(r *run) {
	s := r.h.Workloads.Sleeper("web", 1)
	s.Networks = []drivers.Network{{Name: "back"}}
	s = r.spec(s)
	cmd, successor := r.command(), r.open()
	next := cmd.Command
	var adopted *drivers.WorkloadStatus
	cmd.Fence = func(context.Context) error {
		if adopted != nil {
			return errLost
		}
		// While this worker stands still, another one has the same command delivered.
		st, err := successor.Deploy(drivers.WithCommand(r.timed(), next), s)
		if err != nil {
			r.Errorf("deploy by the successor: %v", explain(err))
			st = &drivers.WorkloadStatus{}
		}
		adopted = st
		return errLost
	}
	_, err := r.d.Deploy(cmd.on(r.timed()), s)
	r.wantClass("deploy by the zombie", err, drivers.ErrStale)
	now := r.status(s.ID())
	if now.Phase != drivers.PhaseRunning || adopted == nil || fmt.Sprint(now.Marks()) != fmt.Sprint(adopted.Marks()) {
		r.Errorf("want what the successor runs untouched, got %+v, then %+v", adopted, now)
	}
}

func lowerSequence(r *run) {
	older := r.command()
	s := r.spec(r.h.Workloads.Sleeper("web", 1))
	r.deploy(s)
	first := r.instance(s.ID())
	_, err := r.d.Deploy(older.on(r.timed()), r.spec(r.h.Workloads.Sleeper("web", 2)))
	r.wantClass("older deploy", err, drivers.ErrStale)
	r.wantClass("older restart", r.d.Restart(older.on(r.timed()), s.ID()), drivers.ErrStale)
	r.wantClass("older destroy", r.d.Destroy(older.on(r.timed()), s.ID()), drivers.ErrStale)
	if now := r.instance(s.ID()); now.ID != first.ID || now.StartedAt != first.StartedAt {
		r.Errorf("want the instance untouched, got %+v, then %+v", first, now)
	}
}

func destroyInterrupted(r *run) {
	s := r.h.Workloads.Becomes("web", "exec", time.Hour)
	s.Volumes = append(s.Volumes, drivers.Volume{Source: "data", Target: "/data"})
	s = r.spec(s)
	_, err := r.interrupt(s, context.Canceled)
	if errors.Is(err, drivers.ErrStale) {
		r.Errorf("want no ErrStale for a shutdown, got %v", err)
	}
	r.destroy(s.ID())
	r.wantGone(s.ID())
	r.wantNothingLeft()
}

func withTimeout(r *run, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), d)
}
