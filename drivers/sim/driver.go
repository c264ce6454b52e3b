package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// Backend is the name the driver is registered under.
const Backend = "sim"

// Driver drives a simulated engine for one node. Its methods may be called
// concurrently. Close it.
type Driver struct {
	engine *Engine
	// owned says that Close closes the engine too.
	owned bool
	env   drivers.Environment
	cfg   Config

	// life ends with Close; the goroutines the driver owns run under it and are counted
	// in running.
	life    context.Context
	endLife context.CancelFunc
	running sync.WaitGroup

	mu sync.Mutex
	// rand decides jitter and probabilities, calls counts per configured failure.
	rand  *rand.Rand
	calls []int
}

var (
	_ drivers.RuntimeDriver = (*Driver)(nil)
	_ drivers.Watcher       = (*Driver)(nil)
	_ drivers.LogReader     = (*Driver)(nil)
	_ drivers.StatsReader   = (*Driver)(nil)
	_ drivers.ImageManager  = (*Driver)(nil)
	_ drivers.SpecChecker   = (*Driver)(nil)
	_ drivers.Identifier    = (*Driver)(nil)
	_ drivers.Closer        = (*Driver)(nil)
)

// Open is the factory to register under Backend; settings is a Config, or nil for the
// zero one.
func Open(_ context.Context, env drivers.Environment, settings any) (drivers.RuntimeDriver, error) {
	switch cfg := settings.(type) {
	case nil:
		return New(env, Config{})
	case Config:
		return New(env, cfg)
	}
	return nil, &drivers.Error{Class: drivers.ErrInvalidSpec, Op: "configure sim", Err: fmt.Errorf("want sim.Config, got %T", settings)}
}

// New makes a driver with an engine of its own, which Close closes. Errors:
// ErrInvalidSpec, and those of NewEngine.
func New(env drivers.Environment, cfg Config) (*Driver, error) {
	e, err := NewEngine(cfg)
	if err != nil {
		return nil, err
	}
	d, err := NewWithEngine(env, cfg, e)
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	d.owned = true
	return d, nil
}

// NewWithEngine makes a driver for an engine that others may use as well. Of cfg only
// what concerns the calls is used (see Config). Errors: ErrInvalidSpec.
func NewWithEngine(env drivers.Environment, cfg Config, e *Engine) (*Driver, error) {
	if err := cfg.Validate(); err != nil {
		return nil, &drivers.Error{Class: drivers.ErrInvalidSpec, Op: "configure sim", Err: err}
	}
	if !drivers.IsLabel(env.Node) {
		return nil, &drivers.Error{Class: drivers.ErrInvalidSpec, Op: "configure sim",
			Err: fmt.Errorf("node %q is not a DNS-1123 label", env.Node)}
	}
	life, end := context.WithCancel(context.Background())
	return &Driver{engine: e, env: env, cfg: cfg, life: life, endLife: end, calls: make([]int, len(cfg.Failures)),
		rand: rand.New(rand.NewPCG(cfg.Seed, 1))}, nil
}

// Engine is the engine the driver drives.
func (d *Driver) Engine() *Engine { return d.engine }

// Close implements drivers.Closer.
func (d *Driver) Close() error {
	d.mu.Lock()
	d.endLife()
	d.mu.Unlock()
	d.running.Wait()
	if d.owned {
		return d.engine.Close()
	}
	return nil
}

