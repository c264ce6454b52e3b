package sim

import (
	"fmt"
	"slices"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// volumeName is the engine's name of a spec's volume.
func volumeName(spec *drivers.WorkloadSpec, v drivers.Volume) string {
	if v.External {
		return v.Source
	}
	return spec.Namespace + "." + spec.Name + "." + v.Source
}

func networkName(namespace string, n drivers.Network) string {
	if n.External {
		return n.Name
	}
	return namespace + "." + n.Name
}

// AddVolume and AddNetwork put something into the engine that is not ours: what
// External refers to.
func (e *Engine) AddVolume(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.volumes[name] = &volume{Name: name}
}

// AddNetwork puts a network into the engine that is not ours.
func (e *Engine) AddNetwork(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.networks[name] = &network{Name: name}
}

// ensure makes the spec's volumes and networks and returns the volumes that are new.
// Errors: ErrNotFound (an external one is missing), ErrConflict (somebody else's has
// the name).
func (e *Engine) ensure(spec *drivers.WorkloadSpec, node string, sequence uint64) (made []string, err error) {
	if len(spec.Volumes) == 0 && len(spec.Networks) == 0 {
		return nil, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, v := range spec.Volumes {
		if v.Type != drivers.VolumeNamed {
			continue
		}
		name := volumeName(spec, v)
		have, ok := e.volumes[name]
		switch {
		case v.External && !ok:
			return made, &drivers.Error{Class: drivers.ErrNotFound, Op: fmt.Sprintf("volumes[%d]: find volume %s", i, name)}
		case v.External:
		case ok && (have.Workload != spec.ID() || have.Node != node):
			return made, &drivers.Error{Class: drivers.ErrConflict, Op: "create volume " + name, Err: fmt.Errorf("it is not ours")}
		case ok:
			have.Retain = v.Retain
		default:
			e.volumes[name] = &volume{Name: name, Workload: spec.ID(), Node: node, Retain: v.Retain, Sequence: sequence}
			made = append(made, name)
		}
	}
	for i, n := range spec.Networks {
		name := networkName(spec.Namespace, n)
		have, ok := e.networks[name]
		switch {
		case n.External && !ok:
			return made, &drivers.Error{Class: drivers.ErrNotFound, Op: fmt.Sprintf("networks[%d]: find network %s", i, name)}
		case n.External:
		case ok && have.Namespace != spec.Namespace:
			return made, &drivers.Error{Class: drivers.ErrConflict, Op: "create network " + name, Err: fmt.Errorf("it is not ours")}
		case !ok:
			e.networks[name] = &network{Name: name, Namespace: spec.Namespace, Node: node}
		}
	}
	return made, e.save()
}

// volumeSequence is the highest sequence a volume of the workload was made by.
func (e *Engine) volumeSequence(workloadID, node string) uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	var highest uint64
	for _, v := range e.volumes {
		if v.Workload == workloadID && v.Node == node && !v.Retain {
			highest = max(highest, v.Sequence)
		}
	}
	return highest
}

// settle records what a successful deploy wants and drops networks nobody uses any
// more.
func (e *Engine) settle(spec *drivers.WorkloadSpec, node string) error {
	if err := e.setDesired(spec.ID(), spec.ReplicaCount()); err != nil {
		return err
	}
	return e.dropNetworks(node, spec.Namespace)
}

// dropOwned removes the volumes and networks a destroyed workload owned.
func (e *Engine) dropOwned(workloadID, node string) error {
	ns, _, _ := drivers.ParseWorkloadID(workloadID)
	e.mu.Lock()
	for name, v := range e.volumes {
		if v.Workload == workloadID && v.Node == node && !v.Retain {
			delete(e.volumes, name)
		}
	}
	delete(e.desired, workloadID)
	delete(e.failed, workloadID)
	e.mu.Unlock()
	return e.dropNetworks(node, ns)
}

// dropVolumes removes volumes that a failed attempt made, unless a container uses them.
func (e *Engine) dropVolumes(workloadID string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.byWorkload[workloadID]) > 0 {
		return nil
	}
	for _, name := range names {
		delete(e.volumes, name)
	}
	return e.save()
}

// dropNetworks removes the networks of a namespace that no container is joined to.
func (e *Engine) dropNetworks(node, namespace string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, n := range e.networks {
		if n.Namespace == namespace && n.Node == node && !e.joined(name) {
			delete(e.networks, name)
		}
	}
	return e.save()
}

func (e *Engine) joined(name string) bool {
	for _, c := range e.containers {
		ns, _, _ := drivers.ParseWorkloadID(c.Workload)
		if slices.ContainsFunc(c.Spec.Networks, func(n drivers.Network) bool { return networkName(ns, n) == name }) {
			return true
		}
	}
	return false
}

// current returns the instances of the revision that a restart is about, the newest, and
// whether the workload exists: one that wants no instances has none to restart.
func (e *Engine) current(all []*container) (cs []*container, known bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var newest *container
	for _, c := range all {
		if c.Role == drivers.RoleInstance && (newest == nil || c.Created.After(newest.Created)) {
			newest = c
		}
	}
	if newest == nil {
		return nil, false
	}
	if n, ok := e.desired[newest.Workload]; ok && n == 0 {
		return nil, true
	}
	return slices.DeleteFunc(slices.Clone(all), func(c *container) bool {
		return c.Role != drivers.RoleInstance || c.Revision != newest.Revision
	}), true
}

// RemoveVolume removes a volume, as an operator does.
func (e *Engine) RemoveVolume(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.volumes, name)
}
