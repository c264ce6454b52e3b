package docker

import (
	"context"
	"fmt"
	"sync"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// networkUse counts the operations that are about to attach something to a network, so
// that a destroy elsewhere in the namespace does not remove it from under them. The
// zero value is ready.
type networkUse struct {
	byName keyedLock
	mu     sync.Mutex
	users  map[string]int
}

func (u *networkUse) add(name string, n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.users == nil {
		u.users = make(map[string]int)
	}
	if u.users[name] += n; u.users[name] == 0 {
		delete(u.users, name)
	}
}

func (u *networkUse) inUse(name string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.users[name] > 0
}

// holdNetworks makes sure that the spec's networks exist and keeps them from being
// removed until release is called. It is called even when there is an error.
func (d *Driver) holdNetworks(ctx context.Context, spec *drivers.WorkloadSpec, cmd drivers.Command) (release func(), err error) {
	var held []string
	release = func() {
		for _, name := range held {
			d.networks.add(name, -1)
		}
	}
	for i, n := range spec.Networks {
		if n.External {
			if err := d.findNetwork(ctx, n.Name, fmt.Sprintf("networks[%d]", i)); err != nil {
				return release, err
			}
			continue
		}
		name := networkName(spec.Namespace, n.Name)
		d.networks.add(name, 1)
		held = append(held, name)
		if err := d.ensureNetwork(ctx, name, spec, cmd); err != nil {
			return release, err
		}
	}
	return release, nil
}

func (d *Driver) findNetwork(ctx context.Context, name, path string) error {
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	_, err := d.cli.NetworkInspect(ctx, name, network.InspectOptions{})
	if cerrdefs.IsNotFound(err) {
		return &drivers.Error{Class: drivers.ErrNotFound, Op: path + ": use network " + name,
			Hint: "create it first, or leave out external to have one made"}
	}
	return classify("inspect network "+name, err)
}

// ensureNetwork makes a network of the namespace unless there is one.
func (d *Driver) ensureNetwork(ctx context.Context, name string, spec *drivers.WorkloadSpec, cmd drivers.Command) error {
	unlock, err := d.networks.byName.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	found, err := d.cli.NetworkInspect(ctx, name, network.InspectOptions{})
	switch {
	case err == nil:
		if found.Labels[drivers.LabelNode] != d.env.Node || found.Labels[drivers.LabelNamespace] != spec.Namespace {
			return &drivers.Error{Class: drivers.ErrConflict, Op: "use network " + name,
				Err:  fmt.Errorf("a network of that name exists that this node did not make"),
				Hint: "remove it with docker network rm " + name + ", or name another"}
		}
		return nil
	case !cerrdefs.IsNotFound(err):
		return classify("inspect network "+name, err)
	}
	// It belongs to the namespace, not to the workload that happens to be first.
	labels := ownerLabels(d.env.Node, spec, cmd, roleNetwork)
	delete(labels, drivers.LabelWorkload)
	delete(labels, drivers.LabelName)
	if _, err := d.cli.NetworkCreate(ctx, name, network.CreateOptions{Driver: "bridge", Labels: labels}); err != nil {
		return classify("create network "+name, err)
	}
	return nil
}

// removeUnusedNetworks removes the namespace's networks that no container, in whatever
// state, is attached to.
func (d *Driver) removeUnusedNetworks(ctx context.Context, namespace string) error {
	listCtx, cancel := d.callContext(ctx)
	defer cancel()
	found, err := d.cli.NetworkList(listCtx, network.ListOptions{Filters: filters.NewArgs(
		filters.Arg("label", drivers.LabelNode+"="+d.env.Node),
		filters.Arg("label", drivers.LabelNamespace+"="+namespace),
		filters.Arg("label", drivers.LabelRole+"="+roleNetwork),
	)})
	if err != nil {
		return classify("list networks of "+namespace, err)
	}
	for _, n := range found {
		if err := d.removeUnusedNetwork(ctx, n.ID, n.Name); err != nil {
			return err
		}
	}
	return nil
}

func (d *Driver) removeUnusedNetwork(ctx context.Context, id, name string) error {
	unlock, err := d.networks.byName.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if d.networks.inUse(name) {
		return nil
	}
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	// The network's own account lists running containers only.
	users, err := d.cli.ContainerList(ctx, container.ListOptions{All: true, Limit: 1,
		Filters: filters.NewArgs(filters.Arg("network", id))})
	if err != nil {
		return classify("list users of network "+name, err)
	}
	if len(users) > 0 {
		return nil
	}
	err = d.cli.NetworkRemove(ctx, id)
	if err == nil || cerrdefs.IsNotFound(err) {
		return nil
	}
	if cerrdefs.IsPermissionDenied(err) || cerrdefs.IsConflict(err) {
		// Somebody attached to it just now ("has active endpoints").
		return nil
	}
	return classify("remove network "+name, err)
}

// attachFurther attaches a container that has never run to its networks after the
// first. It may have been done in part before.
func (d *Driver) attachFurther(ctx context.Context, id string, b blueprint, attached map[string]bool) error {
	for _, a := range b.Further {
		if attached[a.Network] {
			continue
		}
		callCtx, cancel := d.callContext(ctx)
		err := d.cli.NetworkConnect(callCtx, a.Network, id, a.Endpoint)
		cancel()
		if err != nil {
			return classify("connect container "+b.Name+" to network "+a.Network, err)
		}
	}
	return nil
}
