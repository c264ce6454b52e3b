package docker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
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
// removed until release is called, which is never nil. ids are the engine's IDs by name.
func (d *Driver) holdNetworks(ctx context.Context, spec *drivers.WorkloadSpec, cmd drivers.Command) (ids map[string]string, release func(), err error) {
	ids = make(map[string]string, len(spec.Networks))
	var held []string
	release = func() {
		for _, name := range held {
			d.networks.add(name, -1)
		}
	}
	for i, n := range spec.Networks {
		name := n.Name
		if n.External {
			ids[name], err = d.findNetwork(ctx, name, fmt.Sprintf("networks[%d]", i))
		} else {
			name = networkName(spec.Namespace, n.Name)
			d.networks.add(name, 1)
			held = append(held, name)
			ids[name], err = d.ensureNetwork(ctx, name, spec, cmd)
		}
		if err != nil {
			return nil, release, err
		}
	}
	return ids, release, nil
}

func (d *Driver) findNetwork(ctx context.Context, name, path string) (id string, err error) {
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	found, err := d.cli.NetworkInspect(ctx, name, network.InspectOptions{})
	if cerrdefs.IsNotFound(err) {
		return "", &drivers.Error{Class: drivers.ErrNotFound, Op: path + ": use network " + name,
			Hint: "create it first, or leave out external to have one made"}
	}
	if err != nil {
		return "", classify("inspect network "+name, err)
	}
	return found.ID, nil
}

// ensureNetwork makes a network of the namespace unless there is one, and returns its
// ID.
func (d *Driver) ensureNetwork(ctx context.Context, name string, spec *drivers.WorkloadSpec, cmd drivers.Command) (id string, err error) {
	unlock, err := d.networks.byName.lock(ctx, name)
	if err != nil {
		return "", err
	}
	defer unlock()
	found, err := d.networksNamed(ctx, name)
	if err != nil {
		return "", err
	}
	for _, n := range found {
		if n.Labels[drivers.LabelNode] != d.env.Node || n.Labels[drivers.LabelNamespace] != spec.Namespace {
			return "", &drivers.Error{Class: drivers.ErrConflict, Op: "use network " + name,
				Err:  fmt.Errorf("a network of that name exists that this node did not make"),
				Hint: "remove it with docker network rm " + name + ", or name another"}
		}
	}
	switch len(found) {
	case 0:
		return d.createNetwork(ctx, name, spec, cmd)
	case 1:
		return found[0].ID, nil
	default:
		return d.chooseNetwork(ctx, name, found)
	}
}

// networksNamed lists the networks of exactly that name, the oldest first. There can be
// several: unlike containers, the engine lets two networks that are made at the same
// time have one name, which happens when a worker dies while the engine makes one for
// it. That is why containers are attached by the network's ID.
func (d *Driver) networksNamed(ctx context.Context, name string) ([]network.Summary, error) {
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	found, err := d.cli.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("name", name))})
	if err != nil {
		return nil, classify("look for network "+name, err)
	}
	found = slices.DeleteFunc(found, func(n network.Summary) bool { return n.Name != name })
	slices.SortFunc(found, func(a, b network.Summary) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return found, nil
}

func (d *Driver) createNetwork(ctx context.Context, name string, spec *drivers.WorkloadSpec, cmd drivers.Command) (id string, err error) {
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	// It belongs to the namespace, not to the workload that happens to be first.
	labels := ownerLabels(d.env.Node, spec, cmd, roleNetwork)
	delete(labels, drivers.LabelWorkload)
	delete(labels, drivers.LabelName)
	made, err := d.cli.NetworkCreate(ctx, name, network.CreateOptions{Driver: "bridge", Labels: labels})
	if cerrdefs.IsConflict(err) {
		// What a worker that died had asked for came into being since we looked.
		if found, listErr := d.networksNamed(ctx, name); listErr == nil && len(found) > 0 &&
			found[0].Labels[drivers.LabelNode] == d.env.Node && found[0].Labels[drivers.LabelNamespace] == spec.Namespace {
			return found[0].ID, nil
		}
	}
	if err != nil {
		return "", classify("create network "+name, err)
	}
	return made.ID, nil
}

// chooseNetwork settles on one of several networks of a name, the one in use if there
// is one, and removes the others that are not.
func (d *Driver) chooseNetwork(ctx context.Context, name string, found []network.Summary) (id string, err error) {
	chosen := found[0].ID
	var unused []string
	for _, n := range found {
		used, err := d.networkUsed(ctx, n.ID, name)
		if err != nil {
			return "", err
		}
		if !used {
			unused = append(unused, n.ID)
		} else if slices.Contains(unused, chosen) {
			chosen = n.ID
		}
	}
	for _, id := range unused {
		if id == chosen {
			continue
		}
		if err := d.removeNetwork(ctx, id, name); err != nil {
			return "", err
		}
	}
	return chosen, nil
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
	used, err := d.networkUsed(ctx, id, name)
	if err != nil || used {
		return err
	}
	return d.removeNetwork(ctx, id, name)
}

// networkUsed says whether any container, in whatever state, is attached to a network.
// The network's own account lists running ones only.
func (d *Driver) networkUsed(ctx context.Context, id, name string) (bool, error) {
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	users, err := d.cli.ContainerList(ctx, container.ListOptions{All: true, Limit: 1,
		Filters: filters.NewArgs(filters.Arg("network", id))})
	if err != nil {
		return false, classify("list users of network "+name, err)
	}
	return len(users) > 0, nil
}

// removeNetwork removes a network, unless somebody attached to it just now.
func (d *Driver) removeNetwork(ctx context.Context, id, name string) error {
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	err := d.cli.NetworkRemove(ctx, id)
	if err == nil || cerrdefs.IsNotFound(err) || cerrdefs.IsPermissionDenied(err) || cerrdefs.IsConflict(err) {
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
		err := d.cli.NetworkConnect(callCtx, cmp.Or(a.Endpoint.NetworkID, a.Network), id, a.Endpoint)
		cancel()
		if err != nil {
			return classify("connect container "+b.Name+" to network "+a.Network, err)
		}
	}
	return nil
}
