package docker

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// target is what one container is made for, besides the spec.
type target struct {
	node     string
	cmd      drivers.Command
	revision string
	// imageID pins the image: the tag may move between two instances.
	imageID string
	// ordinal is the instance's number, or hook for the pre-deploy hook.
	ordinal int
	// networks holds the engine's IDs of the networks by name.
	networks map[string]string
	// secretEnv holds the resolved environment secrets as NAME=value.
	secretEnv []string
}

// hook as an ordinal stands for the pre-deploy hook; wholeWorkload as the instance of a
// step for all of them.
const (
	hook          = -1
	wholeWorkload = -1
)

// blueprint is everything the engine is told to make a container.
type blueprint struct {
	Name    string
	Config  *container.Config
	Host    *container.HostConfig
	Network *network.NetworkingConfig
	// Further are the networks after the first, by name. Engines before API 1.44 take
	// one at creation only.
	Further []attachment `json:",omitempty"`
}

type attachment struct {
	Network  string
	Endpoint *network.EndpointSettings
}

// translate says how a spec is made into a container. It is pure: the same spec and
// target give the same blueprint. spec must have passed WithDefaults and Validate.
func translate(spec *drivers.WorkloadSpec, t target) (blueprint, error) {
	encoded, err := encodeSpec(spec)
	if err != nil {
		return blueprint{}, err
	}
	b := blueprint{Name: instanceName(spec, t.revision, t.ordinal)}
	role := drivers.RoleInstance
	if t.ordinal == hook {
		b.Name, role = hookName(spec, t.revision, t.cmd.Sequence), drivers.RoleHook
	}
	labels := make(map[string]string, len(spec.Labels)+10)
	maps.Copy(labels, spec.Labels)
	maps.Copy(labels, ownerLabels(t.node, spec, t.cmd, role))
	labels[drivers.LabelRevision] = t.revision
	labels[drivers.LabelSpec] = encoded

	exposed, bindings := translatePorts(spec.Ports)
	b.Config = &container.Config{
		Image:        t.imageID,
		Entrypoint:   spec.Command,
		Cmd:          spec.Args,
		Env:          translateEnv(spec.Env, t.secretEnv),
		User:         spec.User,
		WorkingDir:   spec.WorkingDir,
		Hostname:     spec.Hostname,
		Tty:          spec.TTY,
		ExposedPorts: exposed,
		Labels:       labels,
		Healthcheck:  translateHealth(spec.Health),
		StopSignal:   spec.Stop.Signal,
		StopTimeout:  seconds(spec.Grace()),
	}
	b.Host = &container.HostConfig{
		PortBindings:   bindings,
		RestartPolicy:  translateRestart(spec.Restart),
		LogConfig:      translateLogs(spec.Logs),
		Mounts:         translateVolumes(spec, t),
		Resources:      translateResources(spec),
		Privileged:     spec.Security.Privileged,
		ReadonlyRootfs: spec.Security.ReadOnlyRoot,
		CapAdd:         spec.Security.CapAdd,
		CapDrop:        spec.Security.CapDrop,
		SecurityOpt:    translateSecurityOptions(spec.Security),
		Sysctls:        spec.Security.Sysctls,
	}
	if spec.Init {
		b.Host.Init = &spec.Init
	}
	if spec.Resources.Shm != nil {
		b.Host.ShmSize = spec.Resources.Shm.Value()
	}
	if spec.Security.HostPID {
		b.Host.PidMode = "host"
	}
	translateNetworks(spec, t, &b)
	if t.ordinal == hook {
		// The hook borrows the instance's surroundings, not its place: it answers on no
		// port and under no name, and it runs once.
		b.Config.Entrypoint, b.Config.Cmd = spec.PreDeploy.Command, nil
		b.Config.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}}
		b.Config.ExposedPorts, b.Host.PortBindings = nil, nil
		b.Host.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyDisabled}
	} else {
		labels[drivers.LabelInstance] = strconv.Itoa(t.ordinal)
	}
	return b, nil
}

func translateEnv(env map[string]string, secrets []string) []string {
	out := make([]string, 0, len(env)+len(secrets))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return append(out, secrets...)
}

func translatePorts(ports []drivers.Port) (nat.PortSet, nat.PortMap) {
	if len(ports) == 0 {
		return nil, nil
	}
	exposed, bindings := make(nat.PortSet, len(ports)), make(nat.PortMap)
	for _, p := range ports {
		port := nat.Port(strconv.Itoa(p.ContainerPort) + "/" + p.Protocol)
		exposed[port] = struct{}{}
		switch {
		case p.HostPort != 0:
			bindings[port] = append(bindings[port], nat.PortBinding{HostIP: p.HostAddress, HostPort: strconv.Itoa(p.HostPort)})
		case p.Publish:
			bindings[port] = append(bindings[port], nat.PortBinding{HostIP: p.HostAddress})
		}
	}
	return exposed, bindings
}

func translateRestart(r drivers.RestartPolicy) container.RestartPolicy {
	p := container.RestartPolicy{Name: container.RestartPolicyMode(r.Policy)}
	if p.IsOnFailure() {
		p.MaximumRetryCount = r.Attempts
	}
	return p
}