// spawn runs f on a goroutine that Close waits for; its context also ends with Close.
func (d *Driver) spawn(ctx context.Context, f func(context.Context)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.life.Err() != nil {
		return &drivers.Error{Class: drivers.ErrUnavailable, Op: "use sim driver", Err: errors.New("it is closed")}
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(d.life, cancel)
	d.running.Go(func() {
		defer cancel()
		defer stop()
		f(ctx)
	})
	return nil
}

// Deploy implements drivers.RuntimeDriver.
func (d *Driver) Deploy(ctx context.Context, spec *drivers.WorkloadSpec) (*drivers.WorkloadStatus, error) {
	if err := d.CheckSpec(spec); err != nil {
		return nil, err
	}
	r := &rollout{driver: d, engine: d.engine, spec: spec.Clone(), cmd: drivers.CommandFrom(ctx)}
	return r.run(ctx)
}

// Destroy implements drivers.RuntimeDriver.
func (d *Driver) Destroy(ctx context.Context, workloadID string) error {
	if _, _, err := drivers.ParseWorkloadID(workloadID); err != nil {
		return err
	}
	cmd := drivers.CommandFrom(ctx)
	if err := d.before(ctx, OpInspect, workloadID); err != nil {
		return err
	}
	cs := d.engine.of(workloadID, d.env.Node)
	if err := d.stale(workloadID, cs, cmd); err != nil {
		return err
	}
	if err := cmd.Check(ctx); err != nil {
		return fmt.Errorf("destroy %s: %w", workloadID, err)
	}
	if len(cs) > 0 {
		cmd.Report(drivers.Progress{Phase: drivers.PhaseStopping, Instance: -1, Total: int64(len(cs))})
	}
	if err := d.stopAll(ctx, cs); err != nil {
		return err
	}
	for _, c := range cs {
		if err := d.remove(ctx, c); err != nil {
			return err
		}
	}
	return d.engine.dropOwned(workloadID, d.env.Node)
}

// Restart implements drivers.RuntimeDriver.
func (d *Driver) Restart(ctx context.Context, workloadID string) error {
	if _, _, err := drivers.ParseWorkloadID(workloadID); err != nil {
		return err
	}
	cmd := drivers.CommandFrom(ctx)
	if err := d.before(ctx, OpInspect, workloadID); err != nil {
		return err
	}
	all := d.engine.of(workloadID, d.env.Node)
	if err := d.stale(workloadID, all, cmd); err != nil {
		return err
	}
	cs, known := d.engine.current(all)
	if !known {
		return notFound("restart", workloadID)
	}
	if err := cmd.Check(ctx); err != nil {
		return fmt.Errorf("restart %s: %w", workloadID, err)
	}
	for _, c := range cs {
		if d.engine.unlike(c, cmd.Baseline) {
			continue
		}
		if err := d.restart(ctx, c); err != nil {
			return err
		}
	}
	for _, c := range cs {
		if err := d.gate(ctx, c, gateOf(c.Spec)); err != nil {
			return err
		}
	}
	return nil
}

func (d *Driver) restart(ctx context.Context, c *container) error {
	cmd := drivers.CommandFrom(ctx)
	cmd.Report(drivers.Progress{Phase: drivers.PhaseRestarting, Instance: c.Instance})
	if err := d.stopAll(ctx, []*container{c}); err != nil {
		return err
	}
	if err := cmd.Check(ctx); err != nil {
		return fmt.Errorf("restart %s: %w", c.Workload, err)
	}
	return d.start(ctx, c)
}

// GetStatus implements drivers.RuntimeDriver.
func (d *Driver) GetStatus(ctx context.Context, workloadID string) (*drivers.WorkloadStatus, error) {
	if _, _, err := drivers.ParseWorkloadID(workloadID); err != nil {
		return nil, err
	}
	if err := d.before(ctx, OpInspect, workloadID); err != nil {
		return nil, err
	}
	return d.status(workloadID)
}

// ListWorkloads implements drivers.RuntimeDriver.
func (d *Driver) ListWorkloads(ctx context.Context, namespace string) ([]*drivers.WorkloadStatus, error) {
	if err := d.before(ctx, OpList, ""); err != nil {
		return nil, err
	}
	ids := d.engine.workloads(namespace, d.env.Node)
	out := make([]*drivers.WorkloadStatus, 0, len(ids))
	for _, id := range ids {
		st, err := d.status(id)
		if errors.Is(err, drivers.ErrNotFound) {
			continue // destroyed since
		}
		if err != nil {
			return nil, err
		}
		out = append(out, st)
	}
	return out, nil
}

// Ping implements drivers.RuntimeDriver.
func (d *Driver) Ping(ctx context.Context) error { return d.before(ctx, OpPing, "") }

// Backend implements drivers.RuntimeDriver.
func (d *Driver) Backend() string { return Backend }

// CheckSpec implements drivers.SpecChecker.
func (d *Driver) CheckSpec(spec *drivers.WorkloadSpec) error {
	bad := &drivers.FieldErrors{Class: drivers.ErrUnsupported}
	if spec.Resources.GPU != nil {
		bad.Add("resources.gpu", "the simulated engine has no GPU")
	}
	for _, path := range d.cfg.Refuse {
		if refusable()[path](spec) {
			bad.Add(path, "refused by this engine's configuration")
		}
	}
	if err := bad.ErrOrNil(); err != nil {
		return err
	}
	if why := drivers.CoexistenceFault(spec); why != "" && spec.Update.Order == drivers.StartFirst {
		bad = &drivers.FieldErrors{Class: drivers.ErrInvalidSpec}
		bad.Add("update.order", "start-first is impossible: %s", why)
		return bad
	}
	_, err := d.engine.steer(spec)
	return err
}

// EngineInfo implements drivers.Identifier.
func (d *Driver) EngineInfo(ctx context.Context) (*drivers.EngineInfo, error) {
	if err := d.before(ctx, OpPing, ""); err != nil {
		return nil, err
	}
	return &drivers.EngineInfo{ID: d.engine.cfg.ID, Name: d.engine.cfg.ID, Version: "1", OS: runtime.GOOS,
		Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), MemoryBytes: 16 << 30}, nil
}

