package compliance

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// Case is one promise.
type Case struct {
	// Name is the subtest's; Promise says what is checked.
	Name, Promise string
	run           func(*run)
}

// Run checks the case against a backend.
func (c Case) Run(t T, h Harness) {
	t.Helper()
	r := &run{T: t, h: h, ns: namespace(h.Prefix, c.Name), secrets: &secrets{}}
	t.Cleanup(func() { r.clean() })
	r.d = r.open()
	c.run(r)
}

// Run checks all cases.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			if h.Parallel {
				t.Parallel()
			}
			c.Run(t, h)
		})
	}
}

// Cases lists all cases.
func Cases() []Case {
	return slices.Concat(lifecycleCases(), updateCases(), endCases(), imageCases(), healthCases(), replicaCases(),
		storageCases(), secretCases(), portCases(), commandCases(), restartCases(), hookCases(), logCases(), watchCases(), listCases())
}

// namespace is a label of the case's own: cases may run side by side on one engine.
func namespace(prefix, name string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return fmt.Sprintf("%s-%08x", prefix, h.Sum32())
}

// run is a case that runs.
type run struct {
	T
	h       Harness
	ns      string
	d       drivers.RuntimeDriver
	secrets *secrets

	mu       sync.Mutex
	sequence uint64
	made     map[string]bool
}

// open makes another driver on the same engine and node: a restarted worker.
func (r *run) open() drivers.RuntimeDriver {
	r.Helper()
	return r.h.Open(r.T, r.h.Node, r.secrets)
}

// clean destroys what the case made and checks that nothing stays behind.
func (r *run) clean() {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), r.h.Timeouts.Step)
	defer cancel()
	defer r.h.Purge(r.T, r.ns)
	d := r.h.Open(r.T, r.h.Node, r.secrets)
	for id := range r.made {
		if err := d.Destroy(ctx, id); err != nil {
			r.Errorf("destroy %s at the end: %v", id, err)
		}
	}
	r.wantNothingLeft()
}

func (r *run) wantNothingLeft() {
	r.Helper()
	if left := r.h.Leftovers(r.T, r.ns); len(left) > 0 {
		r.Errorf("left behind: %v", left)
	}
}

// id is the workload ID of a name.
func (r *run) id(name string) string { return drivers.WorkloadID(r.ns, name) }

// spec makes a deployable spec.
func (r *run) spec(s *drivers.WorkloadSpec) *drivers.WorkloadSpec {
	r.Helper()
	s = s.Clone()
	s.Namespace = r.ns
	if s.Update.Monitor == nil {
		s.Update.Monitor = drivers.DurationPtr(r.h.Timeouts.Monitor)
	}
	if s.Stop.Grace == nil {
		s.Stop.Grace = drivers.DurationPtr(2 * time.Second)
	}
	s = s.WithDefaults()
	if err := s.Validate(); err != nil {
		r.Fatalf("the case's own spec is invalid: %v", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.made == nil {
		r.made = map[string]bool{}
	}
	r.made[s.ID()] = true
	return s
}

// command is a command with what was reported on its behalf.
type command struct {
	drivers.Command
	mu    sync.Mutex
	steps []drivers.Progress
}

// command makes the next command.
func (r *run) command() *command {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sequence++
	return newCommand(r.sequence)
}

func newCommand(sequence uint64) *command {
	c := &command{}
	// The form of a command token: 26 characters of a-z and 2-7.
	c.ID = strings.NewReplacer("0", "a", "1", "b", "8", "c", "9", "d").Replace(fmt.Sprintf("c%025d", sequence))
	c.Sequence = sequence
	c.Progress = func(p drivers.Progress) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.steps = append(c.steps, p)
	}
	return c
}

func (c *command) on(ctx context.Context) context.Context { return drivers.WithCommand(ctx, c.Command) }

// reported says whether a phase was reported.
func (c *command) reported(phase drivers.Phase) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.steps, func(p drivers.Progress) bool { return p.Phase == phase })
}

// timed is the case's context with the step's bound.
func (r *run) timed() context.Context {
	ctx, cancel := context.WithTimeout(r.Context(), r.h.Timeouts.Step)
	r.Cleanup(cancel)
	return ctx
}

