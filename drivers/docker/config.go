package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// The defaults of Config.
const (
	DefaultHost        = "unix:///var/run/docker.sock"
	DefaultPingTimeout = 5 * time.Second
	DefaultCallTimeout = 2 * time.Minute
)

// DialFunc opens a connection, as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Config is how to reach an engine and how to treat it. The zero value means the
// engine on this host.
type Config struct {
	// Host is the engine's address: unix://<path> or tcp://<host>:<port>. Empty is
	// DefaultHost.
	Host string
	// APIVersion is the highest API version to use; a lower one is used when the engine
	// speaks no higher. Empty is the highest the client library speaks.
	APIVersion string
	// Mirrors are registries asked before the image's own, in order, as
	// https://<host>[:<port>] or http://<host>[:<port>].
	Mirrors []string
	// Dial, when set, opens the connections to the engine instead of dialling Host.
	Dial func(ctx context.Context) (net.Conn, error)
	// DialWorkload, when set, opens the connections of health probes to the instances'
	// addresses.
	DialWorkload DialFunc
	// AllowHostPath, when set, decides whether a path of the host may be mounted once its
	// symbolic links are resolved: a link below an allowed path may lead out of it. It is
	// asked where the engine is on this host.
	AllowHostPath func(path string) bool
	// PingTimeout bounds Ping and the first contact, DefaultPingTimeout when 0.
	PingTimeout time.Duration
	// CallTimeout bounds every single engine call that is not a pull, a stream or a
	// wait, DefaultCallTimeout when 0: a hung engine must not hold a workload for ever.
	CallTimeout time.Duration
}

var apiVersionPattern = regexp.MustCompile(`^1\.[0-9]{1,3}$`)

// withDefaults returns a copy with the defaults filled in.
func (c Config) withDefaults() Config {
	if c.Host == "" {
		c.Host = DefaultHost
	}
	if c.PingTimeout == 0 {
		c.PingTimeout = DefaultPingTimeout
	}
	if c.CallTimeout == 0 {
		c.CallTimeout = DefaultCallTimeout
	}
	if c.DialWorkload == nil {
		c.DialWorkload = (&net.Dialer{}).DialContext
	}
	return c
}

// Validate reports every fault, each with the key it is about.
func (c Config) Validate() error {
	var faults []error
	c = c.withDefaults()
	scheme, rest, ok := strings.Cut(c.Host, "://")
	switch {
	case !ok || rest == "":
		faults = append(faults, fmt.Errorf("host: want unix://<path> or tcp://<host>:<port>, got %q", c.Host))
	case scheme == "unix":
		if !strings.HasPrefix(rest, "/") {
			faults = append(faults, fmt.Errorf("host: want an absolute path after unix://, got %q", c.Host))
		}
	case scheme == "tcp":
		if _, _, err := net.SplitHostPort(rest); err != nil {
			faults = append(faults, fmt.Errorf("host: want tcp://<host>:<port>, got %q", c.Host))
		}
	default:
		faults = append(faults, fmt.Errorf("host: scheme %q is not unix or tcp", scheme))
	}
	if c.APIVersion != "" && !apiVersionPattern.MatchString(c.APIVersion) {
		faults = append(faults, fmt.Errorf("api_version: want a version such as \"1.45\", got %q", c.APIVersion))
	}
	for i, m := range c.Mirrors {
		u, err := url.Parse(m)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil ||
			strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			faults = append(faults, fmt.Errorf("registry_mirrors[%d]: want https://<host>[:<port>] without path or credentials", i))
		}
	}
	if c.PingTimeout < 0 {
		faults = append(faults, fmt.Errorf("ping_timeout: want a positive duration, got %s", c.PingTimeout))
	}
	if c.CallTimeout < 0 {
		faults = append(faults, fmt.Errorf("call_timeout: want a positive duration, got %s", c.CallTimeout))
	}
	return errors.Join(faults...)
}