// stale refuses a command that something newer overtook. A library user has no
// sequence and is never stale.
func (d *Driver) stale(workloadID string, cs []*container, cmd drivers.Command) error {
	if cmd.Sequence == 0 {
		return nil
	}
	highest := d.engine.volumeSequence(workloadID, d.env.Node)
	for _, c := range cs {
		highest = max(highest, c.Sequence)
	}
	if highest > cmd.Sequence {
		return &drivers.Error{Class: drivers.ErrStale, Op: fmt.Sprintf("carry out command %d on %s", cmd.Sequence, workloadID),
			Err: fmt.Errorf("command %d was there already", highest)}
	}
	return nil
}

func notFound(verb, workloadID string) error {
	return &drivers.Error{Class: drivers.ErrNotFound, Op: verb + " " + workloadID}
}

// secret resolves a reference.
func (d *Driver) secret(ctx context.Context, namespace string, ref drivers.SecretRef) ([]byte, error) {
	if d.env.Secrets == nil {
		return nil, &drivers.Error{Class: drivers.ErrDenied, Op: fmt.Sprintf("resolve secret %s", ref),
			Err: errors.New("this node keeps no secrets"), Hint: "set runtime.secrets_dir"}
	}
	return d.env.Secrets.ResolveSecret(ctx, namespace, ref)
}

// stopAll stops containers side by side, each within its grace.
func (d *Driver) stopAll(ctx context.Context, cs []*container) error {
	if len(cs) == 1 {
		return d.stop(ctx, cs[0])
	}
	errs := make([]error, len(cs))
	var wg sync.WaitGroup
	for i, c := range cs {
		wg.Go(func() { errs[i] = d.stop(ctx, c) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (d *Driver) stop(ctx context.Context, c *container) error {
	return d.do(ctx, OpStop, c.Workload, &c.steer, func() error {
		wait, killed := c.steer.stop, false
		if grace := c.Spec.Grace(); c.steer.stopNever || wait > grace {
			wait, killed = grace, true
		}
		if wait > 0 && d.engine.isRunning(c) {
			if err := sleep(ctx, d.engine.cfg.Clock, wait); err != nil {
				return fmt.Errorf("stop container %s: %w", c.Name, err)
			}
		}
		return d.engine.stop(c, killed)
	})
}

func (d *Driver) start(ctx context.Context, c *container) error {
	return d.do(ctx, OpStart, c.Workload, &c.steer, func() error { return d.engine.start(c) })
}

func (d *Driver) remove(ctx context.Context, c *container) error {
	return d.do(ctx, OpRemove, c.Workload, &c.steer, func() error { return d.engine.remove(c, false) })
}
