package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// create makes a container for an ordinal (or the hook) without starting it, or takes
// over the one that is there: from an interrupted attempt, or because it is the wanted
// one already. Names make it idempotent; the engine gives each to one container.
func (r *rollout) create(ctx context.Context, ordinal int) (object, error) {
	t := target{node: r.d.env.Node, cmd: r.cmd, revision: r.revision, imageID: r.imageID,
		ordinal: ordinal, networks: r.networks, secretEnv: r.secrets.env}
	b, err := translate(r.spec, t)
	if err != nil {
		return object{}, err
	}
	if o, ok := r.find(b.Name); ok {
		if usable(o) {
			return o, r.complete(ctx, o, b)
		}
		if err := r.d.removeContainer(ctx, o.id, o.name); err != nil {
			return object{}, err
		}
	}
	o, err := r.createOrAdopt(ctx, b)
	if err != nil {
		return object{}, r.secrets.scrub(err)
	}
	return o, r.complete(ctx, o, b)
}

// createOrAdopt creates the container or takes over the one that has its name. While
// the engine still works on the request of a worker that was killed, the name is taken
// and nothing has it yet.
func (r *rollout) createOrAdopt(ctx context.Context, b blueprint) (object, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(r.d.cfg.CallTimeout)
	for {
		o, err := r.d.createNamed(ctx, b)
		if err == nil {
			r.noteMade(o.id)
			return o, nil
		}
		var taken *nameTaken
		if !errors.As(err, &taken) {
			return object{}, err
		}
		o, err = r.adoptNamed(ctx, b)
		if !errors.Is(err, errGone) {
			return o, err
		}
		if time.Now().After(deadline) {
			return object{}, fmt.Errorf("create container %s: %w", b.Name, plain(taken.err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return object{}, fmt.Errorf("create container %s: %w", b.Name, context.Cause(ctx))
		}
	}
}

// usable says whether a container can serve: the engine gave up on the others.
func usable(o object) bool {
	return o.state != container.StateDead && o.state != container.StateRemoving
}

// nameTaken says that another container has the name.
type nameTaken struct{ err error }

func (e *nameTaken) Error() string { return e.err.Error() }

func (d *Driver) createNamed(ctx context.Context, b blueprint) (object, error) {
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	made, err := d.cli.ContainerCreate(ctx, b.Config, b.Host, b.Network, nil, b.Name)
	if cerrdefs.IsConflict(err) {
		return object{}, &nameTaken{err: err}
	}
	if err != nil {
		if strings.Contains(err.Error(), "bind source path does not exist") {
			return object{}, &drivers.Error{Class: drivers.ErrNotFound, Op: "create container " + b.Name,
				Err: plain(err), Hint: "create the path on the node, or mount a named volume"}
		}
		return object{}, classify("create container "+b.Name, err)
	}
	return newObject(container.Summary{ID: made.ID, Names: []string{b.Name}, State: container.StateCreated,
		Labels: b.Config.Labels, Created: time.Now().Unix()}), nil
}

// adoptNamed takes over the container that has the name already, if it is ours and was
// made for the same thing. That happens when the engine's answer to an earlier creation
// was lost. Errors: errGone, ErrConflict.
func (r *rollout) adoptNamed(ctx context.Context, b blueprint) (object, error) {
	c, err := r.d.inspect(ctx, b.Name)
	if cerrdefs.IsNotFound(err) {
		return object{}, fmt.Errorf("adopt container %s: %w", b.Name, errGone)
	}
	if err != nil {
		return object{}, classify("inspect container "+b.Name, err)
	}
	o := objectOf(c)
	for _, label := range []string{drivers.LabelNode, drivers.LabelWorkload, drivers.LabelRevision, drivers.LabelRole} {
		if o.labels[label] != b.Config.Labels[label] {
			return object{}, &drivers.Error{Class: drivers.ErrConflict, Op: "create container " + b.Name,
				Err:  errors.New("a container of that name exists that this node did not make for " + r.spec.ID()),
				Hint: "remove it with docker rm " + b.Name}
		}
	}
	return o, nil
}

// objectOf is newObject for a container that was inspected.
func objectOf(c container.InspectResponse) object {
	s := container.Summary{ID: c.ID, Names: []string{c.Name}, State: c.State.Status, Labels: c.Config.Labels}
	if t, err := time.Parse(time.RFC3339Nano, c.Created); err == nil {
		s.Created = t.Unix()
	}
	o := newObject(s)
	if c.NetworkSettings != nil {
		for name := range c.NetworkSettings.Networks {
			o.networks = append(o.networks, name)
		}
	}
	return o
}

// complete does what creation leaves over. A container that never ran may come from an
// attempt that was cut off before that; one that ran has it all.
func (r *rollout) complete(ctx context.Context, o object, b blueprint) error {
	if o.state != container.StateCreated {
		return nil
	}
	attached := make(map[string]bool, len(o.networks))
	for _, n := range o.networks {
		attached[n] = true
	}
	if err := r.d.attachFurther(ctx, o.id, b, attached); err != nil {
		return err
	}
	return r.d.copySecrets(ctx, o.id, r.secrets)
}

// errGone says that a container disappeared under us.
var errGone = errors.New("the container is gone")

// start starts a container by its ID and returns the engine's account of it. A command
// that cannot be run is a *drivers.RolloutError.
func (r *rollout) start(ctx context.Context, o object) (inspected, error) {
	if o.state == container.StatePaused {
		if err := r.d.unpause(ctx, o); err != nil {
			return inspected{}, err
		}
	}
	if !o.up() {
		if err := r.d.startContainer(ctx, o); err != nil {
			return inspected{}, err
		}
	}
	c, err := r.d.inspect(ctx, o.id)
	if cerrdefs.IsNotFound(err) {
		return inspected{}, fmt.Errorf("start container %s: %w", o.name, errGone)
	}
	if err != nil {
		return inspected{}, classify("inspect container "+o.name, err)
	}
	o.state = c.State.Status
	return inspected{object: o, InspectResponse: c}, nil
}

func (d *Driver) startContainer(ctx context.Context, o object) error {
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	err := d.cli.ContainerStart(ctx, o.id, container.StartOptions{})
	if err == nil {
		return nil
	}
	if cerrdefs.IsNotFound(err) {
		return fmt.Errorf("start container %s: %w", o.name, errGone)
	}
	err = classify("start container "+o.name, err)
	if errors.Is(err, drivers.ErrInvalidSpec) {
		// The engine took the container and cannot run its command.
		return &drivers.RolloutError{Reason: "StartFailed", Instance: o.ordinal,
			Message: fmt.Sprintf("%s does not start: %v", o.subject(), err)}
	}
	return err
}

// stop asks a container to end, within its own grace, and waits for it. The container
// stays.
func (d *Driver) stop(ctx context.Context, o object) error {
	d.probes.drop(o.id)
	grace := drivers.DefaultGrace
	if spec := o.spec(); spec != nil {
		grace = spec.Grace()
	}
	ctx, cancel := context.WithTimeout(ctx, grace+d.cfg.CallTimeout)
	defer cancel()
	err := d.cli.ContainerStop(ctx, o.id, container.StopOptions{})
	if err == nil || cerrdefs.IsNotFound(err) {
		return nil
	}
	return classify("stop container "+o.name, err)
}

// unpause thaws a container that somebody froze. Only starting needs it: the engine
// thaws what it is asked to stop.
func (d *Driver) unpause(ctx context.Context, o object) error {
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	err := d.cli.ContainerUnpause(ctx, o.id)
	if err == nil || cerrdefs.IsNotFound(err) || cerrdefs.IsConflict(err) {
		return nil
	}
	return classify("unpause container "+o.name, err)
}

// removeContainer removes a container, whatever its state, and the anonymous volumes
// that came with it. It returns when the container is gone.
func (d *Driver) removeContainer(ctx context.Context, id, name string) error {
	d.probes.drop(id)
	return d.remove(ctx, id, name, true)
}

func (d *Driver) remove(ctx context.Context, id, name string, force bool) error {
	callCtx, cancel := d.callContext(ctx)
	defer cancel()
	err := d.cli.ContainerRemove(callCtx, id, container.RemoveOptions{Force: force, RemoveVolumes: true})
	if err == nil || cerrdefs.IsNotFound(err) {
		return nil
	}
	if strings.Contains(err.Error(), "already in progress") {
		return d.awaitGone(ctx, id, name)
	}
	return classify("remove container "+name, err)
}

// awaitGone waits for a removal that somebody else has begun.
func (d *Driver) awaitGone(ctx context.Context, id, name string) error {
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := d.cli.ContainerInspect(ctx, id); cerrdefs.IsNotFound(err) {
			return nil
		} else if err != nil {
			return classify("remove container "+name, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return classify("remove container "+name, ctx.Err())
		}
	}
}
