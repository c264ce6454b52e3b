package docker

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/volume"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func TestSummarize(t *testing.T) {
	instance := func(ordinal int, p drivers.Phase) drivers.InstanceStatus {
		i := drivers.InstanceStatus{Instance: ordinal, Phase: p}
		switch p {
		case drivers.PhaseFailed, drivers.PhaseRestarting:
			i.Reason = "Crashed"
		case drivers.PhaseUnhealthy:
			i.Reason = "Unhealthy"
		}
		return i
	}
	pending := drivers.InstanceStatus{Phase: drivers.PhaseRunning, Reason: reasonHealthPending}
	const (
		healthy, running, unhealthy, starting  = drivers.PhaseHealthy, drivers.PhaseRunning, drivers.PhaseUnhealthy, drivers.PhaseStarting
		restarting, failed, stopped, completed = drivers.PhaseRestarting, drivers.PhaseFailed, drivers.PhaseStopped, drivers.PhaseCompleted
	)
	cases := []struct {
		name      string
		desired   int
		instances []drivers.InstanceStatus
		phase     drivers.Phase
		ready     int
		reason    string
	}{
		{"none wanted", 0, nil, stopped, 0, ""},
		{"all healthy", 2, []drivers.InstanceStatus{instance(0, healthy), instance(1, healthy)}, healthy, 2, ""},
		{"one undecided", 2, []drivers.InstanceStatus{pending, instance(1, healthy)}, running, 1, reasonHealthPending},
		{"all running", 1, []drivers.InstanceStatus{instance(0, running)}, running, 1, ""},
		{"one unhealthy", 2, []drivers.InstanceStatus{instance(0, unhealthy), instance(1, healthy)}, unhealthy, 1, "Unhealthy"},
		{"coming up", 2, []drivers.InstanceStatus{instance(0, running), instance(1, starting)}, starting, 1, ""},
		{"one crashed", 2, []drivers.InstanceStatus{instance(0, running), instance(1, restarting)}, drivers.PhaseDegraded, 1, "Crashed"},
		{"one missing", 2, []drivers.InstanceStatus{instance(0, running)}, drivers.PhaseDegraded, 1, "InstancesMissing"},
		{"all missing", 2, nil, failed, 0, "InstancesMissing"},
		{"crash loop", 1, []drivers.InstanceStatus{instance(0, restarting)}, restarting, 0, "Crashed"},
		{"ended badly", 2, []drivers.InstanceStatus{instance(0, failed), instance(1, completed)}, failed, 0, "Crashed"},
		{"ended well", 2, []drivers.InstanceStatus{instance(0, completed), instance(1, completed)}, completed, 0, ""},
		{"one of the jobs done", 2, []drivers.InstanceStatus{instance(0, completed), instance(1, running)}, running, 1, ""},
		{"stopped", 1, []drivers.InstanceStatus{instance(0, stopped)}, stopped, 0, ""},
		{"two revisions, start first", 1, []drivers.InstanceStatus{instance(0, healthy), instance(0, starting)}, healthy, 1, ""},
		{"two revisions, stop first", 1, []drivers.InstanceStatus{instance(0, stopped), instance(0, starting)}, starting, 0, ""},
		{"surplus ignored", 1, []drivers.InstanceStatus{instance(0, running), instance(1, failed)}, running, 1, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := &drivers.WorkloadStatus{Desired: c.desired, Instances: c.instances}
			summarize(s)
			if s.Phase != c.phase || s.Ready != c.ready || s.Reason != c.reason {
				t.Errorf("got %s, %d ready, reason %q; want %s, %d, %q", s.Phase, s.Ready, s.Reason, c.phase, c.ready, c.reason)
			}
		})
	}
}

