package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// rollout is one Deploy.
type rollout struct {
	driver *Driver
	engine *Engine
	spec   *drivers.WorkloadSpec
	cmd    drivers.Command

	steer    steering
	imageID  string
	revision string
	// secrets are the resolved values by variable, or by file: "file:/run/secrets/x".
	secrets map[string]string
	// made is what this attempt created; volumes the ones among them.
	made    []*container
	volumes []string
	// unfenced says that the fence could not be asked: then nothing is for us to decide.
	unfenced bool
}

func (r *rollout) run(ctx context.Context) (*drivers.WorkloadStatus, error) {
	id := r.spec.ID()
	err := r.deploy(ctx)
	if err != nil {
		return nil, r.fail(ctx, err)
	}
	st, err := r.driver.status(id)
	if err != nil {
		return nil, err
	}
	return st, nil
}

// deploy reconciles: what has the wanted revision is kept or started, what has not is
// replaced, and only when all of it is up is the old removed.
func (r *rollout) deploy(ctx context.Context) (err error) {
	id := r.spec.ID()
	if r.steer, err = r.engine.steer(r.spec); err != nil {
		return err
	}
	if err := r.driver.before(ctx, OpInspect, id); err != nil {
		return err
	}
	if err := r.driver.stale(id, r.engine.of(id, r.driver.env.Node), r.cmd); err != nil {
		return err
	}
	if r.imageID, err = r.driver.resolveImage(ctx, r.spec, &r.steer); err != nil {
		return err
	}
	r.revision = r.spec.Revision(r.imageID)
	if err := r.resolveSecrets(ctx); err != nil {
		return err
	}
	if r.volumes, err = r.engine.ensure(r.spec, r.driver.env.Node, r.cmd.Sequence); err != nil {
		return err
	}
	wanted := r.spec.ReplicaCount()
	var todo []int
	for i := range wanted {
		if c := r.instance(i); c == nil || !r.engine.isUp(c) {
			todo = append(todo, i)
		}
	}
	if err := r.runHook(ctx); err != nil {
		return err
	}
	// Where nothing is in the way, there is nothing a batch could spare.
	size := max(1, r.spec.Update.Parallelism)
	if len(r.old(nil)) == 0 {
		size = max(1, len(todo))
	}
	for len(todo) > 0 {
		batch := todo[:min(size, len(todo))]
		todo = todo[len(batch):]
		if err := r.replace(ctx, batch, len(todo) == 0); err != nil {
			return err
		}
	}
	// What was up already has to stand the test too: an earlier attempt may have been
	// interrupted before it could look.
	for i := range wanted {
		if c := r.instance(i); c != nil {
			if err := r.driver.gate(ctx, c, gateOf(r.spec)); err != nil {
				return err
			}
		}
	}
	return r.finish(ctx, wanted)
}

// instance is the container of the wanted revision with an ordinal, or nil.
func (r *rollout) instance(ordinal int) *container {
	for _, c := range r.engine.of(r.spec.ID(), r.driver.env.Node) {
		if c.Role == drivers.RoleInstance && c.Revision == r.revision && c.Instance == ordinal {
			return c
		}
	}
	return nil
}

// old returns the instances of other revisions that have one of the ordinals; nil
// means all ordinals.
func (r *rollout) old(ordinals []int) []*container {
	var out []*container
	for _, c := range r.engine.of(r.spec.ID(), r.driver.env.Node) {
		if c.Role == drivers.RoleInstance && c.Revision != r.revision && (ordinals == nil || slices.Contains(ordinals, c.Instance)) {
			out = append(out, c)
		}
	}
	return out
}

// replace brings up the instances of a batch and stops the old ones with the same
// ordinals, in the spec's order. With the last batch, all instances have been started.
func (r *rollout) replace(ctx context.Context, batch []int, last bool) error {
	old := r.old(batch)
	fresh := make([]*container, 0, len(batch))
	for _, i := range batch {
		c, err := r.create(ctx, i)
		if err != nil {
			return err
		}
		fresh = append(fresh, c)
	}
	stopFirst := r.spec.UpdateOrder() == drivers.StopFirst
	if stopFirst && len(old) > 0 {
		if err := r.stop(ctx, old); err != nil {
			return err
		}
	}
	if err := r.fence(ctx); err != nil {
		return err
	}
	for _, c := range fresh {
		if err := r.driver.start(ctx, c); err != nil {
			return err
		}
		r.report(drivers.PhaseStarting, c.Instance)
	}
	if last {
		r.reportStarted()
	}
	for _, c := range fresh {
		if err := r.driver.gate(ctx, c, gateOf(r.spec)); err != nil {
			return err
		}
	}
	if !stopFirst && len(old) > 0 {
		return r.stop(ctx, old)
	}
	return nil
}

