package docker

import (
	"fmt"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// summarize fills in the phase, reason, message and Ready of a workload from its
// instances. Each ordinal counts once, with the best of its copies: while an update is
// under way there are two.
func summarize(s *drivers.WorkloadStatus) {
	best := make(map[int]drivers.InstanceStatus, s.Desired)
	for _, i := range s.Instances {
		if have, ok := best[i.Instance]; !ok || rank(i.Phase) > rank(have.Phase) {
			best[i.Instance] = i
		}
	}
	count := make(map[drivers.Phase]int)
	var worst *drivers.InstanceStatus
	missing := 0
	for ordinal := range s.Desired {
		i, ok := best[ordinal]
		if !ok {
			missing++
			continue
		}
		count[i.Phase]++
		if i.Reason != "" && (worst == nil || rank(i.Phase) < rank(worst.Phase)) {
			worst = &i
		}
	}
	up := count[drivers.PhaseRunning] + count[drivers.PhaseHealthy] + count[drivers.PhaseUnhealthy]
	s.Ready = count[drivers.PhaseHealthy] + readyRunning(s, best)
	s.Phase = workloadPhase(s.Desired, up, missing, count, s.Instances)
	if worst != nil && s.Reason == "" {
		s.Reason = worst.Reason
		s.Message = fmt.Sprintf("instance %d: %s", worst.Instance, worst.Message)
	}
	if missing > 0 && s.Reason == "" {
		s.Reason, s.Message = "InstancesMissing", fmt.Sprintf("%d of %d instances do not exist", missing, s.Desired)
	}
}

// readyRunning counts the instances that run and have no health check: with one, ready
// is healthy.
func readyRunning(s *drivers.WorkloadStatus, best map[int]drivers.InstanceStatus) int {
	n := 0
	for ordinal := range s.Desired {
		if i, ok := best[ordinal]; ok && i.Phase == drivers.PhaseRunning && i.Reason != reasonHealthPending {
			n++
		}
	}
	return n
}

func workloadPhase(desired, up, missing int, count map[drivers.Phase]int, all []drivers.InstanceStatus) drivers.Phase {
	switch {
	case desired == 0:
		return drivers.PhaseStopped
	case missing == desired && len(all) == 0:
		return drivers.PhaseFailed
	case up+count[drivers.PhaseCompleted] == desired && up > 0:
		switch {
		case count[drivers.PhaseUnhealthy] > 0:
			return drivers.PhaseUnhealthy
		case count[drivers.PhaseRunning] > 0:
			return drivers.PhaseRunning
		}
		return drivers.PhaseHealthy
	case up > 0 && up+count[drivers.PhaseStarting]+count[drivers.PhaseCompleted] == desired:
		return drivers.PhaseStarting
	case up > 0:
		return drivers.PhaseDegraded
	case count[drivers.PhaseRestarting] > 0:
		return drivers.PhaseRestarting
	case count[drivers.PhaseStarting] > 0:
		return drivers.PhaseStarting
	case count[drivers.PhaseFailed] > 0:
		return drivers.PhaseFailed
	case count[drivers.PhaseStopped] > 0:
		return drivers.PhaseStopped
	case count[drivers.PhaseCompleted] > 0:
		return drivers.PhaseCompleted
	}
	return drivers.PhaseDegraded
}

// rank orders phases from worst to best.
func rank(p drivers.Phase) int {
	switch p {
	case drivers.PhaseHealthy:
		return 8
	case drivers.PhaseRunning:
		return 7
	case drivers.PhaseUnhealthy:
		return 6
	case drivers.PhaseCompleted:
		return 5
	case drivers.PhaseStarting:
		return 4
	case drivers.PhaseRestarting:
		return 3
	case drivers.PhaseStopped:
		return 2
	case drivers.PhaseFailed:
		return 1
	}
	return 0
}