func TestRollbackRevision(t *testing.T) {
	at := func(revision string, sequence uint64, state string) object {
		return object{revision: revision, sequence: sequence, state: state}
	}
	cases := []struct {
		name    string
		objects []object
		good    string
		want    string
	}{
		{"none", nil, "a", ""},
		{"the good one", []object{at("a", 1, container.StateExited), at("b", 2, container.StateRunning)}, "a", "a"},
		{"good one gone", []object{at("b", 2, container.StateExited), at("c", 3, container.StateRunning)}, "a", "c"},
		{"unknown: the newest that ran", []object{at("a", 1, container.StateRunning), at("b", 2, container.StateCreated)}, "", "a"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := rollbackRevision(c.objects, c.good); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestNewestLabels(t *testing.T) {
	labels := func(command string) map[string]string { return map[string]string{drivers.LabelCommand: command} }
	objects := []object{
		{role: drivers.RoleInstance, sequence: 3, labels: labels("three")},
		{role: drivers.RoleInstance, sequence: 5, labels: labels("five")},
		{role: drivers.RoleHook, sequence: 9, labels: labels("hook")},
	}
	if got := newestLabels(objects, nil)[drivers.LabelCommand]; got != "five" {
		t.Errorf("got %q, want the newest instance", got)
	}
	if got := newestLabels(objects, []record{{sequence: 4, labels: labels("old record")}})[drivers.LabelCommand]; got != "five" {
		t.Errorf("got %q, want the instance: the record is older", got)
	}
	if got := newestLabels(objects, []record{{sequence: 5, labels: labels("record")}})[drivers.LabelCommand]; got != "record" {
		t.Errorf("got %q, want the record of the same command", got)
	}
}

func TestRetained(t *testing.T) {
	spec := &drivers.WorkloadSpec{Namespace: "shop", Name: "db", Volumes: []drivers.Volume{
		{Type: drivers.VolumeNamed, Source: "keep", Retain: true}, {Type: drivers.VolumeNamed, Source: "drop"}}}
	marked := map[string]string{labelRetain: "true"}
	cases := []struct {
		name   string
		volume volume.Volume
		spec   *drivers.WorkloadSpec
		want   bool
	}{
		{"spec keeps", volume.Volume{Name: "kranix.shop.db.keep"}, spec, true},
		{"spec drops what its label kept", volume.Volume{Name: "kranix.shop.db.drop", Labels: marked}, spec, false},
		{"spec does not know it", volume.Volume{Name: "kranix.shop.db.former", Labels: marked}, spec, true},
		{"no spec", volume.Volume{Name: "kranix.shop.db.keep"}, nil, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := retained(&c.volume, c.spec); got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
		})
	}
}

func TestCheckSequence(t *testing.T) {
	objects := []object{{sequence: 5}, {sequence: 7}}
	for sequence, stale := range map[uint64]bool{0: false, 6: true, 7: false, 8: false} {
		err := checkSequence(drivers.Command{Sequence: sequence}, "shop/cart", objects, nil)
		if errors.Is(err, drivers.ErrStale) != stale {
			t.Errorf("command %d over 7: %v", sequence, err)
		}
	}
	if err := checkSequence(drivers.Command{Sequence: 1}, "shop/cart", nil, []record{{sequence: 2}}); !errors.Is(err, drivers.ErrStale) {
		t.Errorf("command 1 over record 2: %v", err)
	}
}

func TestProbeNote(t *testing.T) {
	start := time.Now()
	refused := errors.New("refused")
	p := &probe{state: container.Starting, changed: make(chan struct{}), since: start, lastCounted: start,
		check: drivers.HealthCheck{Interval: drivers.Duration(time.Second), Retries: 2, StartPeriod: drivers.Duration(3 * time.Second)}}
	steps := []struct {
		at    time.Duration
		err   error
		state string
	}{
		{2 * time.Second, refused, container.Starting},         // in the start period
		{4 * time.Second, refused, container.Starting},         // the first that counts
		{4500 * time.Millisecond, refused, container.Starting}, // within the interval
		{5 * time.Second, refused, container.Unhealthy},        // the second
		{6 * time.Second, nil, container.Healthy},
		{7 * time.Second, refused, container.Healthy},
		{8 * time.Second, nil, container.Healthy}, // a success ends the row
		{9 * time.Second, refused, container.Healthy},
		{10 * time.Second, refused, container.Unhealthy},
	}
	for _, s := range steps {
		before := p.state
		changed := p.note(start.Add(s.at), "", s.err)
		if p.state != s.state || changed != (before != s.state) {
			t.Fatalf("at %s: state %s, changed %t; want %s", s.at, p.state, changed, s.state)
		}
	}
}

func TestHealthFeed(t *testing.T) {
	var f healthFeed
	changes, unsubscribe := f.subscribe()
	f.publish(drivers.Change{WorkloadID: "shop/cart"})
	if got := <-changes; got.WorkloadID != "shop/cart" {
		t.Errorf("got %+v", got)
	}
	for range cap(changes) + 1 {
		f.publish(drivers.Change{WorkloadID: "shop/cart"})
	}
	if got := <-changes; !got.Resync {
		t.Errorf("after an overflow: %+v, want a resync", got)
	}
	unsubscribe()
	f.publish(drivers.Change{})
	select {
	case got := <-changes:
		t.Errorf("after the end: %+v", got)
	default:
	}
}

func TestKeyedLock(t *testing.T) {
	var k keyedLock
	unlock, err := k.lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := k.lock(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	other()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.lock(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled while it is held", err)
	}
	got := make(chan error, 1)
	go func() {
		again, err := k.lock(t.Context(), "a")
		if err == nil {
			again()
		}
		got <- err
	}()
	unlock()
	if err := <-got; err != nil {
		t.Errorf("after it is free: %v", err)
	}
}