// translateHealth makes an exec check the engine's business. The driver probes http and
// tcp itself, and then the image's own check must not have a say. Without a check in
// the spec the image's holds.
func translateHealth(h *drivers.HealthCheck) *container.HealthConfig {
	switch {
	case h == nil:
		return nil
	case len(h.Exec) == 0:
		return &container.HealthConfig{Test: []string{"NONE"}}
	}
	return &container.HealthConfig{
		Test:        append([]string{"CMD"}, h.Exec...),
		Interval:    h.Interval.D(),
		Timeout:     h.Timeout.D(),
		Retries:     h.Retries,
		StartPeriod: h.StartPeriod.D(),
	}
}

func translateLogs(l drivers.LogConfig) container.LogConfig {
	// Whatever the engine's default is: json-file can be read back, rotated and
	// followed, and the log reader counts on it.
	c := container.LogConfig{Type: "json-file", Config: map[string]string{"max-file": strconv.Itoa(l.MaxFiles)}}
	if l.MaxSize != nil {
		c.Config["max-size"] = strconv.FormatInt(l.MaxSize.Value(), 10)
	}
	return c
}

// translateVolumes uses mounts, never binds: a bind makes the host path it is given
// when that is missing, as root. Volumes carry our labels even here, since a mount makes
// one that was removed a moment ago.
func translateVolumes(spec *drivers.WorkloadSpec, t target) []mount.Mount {
	out := make([]mount.Mount, 0, len(spec.Volumes))
	for _, v := range spec.Volumes {
		m := mount.Mount{Target: v.Target, ReadOnly: v.ReadOnly}
		switch v.Type {
		case drivers.VolumeBind:
			m.Type, m.Source = mount.TypeBind, v.Source
		case drivers.VolumeTmpfs:
			m.Type = mount.TypeTmpfs
			if v.Size != nil {
				m.TmpfsOptions = &mount.TmpfsOptions{SizeBytes: v.Size.Value()}
			}
		default:
			m.Type, m.Source = mount.TypeVolume, v.Source
			if !v.External {
				m.Source = volumeName(spec, v.Source)
				m.VolumeOptions = &mount.VolumeOptions{Labels: volumeLabels(t.node, spec, t.cmd, v)}
			}
		}
		out = append(out, m)
	}
	for _, dir := range secretMounts(spec) {
		out = append(out, mount.Mount{Type: mount.TypeVolume, Target: dir, VolumeOptions: &mount.VolumeOptions{
			Labels: volumeLabels(t.node, spec, t.cmd, drivers.Volume{})}})
	}
	return out
}

func translateResources(spec *drivers.WorkloadSpec) container.Resources {
	r := spec.Resources
	var out container.Resources
	if r.CPU != nil {
		out.NanoCPUs = r.CPU.ScaledValue(resource.Nano)
	}
	if r.Memory != nil {
		// The same value for both bounds means no swap: the limit is what was asked for.
		out.Memory, out.MemorySwap = r.Memory.Value(), r.Memory.Value()
	}
	if r.PIDs > 0 {
		out.PidsLimit = &r.PIDs
	}
	for _, u := range r.Ulimits {
		out.Ulimits = append(out.Ulimits, &container.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	if r.GPU != nil {
		out.DeviceRequests = []container.DeviceRequest{{
			Driver: "nvidia", Count: r.GPU.Count, Capabilities: [][]string{{"gpu"}},
		}}
	}
	for _, dev := range spec.Security.Devices {
		out.Devices = append(out.Devices, container.DeviceMapping{
			PathOnHost: dev, PathInContainer: dev, CgroupPermissions: "rwm",
		})
	}
	return out
}

func translateSecurityOptions(s drivers.Security) []string {
	var out []string
	if s.NoNewPrivs {
		out = append(out, "no-new-privileges")
	}
	if s.Seccomp != "" {
		out = append(out, "seccomp="+s.Seccomp)
	}
	if s.AppArmor != "" {
		out = append(out, "apparmor="+s.AppArmor)
	}
	return out
}

func translateNetworks(spec *drivers.WorkloadSpec, t target, b *blueprint) {
	if spec.Security.HostNetwork {
		b.Host.NetworkMode = network.NetworkHost
		return
	}
	for i, n := range spec.Networks {
		name := n.Name
		if !n.External {
			name = networkName(spec.Namespace, n.Name)
		}
		endpoint := &network.EndpointSettings{NetworkID: t.networks[name]}
		// The engine's own networks know no names.
		if t.ordinal != hook && !isBuiltinNetwork(name) {
			endpoint.Aliases = append([]string{spec.Name}, n.Aliases...)
		}
		if i == 0 {
			ref := cmp.Or(endpoint.NetworkID, name)
			b.Host.NetworkMode = container.NetworkMode(ref)
			b.Network = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{ref: endpoint}}
			continue
		}
		b.Further = append(b.Further, attachment{Network: name, Endpoint: endpoint})
	}
}

func isBuiltinNetwork(name string) bool {
	return name == network.NetworkBridge || name == network.NetworkHost || name == network.NetworkNone
}

// seconds rounds up: a grace of half a second is not none.
func seconds(d time.Duration) *int {
	s := int(math.Ceil(d.Seconds()))
	return &s
}