// deploy deploys a spec with the next command and wants success.
func (r *run) deploy(s *drivers.WorkloadSpec) *drivers.WorkloadStatus {
	r.Helper()
	st, err := r.d.Deploy(r.command().on(r.timed()), s)
	if err != nil {
		r.Fatalf("deploy %s: %v", s.ID(), explain(err))
	}
	if st == nil {
		r.Fatalf("deploy %s: no status and no error", s.ID())
	}
	return st
}

// tryDeploy deploys a spec with the next command.
func (r *run) tryDeploy(s *drivers.WorkloadSpec) (*drivers.WorkloadStatus, error) {
	return r.d.Deploy(r.command().on(r.timed()), s)
}

func (r *run) destroy(id string) {
	r.Helper()
	if err := r.d.Destroy(r.command().on(r.timed()), id); err != nil {
		r.Fatalf("destroy %s: %v", id, err)
	}
}

func (r *run) status(id string) *drivers.WorkloadStatus {
	r.Helper()
	st, err := r.d.GetStatus(r.timed(), id)
	if err != nil {
		r.Fatalf("get status of %s: %v", id, err)
	}
	if st == nil {
		r.Fatalf("get status of %s: no status and no error", id)
	}
	return st
}

// instance is the one instance of a workload.
func (r *run) instance(id string) drivers.InstanceStatus {
	r.Helper()
	return r.one(r.status(id))
}

// one is the one instance of a status.
func (r *run) one(st *drivers.WorkloadStatus) drivers.InstanceStatus {
	r.Helper()
	if len(st.Instances) != 1 {
		r.Fatalf("want one instance, got %+v", st)
	}
	return st.Instances[0]
}

// wantGone wants that a workload is not there.
func (r *run) wantGone(id string) {
	r.Helper()
	if st, err := r.d.GetStatus(r.timed(), id); !errors.Is(err, drivers.ErrNotFound) {
		r.Errorf("want %s gone, got %+v, %v", id, st, err)
	}
}

// wantClass wants an error of a class.
func (r *run) wantClass(what string, err, class error) {
	r.Helper()
	if !errors.Is(err, class) {
		r.Errorf("%s: want an error matching %q, got %v", what, class, err)
	}
}

// wantRollout wants a *drivers.RolloutError with a reason.
func (r *run) wantRollout(what string, err error, reason string) *drivers.RolloutError {
	r.Helper()
	var fault *drivers.RolloutError
	if !errors.As(err, &fault) {
		r.Fatalf("%s: want a *drivers.RolloutError, got %v", what, err)
	}
	if fault.Reason != reason {
		r.Errorf("%s: want reason %q, got %+v", what, reason, fault)
	}
	r.wantClass(what, err, drivers.ErrFailed)
	return fault
}

// wantPhase wants the phase of a workload at some time soon.
func (r *run) wantPhase(id string, phase drivers.Phase) *drivers.WorkloadStatus {
	r.Helper()
	var st *drivers.WorkloadStatus
	r.eventually(fmt.Sprintf("%s is %s", id, phase), func() error {
		st = r.status(id)
		if st.Phase != phase {
			return fmt.Errorf("it is %s: %+v", st.Phase, st.Instances)
		}
		return nil
	})
	return st
}

// eventually wants that f returns nil before the step's time is up.
func (r *run) eventually(what string, f func() error) {
	r.Helper()
	deadline := time.Now().Add(r.h.Timeouts.Step)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.Fatalf("want that %s within %s: %v", what, r.h.Timeouts.Step, err)
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			r.Fatalf("want that %s: %v", what, r.Context().Err())
		}
	}
}

// explain adds the evidence of a rollout error.
func explain(err error) string {
	var fault *drivers.RolloutError
	if errors.As(err, &fault) {
		return fmt.Sprintf("%v %+v", err, *fault)
	}
	return err.Error()
}

// secrets resolves what a case put in.
type secrets struct {
	mu     sync.Mutex
	values map[string]string
}

func (s *secrets) put(name, value string) drivers.SecretRef {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values == nil {
		s.values = map[string]string{}
	}
	s.values[name] = value
	return drivers.SecretRef{File: name}
}

// ResolveSecret implements drivers.SecretResolver.
func (s *secrets) ResolveSecret(_ context.Context, _ string, ref drivers.SecretRef) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.values[ref.File]
	if !ok {
		return nil, &drivers.Error{Class: drivers.ErrNotFound, Op: "resolve secret " + strconv.Quote(ref.File)}
	}
	return []byte(v), nil
}
