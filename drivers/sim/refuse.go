package sim

import "github.com/kranix-io/kranix-runtime/drivers"

// refusable says, by path, which fields Config.Refuse may name and whether a spec uses
// one.
func refusable() map[string]func(*drivers.WorkloadSpec) bool {
	return map[string]func(*drivers.WorkloadSpec) bool{
		"health":              func(s *drivers.WorkloadSpec) bool { return s.Health != nil },
		"networks":            func(s *drivers.WorkloadSpec) bool { return len(s.Networks) > 0 },
		"ports":               func(s *drivers.WorkloadSpec) bool { return len(s.Ports) > 0 },
		"preDeploy":           func(s *drivers.WorkloadSpec) bool { return s.PreDeploy != nil },
		"resources.cpu":       func(s *drivers.WorkloadSpec) bool { return s.Resources.CPU != nil },
		"resources.memory":    func(s *drivers.WorkloadSpec) bool { return s.Resources.Memory != nil },
		"secrets":             func(s *drivers.WorkloadSpec) bool { return len(s.Secrets) > 0 },
		"security.devices":    func(s *drivers.WorkloadSpec) bool { return len(s.Security.Devices) > 0 },
		"security.privileged": func(s *drivers.WorkloadSpec) bool { return s.Security.Privileged },
		"volumes":             func(s *drivers.WorkloadSpec) bool { return len(s.Volumes) > 0 },
	}
}
