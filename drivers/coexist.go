package drivers

import "fmt"

// CoexistenceFault says why two revisions of the workload cannot run side by side, as
// the end of a sentence, or is empty when they can. A fixed host port is bound once,
// on the host's network the ports cannot even be known, and a volume both revisions
// write to could be corrupted by the older one.
func CoexistenceFault(s *WorkloadSpec) string {
	if s.Security.HostNetwork {
		return "security.hostNetwork makes both revisions listen on the same host ports"
	}
	for i, p := range s.Ports {
		if p.HostPort > 0 {
			return fmt.Sprintf("ports[%d].hostPort %d can be bound by one revision only", i, p.HostPort)
		}
	}
	for i, v := range s.Volumes {
		if v.Type != VolumeTmpfs && !v.ReadOnly {
			return fmt.Sprintf("volumes[%d] would be written by both revisions (mount it readOnly, or take %s)", i, StopFirst)
		}
	}
	return ""
}

// UpdateOrder is the order in which instances are replaced: Update.Order where the user
// chose one, else StartFirst where two revisions can coexist and StopFirst where not.
func (s *WorkloadSpec) UpdateOrder() string {
	switch {
	case s.Update.Order != "":
		return s.Update.Order
	case CoexistenceFault(s) != "":
		return StopFirst
	}
	return StartFirst
}
