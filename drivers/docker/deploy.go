package docker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// cleanupTimeout bounds what is done after the caller's context has ended, besides the
// grace of instances that are stopped.
const cleanupTimeout = time.Minute

// Deploy implements drivers.RuntimeDriver.
func (d *Driver) Deploy(ctx context.Context, spec *drivers.WorkloadSpec) (*drivers.WorkloadStatus, error) {
	if err := d.CheckSpec(spec); err != nil {
		return nil, err
	}
	unlock, err := d.workloads.lock(ctx, spec.ID())
	if err != nil {
		return nil, err
	}
	defer unlock()
	resolved := spec.WithDefaults()
	if err := d.resolveBinds(resolved); err != nil {
		return nil, err
	}
	if err := d.checkAppArmor(ctx, resolved); err != nil {
		return nil, err
	}
	r := &rollout{d: d, cmd: drivers.CommandFrom(ctx), spec: resolved,
		made: make(map[string]bool), stopped: make(map[string]bool)}
	status, err := r.run(ctx)
	if err != nil {
		return nil, r.secrets.scrub(r.conclude(ctx, err))
	}
	return status, nil
}

// rollout is one attempt to carry out one deploy.
type rollout struct {
	d    *Driver
	cmd  drivers.Command
	spec *drivers.WorkloadSpec

	imageID  string
	revision string
	secrets  secretSet
	// networks holds the engine's IDs of the spec's networks by name.
	networks map[string]string
	// objects and records are what existed when the attempt began.
	objects []object
	records []record
	// started are the instances, all passed, where none had to make way.
	started []inspected
	// touched says that something may have been made.
	touched bool

	mu sync.Mutex
	// made are the IDs of the containers this attempt created, stopped of those it
	// stopped.
	made, stopped map[string]bool
}

func (r *rollout) noteMade(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made[id] = true
}

func (r *rollout) noteStopped(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped[id] = true
}

// find returns the object of that name.
func (r *rollout) find(name string) (object, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.objects {
		if o.name == name {
			return o, true
		}
	}
	return object{}, false
}

// forget drops an object that has gone.
func (r *rollout) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, o := range r.objects {
		if o.id == id {
			r.objects = append(r.objects[:i:i], r.objects[i+1:]...)
			return
		}
	}
}

// run brings the workload to the wanted revision.
func (r *rollout) run(ctx context.Context) (*drivers.WorkloadStatus, error) {
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	r.touched = true
	networks, release, err := r.d.holdNetworks(ctx, r.spec, r.cmd)
	defer release()
	if err != nil {
		return nil, err
	}
	r.networks = networks
	if err := r.d.ensureVolumes(ctx, r.spec, r.cmd); err != nil {
		return nil, err
	}
	if err := r.runHook(ctx); err != nil {
		return nil, err
	}
	if err := r.bringUp(ctx); err != nil {
		return nil, err
	}
	return r.finish(ctx)
}

// prepare reads what there is and what is needed, and changes nothing but the engine's
// images.
func (r *rollout) prepare(ctx context.Context) error {
	err := parallel(ctx, 3, func(ctx context.Context, i int) (err error) {
		switch i {
		case 0:
			r.objects, err = r.d.observe(ctx, r.spec.ID())
			if err == nil {
				err = checkSequence(r.cmd, r.spec.ID(), r.objects, nil)
			}
		case 1:
			r.records, err = r.d.records(ctx, r.spec.ID())
			if err == nil {
				err = checkSequence(r.cmd, r.spec.ID(), nil, r.records)
			}
		default:
			r.imageID, _, err = r.d.ensureImage(ctx, r.spec)
		}
		return err
	})
	if err != nil {
		return err
	}
	r.revision = r.spec.Revision(r.imageID)
	r.secrets, err = r.d.resolveSecrets(ctx, r.spec)
	return err
}

