package config

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// checker collects the faults of values.
type checker struct {
	*Loaded
	faults []Fault
}

// validate reports every fault of the values. A key that could not be read holds its
// default, which has none.
func (l *Loaded) validate() []Fault {
	c := &checker{Loaded: l}
	c.runtime()
	c.node()
	c.nats()
	c.policy()
	c.engines()
	c.absentFeatures()
	c.telemetry()
	return c.faults
}

// index is the path of an item of a list.
func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// baseKey is "<section>.<key>" of a path that may go on.
func baseKey(path string) string {
	section, rest, _ := strings.Cut(path, ".")
	if i := strings.IndexAny(rest, ".["); i >= 0 {
		rest = rest[:i]
	}
	return section + "." + rest
}

func (c *checker) add(path, format string, args ...any) {
	c.faults = append(c.faults, Fault{Key: path, Source: c.Source(baseKey(path)), Message: fmt.Sprintf(format, args...)})
}

func (c *checker) oneOf(path, got string, want ...string) {
	if !slices.Contains(want, got) {
		c.add(path, "want %s, got %q", strings.Join(want, ", "), got)
	}
}

func (c *checker) duration(path string, got, least time.Duration) {
	if got < least {
		c.add(path, "want at least %s, got %s", durationText(least), durationText(got))
	}
}

func (c *checker) between(path string, got, least, most int) {
	if got < least || got > most {
		c.add(path, "want %d to %d, got %d", least, most, got)
	}
}

func (c *checker) absolute(path, got string) {
	switch {
	case got == "":
		c.add(path, "set an absolute path; without a home directory there is no default")
	case !filepath.IsAbs(got):
		c.add(path, "want an absolute path, got %q", got)
	}
}

// Built lists the backends of this build.
func Built() []string { return []string{"docker", "sim"} }

func (c *checker) runtime() {
	r := c.Runtime
	c.oneOf("runtime.default_backend", r.DefaultBackend, subjects.Backends()...)
	for i, b := range r.Backends {
		switch {
		case !slices.Contains(subjects.Backends(), b):
			c.add(index("runtime.backends", i), "there is no backend %q%s", b, suggestion(b, subjects.Backends()))
		case !slices.Contains(Built(), b):
			c.add(index("runtime.backends", i), "this version has no %s backend; it has %s", b, strings.Join(Built(), ", "))
		case slices.Index(r.Backends, b) < i:
			c.add(index("runtime.backends", i), "%q is listed twice", b)
		}
	}
	c.absolute("runtime.data_dir", r.DataDir)
	c.oneOf("runtime.log_level", r.LogLevel, "debug", "info", "warn", "error")
	c.oneOf("runtime.log_format", r.LogFormat, "text", "json")
	for _, b := range slices.Sorted(maps.Keys(r.Concurrency)) {
		path := "runtime.concurrency." + b
		if b != "default" && !slices.Contains(subjects.Backends(), b) {
			c.add(path, "there is no backend %q%s", b, suggestion(b, append(subjects.Backends(), "default")))
		}
		c.between(path, r.Concurrency[b], 1, 1024)
	}
	c.duration("runtime.deadline", r.Deadline, time.Second)
	if most := 7 * 24 * time.Hour; r.Deadline >= most {
		c.add("runtime.deadline", "want less than %s, the time commands are kept, got %s", durationText(most), durationText(r.Deadline))
	}
	c.between("runtime.max_attempts", r.MaxAttempts, 1, 100)
	c.duration("runtime.ack_wait", r.AckWait, time.Second)
	c.duration("runtime.lease", r.Lease, time.Second)
	c.duration("runtime.drain_timeout", r.DrainTimeout, 0)
}

func (c *checker) node() {
	if c.Node.Name == "" {
		c.add("node.name", "set a name; none can be made of this host's name")
	} else if !drivers.IsLabel(c.Node.Name) {
		c.add("node.name", "want 1 to 63 of a-z, 0-9 and '-', such as %q, got %q", exampleLabel(c.Node.Name), c.Node.Name)
	}
	c.absolute("node.secrets_dir", c.Node.SecretsDir)
	c.absolute("node.lock_dir", c.Node.LockDir)
	for _, name := range slices.Sorted(maps.Keys(c.Node.Labels)) {
		if !labelName.MatchString(name) {
			c.add("node.labels."+name, "want a name of a-z, 0-9, '.', '-', '_' and '/'")
		}
	}
}

var labelName = regexp.MustCompile(`^[a-z0-9]([a-z0-9._/-]{0,126}[a-z0-9])?$`)

func exampleLabel(name string) string {
	if l := subjects.NodeLabel(name); l != "" {
		return l
	}
	return "node-1"
}

func (c *checker) policy() {
	for i, p := range c.Policy.AllowedHostPaths {
		c.absolute(index("policy.allowed_host_paths", i), p)
	}
	for i, p := range c.Policy.AllowedDevices {
		c.absolute(index("policy.allowed_devices", i), p)
	}
	c.between("policy.max_pids", c.Policy.MaxPIDs, 0, 1<<22)
	c.between("policy.max_replicas", c.Policy.MaxReplicas, 0, 1<<16)
}

