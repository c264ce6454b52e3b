package drivers

import (
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// The defaults WithDefaults fills in. Times are durations, sizes bytes.
const (
	DefaultNamespace      = "default"
	DefaultMonitor        = 2 * time.Second
	DefaultGrace          = 10 * time.Second
	DefaultParallelism    = 1
	DefaultHealthInterval = 10 * time.Second
	DefaultHealthTimeout  = 5 * time.Second
	DefaultHealthRetries  = 3
	DefaultHookTimeout    = 5 * time.Minute
	DefaultSecretMode     = "0400"
	DefaultLogMaxSize     = 10 << 20
	DefaultLogMaxFiles    = 3
)

// The defaults of fields that are words.
const (
	DefaultProtocol   = "tcp"
	DefaultProbePath  = "/"
	DefaultHTTPScheme = "http"
)

// WithDefaults returns a deep copy of s with every default of the field's comments
// filled in. It is idempotent and never fails; what it cannot make sense of is left for
// Validate. Backend, Update.Order and Deadline stay empty: their defaults depend on the
// runtime's configuration and on the rest of the spec (see UpdateOrder).
func (s *WorkloadSpec) WithDefaults() *WorkloadSpec {
	d := s.Clone()
	setDefault(&d.Namespace, DefaultNamespace)
	setDefault(&d.PullPolicy, PullMissing)
	for i := range d.Secrets {
		if d.Secrets[i].File != "" {
			setDefault(&d.Secrets[i].Mode, DefaultSecretMode)
		}
	}
	for i := range d.Ports {
		setDefault(&d.Ports[i].Protocol, DefaultProtocol)
	}
	for i := range d.Volumes {
		setDefault(&d.Volumes[i].Type, VolumeNamed)
	}
	setDefaultPtr(&d.Replicas, 1)
	setDefault(&d.Restart.Policy, RestartAlways)
	d.Health.setDefaults()
	setDefaultPtr(&d.Stop.Grace, Duration(DefaultGrace))
	setDefault(&d.Update.Parallelism, DefaultParallelism)
	setDefaultPtr(&d.Update.Monitor, Duration(DefaultMonitor))
	setDefaultPtr(&d.Update.Rollback, true)
	if d.PreDeploy != nil {
		setDefault(&d.PreDeploy.Timeout, Duration(DefaultHookTimeout))
	}
	setDefaultPtr(&d.Logs.Ship, true)
	setDefaultPtr(&d.Logs.MaxSize, *resource.NewQuantity(DefaultLogMaxSize, resource.BinarySI))
	setDefault(&d.Logs.MaxFiles, DefaultLogMaxFiles)
	return d
}

func (h *HealthCheck) setDefaults() {
	if h == nil {
		return
	}
	setDefault(&h.Interval, Duration(DefaultHealthInterval))
	setDefault(&h.Timeout, Duration(DefaultHealthTimeout))
	setDefault(&h.Retries, DefaultHealthRetries)
	if h.HTTP != nil {
		setDefault(&h.HTTP.Path, DefaultProbePath)
		setDefault(&h.HTTP.Scheme, DefaultHTTPScheme)
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func setDefaultPtr[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

// Clone returns a deep copy of s.
func (s *WorkloadSpec) Clone() *WorkloadSpec {
	c := *s
	c.Registry = clonePtr(s.Registry)
	c.Command, c.Args = slices.Clone(s.Command), slices.Clone(s.Args)
	c.Env, c.Labels = maps.Clone(s.Env), maps.Clone(s.Labels)
	c.Secrets, c.Ports = slices.Clone(s.Secrets), slices.Clone(s.Ports)
	c.Volumes, c.Networks = slices.Clone(s.Volumes), slices.Clone(s.Networks)
	for i := range c.Volumes {
		c.Volumes[i].Size = cloneQuantity(c.Volumes[i].Size)
	}
	for i := range c.Networks {
		c.Networks[i].Aliases = slices.Clone(c.Networks[i].Aliases)
	}
	c.Replicas = clonePtr(s.Replicas)
	c.Resources = s.Resources.clone()
	c.Health = s.Health.clone()
	c.Stop.Grace = clonePtr(s.Stop.Grace)
	c.Update.Monitor, c.Update.Rollback = clonePtr(s.Update.Monitor), clonePtr(s.Update.Rollback)
	if c.PreDeploy = clonePtr(s.PreDeploy); c.PreDeploy != nil {
		c.PreDeploy.Command = slices.Clone(c.PreDeploy.Command)
	}
	c.Security.CapAdd, c.Security.CapDrop = slices.Clone(s.Security.CapAdd), slices.Clone(s.Security.CapDrop)
	c.Security.Devices, c.Security.Sysctls = slices.Clone(s.Security.Devices), maps.Clone(s.Security.Sysctls)
	c.Logs.Ship, c.Logs.MaxSize = clonePtr(s.Logs.Ship), cloneQuantity(s.Logs.MaxSize)
	return &c
}

func (r Resources) clone() Resources {
	r.CPU, r.Memory, r.Shm = cloneQuantity(r.CPU), cloneQuantity(r.Memory), cloneQuantity(r.Shm)
	r.Ulimits = slices.Clone(r.Ulimits)
	if r.GPU = clonePtr(r.GPU); r.GPU != nil {
		r.GPU.Memory = cloneQuantity(r.GPU.Memory)
	}
	return r
}

func (h *HealthCheck) clone() *HealthCheck {
	c := clonePtr(h)
	if c == nil {
		return nil
	}
	c.Exec = slices.Clone(c.Exec)
	c.TCP = clonePtr(c.TCP)
	if c.HTTP = clonePtr(c.HTTP); c.HTTP != nil {
		c.HTTP.Headers = maps.Clone(c.HTTP.Headers)
	}
	return c
}

func clonePtr[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

func cloneQuantity(q *resource.Quantity) *resource.Quantity {
	if q == nil {
		return nil
	}
	v := q.DeepCopy()
	return &v
}