// checkSequence refuses to act for a command when something was made for a later one.
// A driver used without commands has no order to keep.
func checkSequence(cmd drivers.Command, workloadID string, objects []object, records []record) error {
	if cmd.Sequence == 0 {
		return nil
	}
	newest := uint64(0)
	for _, o := range objects {
		newest = max(newest, o.sequence)
	}
	for _, r := range records {
		newest = max(newest, r.sequence)
	}
	if newest <= cmd.Sequence {
		return nil
	}
	return &drivers.Error{Class: drivers.ErrStale, Op: "change " + workloadID,
		Err: fmt.Errorf("command %d is older than command %d, which made what is there", cmd.Sequence, newest)}
}

// errUnfenced says that nobody could tell whether the claim still holds.
var errUnfenced = errors.New("the claim could not be checked")

// fence passes the command's fence. A fence that neither passes nor is lost leaves
// everything as it is.
func (r *rollout) fence(ctx context.Context) error {
	err := r.cmd.Check(ctx)
	if err == nil || errors.Is(err, drivers.ErrStale) {
		return err //nolint:wrapcheck // the fence says what it is about
	}
	return fmt.Errorf("%w: %w", errUnfenced, err)
}

// conclude decides what becomes of an attempt that did not succeed.
func (r *rollout) conclude(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(err, drivers.ErrStale), errors.Is(cause, drivers.ErrStale):
		if !errors.Is(err, drivers.ErrStale) {
			err = &drivers.Error{Class: drivers.ErrStale, Op: "deploy " + r.spec.ID(), Err: cause}
		}
		if r.touched {
			r.discard(ctx)
		}
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		if !isFailure(err) {
			err = &drivers.RolloutError{Reason: "DeadlineExceeded", Instance: wholeWorkload,
				Message: "the deploy was not done by its deadline: " + err.Error()}
		}
	case cause != nil, errors.Is(err, drivers.ErrUnavailable), errors.Is(err, errUnfenced):
		// The next attempt adopts what is there.
		return fmt.Errorf("deploy %s: %w", r.spec.ID(), err)
	}
	if !r.touched {
		return fmt.Errorf("deploy %s: %w", r.spec.ID(), err)
	}
	return r.rollBack(ctx, err)
}

// finish removes what the new state does not want, and reads the result. A first deploy
// leaves nothing to remove and has just read all there is.
func (r *rollout) finish(ctx context.Context) (*drivers.WorkloadStatus, error) {
	if len(r.objects) == 0 && len(r.records) == 0 && len(r.started) == 1 && r.spec.PreDeploy == nil {
		return r.d.assemble(r.spec.ID(), r.started, nil), nil
	}
	objects, records, err := r.d.survey(ctx, r.spec.ID())
	if err != nil {
		return nil, err
	}
	var stay, leave []object
	for _, o := range objects {
		if o.role == drivers.RoleInstance && o.revision == r.revision && o.ordinal >= 0 && o.ordinal < r.spec.ReplicaCount() {
			stay = append(stay, o)
		} else {
			leave = append(leave, o)
		}
	}
	if len(leave) > 0 {
		if err := r.fence(ctx); err != nil {
			return nil, err
		}
		if err := r.d.discardAll(ctx, leave); err != nil {
			return nil, err
		}
	}
	records, err = r.d.settleRecord(ctx, r.spec, r.cmd, r.revision, stay, records)
	if err != nil {
		return nil, err
	}
	if attachedToShared(leave) {
		if err := r.d.removeUnusedNetworks(ctx, r.spec.Namespace); err != nil {
			return nil, err
		}
	}
	all, err := r.d.inspectAll(ctx, stay)
	if err != nil {
		return nil, err
	}
	return r.d.assemble(r.spec.ID(), all, records), nil
}

// attachedToShared says whether removing the objects may have left a network unused.
func attachedToShared(objects []object) bool {
	for _, o := range objects {
		spec := o.spec()
		if spec == nil || len(spec.Networks) > 0 {
			return true
		}
	}
	return false
}

// discardAll stops and removes containers, all at the same time.
func (d *Driver) discardAll(ctx context.Context, objects []object) error {
	return parallel(ctx, len(objects), func(ctx context.Context, i int) error {
		if objects[i].up() {
			if err := d.stop(ctx, objects[i]); err != nil {
				return err
			}
		}
		return d.removeContainer(ctx, objects[i].id, objects[i].name)
	})
}