// fence passes the command's fence.
func (r *rollout) fence(ctx context.Context) error {
	err := r.cmd.Check(ctx)
	if err == nil {
		return nil
	}
	r.unfenced = !errors.Is(err, drivers.ErrStale)
	return fmt.Errorf("pass the fence for %s: %w", r.spec.ID(), err)
}

// stop passes the fence and stops what ran before.
func (r *rollout) stop(ctx context.Context, cs []*container) error {
	if err := r.fence(ctx); err != nil {
		return err
	}
	r.report(drivers.PhaseUpdating, cs[0].Instance)
	return r.driver.stopAll(ctx, cs)
}

// create makes the container of an ordinal, or adopts the one there is.
func (r *rollout) create(ctx context.Context, ordinal int) (*container, error) {
	if c := r.instance(ordinal); c != nil {
		return c, nil
	}
	r.report(drivers.PhaseCreating, ordinal)
	return r.make(ctx, r.record(drivers.RoleInstance, ordinal,
		fmt.Sprintf("%s.%s.%s.%d", r.spec.Namespace, r.spec.Name, r.revision, ordinal)), r.steer)
}

func (r *rollout) record(role string, ordinal int, name string) record {
	return record{Name: name, Workload: r.spec.ID(), Node: r.driver.env.Node, Role: role, Instance: ordinal,
		Revision: r.revision, Sequence: r.cmd.Sequence, Command: r.cmd.ID, ImageID: r.imageID, Spec: r.spec}
}

func (r *rollout) make(ctx context.Context, rec record, st steering) (*container, error) {
	var c *container
	err := r.driver.do(ctx, OpCreate, rec.Workload, &r.steer, func() (err error) {
		c, err = r.engine.create(rec, st, r.secrets)
		if c != nil && !errors.Is(err, drivers.ErrAlreadyExists) && !errors.Is(err, drivers.ErrConflict) {
			r.made = append(r.made, c)
		}
		return err
	})
	if err != nil && !errors.Is(err, drivers.ErrAlreadyExists) {
		return nil, err
	}
	return c, nil
}

func (r *rollout) report(phase drivers.Phase, instance int) {
	r.cmd.Report(drivers.Progress{Phase: phase, Instance: instance, Total: int64(r.spec.ReplicaCount())})
}

// reportStarted says that all instances run, before they are watched any longer.
func (r *rollout) reportStarted() {
	if r.cmd.Progress == nil {
		return
	}
	st, err := r.driver.status(r.spec.ID())
	if err != nil || (st.Phase != drivers.PhaseRunning && st.Phase != drivers.PhaseHealthy) {
		return
	}
	r.cmd.Report(drivers.Progress{Phase: drivers.PhaseRunning, Instance: -1, Status: st,
		Current: int64(st.Ready), Total: int64(st.Desired)})
}

// finish removes what the new revision replaced. With no replicas wanted, what is
// there is stopped and one instance of the wanted revision stays, so that the workload
// is still known.
func (r *rollout) finish(ctx context.Context, wanted int) error {
	id := r.spec.ID()
	if wanted == 0 {
		if _, err := r.create(ctx, 0); err != nil {
			return err
		}
	}
	var surplus []*container
	for _, c := range r.engine.of(id, r.driver.env.Node) {
		if c.Role == drivers.RoleInstance && (c.Revision != r.revision || c.Instance >= wanted) {
			surplus = append(surplus, c)
		}
	}
	if len(surplus) > 0 {
		if err := r.stop(ctx, surplus); err != nil {
			return err
		}
	}
	for _, c := range surplus {
		if wanted == 0 && c.Instance == 0 && c.Revision == r.revision {
			continue
		}
		if err := r.driver.remove(ctx, c); err != nil {
			return err
		}
	}
	if err := r.dropHooks(ctx); err != nil {
		return err
	}
	return r.engine.settle(r.spec, r.driver.env.Node)
}

func (r *rollout) resolveSecrets(ctx context.Context) error {
	for i, use := range r.spec.Secrets {
		value, err := r.driver.secret(ctx, r.spec.Namespace, use.Ref)
		if err != nil {
			return fmt.Errorf("secrets[%d]: %w", i, err)
		}
		if r.secrets == nil {
			r.secrets = map[string]string{}
		}
		if use.File != "" {
			r.secrets["file:"+use.File] = string(value)
			continue
		}
		text, err := drivers.SecretText(value)
		if err != nil {
			return fmt.Errorf("secrets[%d]: %w", i, err)
		}
		r.secrets[use.Env] = text
	}
	return nil
}