var apiVersion = regexp.MustCompile(`^1\.[0-9]{1,3}$`)

func (c *checker) engines() {
	c.engineAddress("docker.host", c.Docker.Host)
	if v := c.Docker.APIVersion; v != "" && !apiVersion.MatchString(v) {
		c.add("docker.api_version", "want a version such as \"1.45\", got %q", v)
	}
	if n := c.Kubernetes.DefaultNamespace; !drivers.IsLabel(n) {
		c.add("kubernetes.default_namespace", "want a DNS-1123 label, got %q", n)
	}
	if c.Podman.Socket != "" {
		c.engineAddress("podman.socket", c.Podman.Socket)
	}
	if strings.TrimSpace(c.Compose.Command) == "" {
		c.add("compose.command", "want a command such as \"docker compose\"")
	}
	if f := c.Sim.StateFile; f != "" {
		c.absolute("sim.state_file", f)
	}
	if c.Sim.LogRate < 0 {
		c.add("sim.log_rate", "must not be negative")
	}
	for _, op := range slices.Sorted(maps.Keys(c.Sim.Latency)) {
		c.duration("sim.latency."+op, c.Sim.Latency[op], 0)
	}
}

// engineAddress checks unix:///path and tcp://host:port.
func (c *checker) engineAddress(path, got string) {
	u, err := url.Parse(got)
	if err == nil && u.Scheme == "unix" && u.Host == "" && filepath.IsAbs(u.Path) {
		return
	}
	if err == nil && u.Scheme == "tcp" && u.Hostname() != "" && validPort(u.Port()) && u.Path == "" && u.User == nil {
		return
	}
	c.add(path, "want unix:///path/to.sock or tcp://host:port, got %q", got)
}

func validPort(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= 1 && n <= 65535
}

// absentFeatures refuses what this version does not have, so that nobody believes it
// is on.
func (c *checker) absentFeatures() {
	absent := func(path string, enabled bool, what string) {
		if enabled {
			c.add(path, "this version has no %s; set it to false", what)
		}
	}
	absent("gpu.enabled", c.GPU.Enabled, "GPU inventory")
	absent("ephemeral.enabled", c.Ephemeral.Enabled, "ephemeral environments")
	absent("edge_agent.enabled", c.EdgeAgent.Enabled, "edge agent")
	absent("image_cache.enabled", c.ImageCache.Enabled, "image cache")
	absent("tracing.enabled", c.Tracing.Enabled, "trace exporter")

	c.oneOf("gpu.default_vendor", c.GPU.DefaultVendor, "nvidia", "amd")
	e := c.Ephemeral
	c.duration("ephemeral.default_ttl", e.DefaultTTL, time.Minute)
	c.duration("ephemeral.cleanup_interval", e.CleanupInterval, time.Second)
	c.between("ephemeral.max_environments", e.MaxEnvironments, 1, 10_000)
	if !drivers.IsLabel(strings.TrimSuffix(e.NamespacePrefix, "-")) || len(e.NamespacePrefix) > 40 {
		c.add("ephemeral.namespace_prefix", "want the beginning of a namespace, such as \"ephem-\", got %q", e.NamespacePrefix)
	}
	a := c.EdgeAgent
	c.between("edge_agent.port", a.Port, 1, 65535)
	c.duration("edge_agent.heartbeat_interval", a.HeartbeatInterval, time.Second)
	if _, err := netip.ParseAddr(a.IPAddress); a.IPAddress != "" && err != nil {
		c.add("edge_agent.ip_address", "want an IP address, got %q", a.IPAddress)
	}
	i := c.ImageCache
	c.between("image_cache.cache_size_gb", i.CacheSizeGB, 1, 1<<20)
	c.between("image_cache.max_cached_images", i.MaxCachedImages, 1, 1<<20)
	c.duration("image_cache.ttl", i.TTL, time.Minute)
	for n, mirror := range i.RegistryMirrors {
		u, err := url.Parse(mirror)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil ||
			strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			c.add(index("image_cache.registry_mirrors", n), "want https://host[:port] without a path or credentials")
		}
	}
}

func (c *checker) telemetry() {
	m := c.Metrics
	c.duration("metrics.collection_interval", m.CollectionInterval, time.Second)
	c.duration("metrics.retention_period", m.RetentionPeriod, time.Minute)
	c.between("metrics.metrics_port", m.MetricsPort, 0, 65535)
	if m.MetricsAddress != "" && net.ParseIP(m.MetricsAddress) == nil && m.MetricsAddress != "localhost" {
		c.add("metrics.metrics_address", "want an IP address, or nothing for all of them, got %q", m.MetricsAddress)
	}
	l := c.Logs
	if l.LinesPerSecond < 0 {
		c.add("logs.lines_per_second", "must not be negative; 0 is unlimited")
	}
	c.duration("logs.retention_period", l.RetentionPeriod, time.Minute)
	if l.MaxBytes < 1<<20 {
		c.add("logs.max_bytes", "want at least 1Mi, got %s", l.MaxBytes)
	}
	if r := c.Tracing.SampleRatio; r < 0 || r > 1 {
		c.add("tracing.sample_ratio", "want 0 to 1, got %v", r)
	}
}
