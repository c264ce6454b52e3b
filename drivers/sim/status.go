package sim

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// healthOutput is what a simulated health check that fails printed.
const healthOutput = "simulated health check: not healthy"

// status reads a workload's state. Errors: ErrNotFound.
func (d *Driver) status(workloadID string) (*drivers.WorkloadStatus, error) {
	e := d.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	var cs []*container
	for _, c := range e.byWorkload[workloadID] {
		if c.Node == d.env.Node && c.Role == drivers.RoleInstance {
			cs = append(cs, c)
		}
	}
	if len(cs) == 0 {
		return nil, notFound("find workload", workloadID)
	}
	slices.SortStableFunc(cs, func(a, b *container) int {
		return cmp.Or(cmp.Compare(a.Instance, b.Instance), a.Created.Compare(b.Created))
	})
	ns, name, _ := drivers.ParseWorkloadID(workloadID)
	newest := cs[0]
	for _, c := range cs {
		if c.Sequence > newest.Sequence || (c.Sequence == newest.Sequence && c.Created.After(newest.Created)) {
			newest = c
		}
	}
	st := &drivers.WorkloadStatus{ID: workloadID, Namespace: ns, Name: name, Backend: Backend, Node: d.env.Node,
		Revision: newest.Revision, Sequence: newest.Sequence, CommandID: newest.Command, Image: newest.Spec.Image,
		ImageID: newest.ImageID, Desired: newest.Spec.ReplicaCount(), ObservedAt: e.cfg.Clock.Now(),
		Instances: make([]drivers.InstanceStatus, 0, len(cs))}
	if n, ok := e.desired[workloadID]; ok {
		st.Desired = n
	}
	for _, c := range cs {
		in := c.status()
		if in.Phase == drivers.PhaseHealthy || (in.Phase == drivers.PhaseRunning && c.Spec.Health == nil) {
			st.Ready++
		}
		st.Instances = append(st.Instances, in)
	}
	summarize(st)
	return st, nil
}

func (c *container) status() drivers.InstanceStatus {
	st := drivers.InstanceStatus{Instance: c.Instance, ID: c.ID, Name: c.Name, Revision: c.Revision, Restarts: c.Restarts,
		Phase: drivers.PhaseStarting}
	l := c.last()
	if l == nil {
		return st
	}
	st.StartedAt = l.Start.UTC().Format(time.RFC3339Nano)
	if l.Ended {
		code := l.ExitCode
		st.ExitCode, st.OOMKilled = &code, l.OOM
		st.FinishedAt = l.End.UTC().Format(time.RFC3339Nano)
	}
	switch {
	case c.State == stateRunning:
		st.Phase, st.Address, st.Ports = drivers.PhaseRunning, c.Address, slices.Clone(c.Ports)
		switch c.health {
		case healthHealthy:
			st.Phase = drivers.PhaseHealthy
		case healthUnhealthy:
			st.Phase, st.HealthOutput = drivers.PhaseUnhealthy, healthOutput
		}
	case c.State == stateRestarting:
		st.Phase = drivers.PhaseRestarting
	case c.Stopped:
		st.Phase = drivers.PhaseStopped
	case l.ExitCode == 0:
		st.Phase = drivers.PhaseCompleted
	default:
		st.Phase = drivers.PhaseFailed
	}
	if l.Ended && !c.Stopped {
		st.Reason, st.Message = "Exited", fmt.Sprintf("exited with code %d", l.ExitCode)
		if l.OOM {
			st.Reason, st.Message = "OOMKilled", "out of memory"
		}
	}
	return st
}

// summarize derives the workload's phase from its instances.
func summarize(st *drivers.WorkloadStatus) {
	count := map[drivers.Phase]int{}
	var worst *drivers.InstanceStatus
	considered := 0
	for i := range st.Instances {
		in := &st.Instances[i]
		if in.Phase == drivers.PhaseStopped && replaced(st.Instances, i) {
			continue
		}
		considered++
		count[in.Phase]++
		if in.Reason != "" || in.Phase == drivers.PhaseUnhealthy {
			worst = in
		}
	}
	running := count[drivers.PhaseRunning] + count[drivers.PhaseHealthy] + count[drivers.PhaseUnhealthy]
	st.Phase = overall(count, considered, running, st.Desired)
	if worst != nil && st.Phase != drivers.PhaseRunning && st.Phase != drivers.PhaseHealthy {
		st.Reason, st.Message = worst.Reason, fmt.Sprintf("instance %d %s", worst.Instance, worst.Message)
		if worst.Phase == drivers.PhaseUnhealthy {
			st.Reason, st.Message = "Unhealthy", fmt.Sprintf("instance %d: %s", worst.Instance, worst.HealthOutput)
		}
	}
}

// replaced says whether another instance has the ordinal of the ith.
func replaced(all []drivers.InstanceStatus, i int) bool {
	for j := range all {
		if j != i && all[j].Instance == all[i].Instance && all[j].Phase != drivers.PhaseStopped {
			return true
		}
	}
	return false
}

func overall(count map[drivers.Phase]int, considered, running, desired int) drivers.Phase {
	switch {
	case considered == count[drivers.PhaseStopped], desired == 0 && running == 0:
		return drivers.PhaseStopped
	case count[drivers.PhaseUnhealthy] > 0:
		return drivers.PhaseUnhealthy
	case running > 0 && count[drivers.PhaseRestarting]+count[drivers.PhaseFailed] > 0:
		return drivers.PhaseDegraded
	case count[drivers.PhaseRestarting] > 0:
		return drivers.PhaseRestarting
	case count[drivers.PhaseFailed] > 0:
		return drivers.PhaseFailed
	case count[drivers.PhaseStarting] > 0:
		return drivers.PhaseStarting
	case running == 0:
		return drivers.PhaseCompleted
	case running+count[drivers.PhaseCompleted] < desired:
		return drivers.PhaseDegraded
	case count[drivers.PhaseHealthy] == running:
		return drivers.PhaseHealthy
	}
	return drivers.PhaseRunning
}
