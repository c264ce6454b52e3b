package docker

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// Backend is the name the driver is registered under.
const Backend = "docker"

var (
	_ drivers.RuntimeDriver = (*Driver)(nil)
	_ drivers.SpecChecker   = (*Driver)(nil)
	_ drivers.Identifier    = (*Driver)(nil)
	_ drivers.Closer        = (*Driver)(nil)
)

// Driver drives one Docker engine for one node. Its methods may be called
// concurrently.
type Driver struct {
	cli *client.Client
	cfg Config
	env drivers.Environment
	log *slog.Logger

	// life ends with Close; goroutines the driver owns run under it and are counted in
	// running.
	life    context.Context
	endLife context.CancelFunc
	running sync.WaitGroup

	health healthFeed
	probes probes
	pulls  pullGroup
	events eventHub
	groups hostGroups

	// workloads serialises what changes a workload; networks guards the removal of what
	// the namespace shares.
	workloads keyedLock
	networks  networkUse
}

// New connects to the engine, negotiates the API version and returns a driver for it.
// Close it. Errors: ErrInvalidSpec (cfg), ErrUnavailable, ErrDenied.
func New(ctx context.Context, env drivers.Environment, cfg Config) (*Driver, error) {
	if err := cfg.Validate(); err != nil {
		return nil, &drivers.Error{Class: drivers.ErrInvalidSpec, Op: "configure docker", Err: err}
	}
	if !drivers.IsLabel(env.Node) {
		return nil, &drivers.Error{Class: drivers.ErrInvalidSpec, Op: "configure docker",
			Err: fmt.Errorf("node %q is not a DNS-1123 label", env.Node)}
	}
	cfg = cfg.withDefaults()
	log := env.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	cli, err := connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	return &Driver{cli: cli, cfg: cfg, env: env, log: log, life: life, endLife: end}, nil
}

// connect returns a client fixed to the highest version that configuration, library
// and engine allow. The library's own negotiation cannot be bounded from above, and
// done lazily it turns a dead engine into a confusing version error.
func connect(ctx context.Context, cfg Config) (*client.Client, error) {
	opts := []client.Opt{client.WithHTTPClient(newHTTPClient()), client.WithHost(cfg.Host)}
	if cfg.Dial != nil {
		opts = append(opts, client.WithDialContext(func(ctx context.Context, _, _ string) (net.Conn, error) {
			return cfg.Dial(ctx)
		}))
	}
	probe, err := client.NewClientWithOpts(opts...)
	if err != nil {
		return nil, &drivers.Error{Class: drivers.ErrInvalidSpec, Op: "configure docker", Err: err}
	}
	defer probe.Close() //nolint:errcheck // it only drops idle connections
	ctx, cancel := context.WithTimeout(ctx, cfg.PingTimeout)
	defer cancel()
	ping, err := probe.Ping(ctx)
	if err != nil {
		return nil, classify("reach docker engine at "+cfg.Host, err)
	}
	version := probe.ClientVersion()
	for _, bound := range []string{cfg.APIVersion, ping.APIVersion} {
		if bound != "" && versions.LessThan(bound, version) {
			version = bound
		}
	}
	opts[0] = client.WithHTTPClient(newHTTPClient())
	cli, err := client.NewClientWithOpts(append(opts, client.WithVersion(version))...)
	if err != nil {
		return nil, &drivers.Error{Class: drivers.ErrInvalidSpec, Op: "configure docker", Err: err}
	}
	return cli, nil
}

// newHTTPClient keeps as many idle connections as the driver makes calls at a time: the
// library's own client keeps two, and dials again for each further one.
func newHTTPClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{MaxIdleConns: 2 * parallelCalls, MaxIdleConnsPerHost: 2 * parallelCalls,
			IdleConnTimeout: 30 * time.Second},
		CheckRedirect: client.CheckRedirect,
	}
}

// Close ends the driver's goroutines and connections and waits for them. Workloads are
// not touched.
func (d *Driver) Close() error {
	// Under the lock, so that no probe starts between the end and the wait.
	d.probes.mu.Lock()
	d.endLife()
	d.probes.mu.Unlock()
	d.running.Wait()
	if err := d.cli.Close(); err != nil {
		return fmt.Errorf("close connections: %w", err)
	}
	return nil
}

// Backend implements drivers.RuntimeDriver.
func (d *Driver) Backend() string { return Backend }

// Ping implements drivers.RuntimeDriver.
func (d *Driver) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.PingTimeout)
	defer cancel()
	if _, err := d.cli.Ping(ctx); err != nil {
		return classify("reach docker engine at "+d.cfg.Host, err)
	}
	return nil
}

// EngineInfo implements drivers.Identifier.
func (d *Driver) EngineInfo(ctx context.Context) (*drivers.EngineInfo, error) {
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	info, err := d.cli.Info(ctx)
	if err != nil {
		return nil, classify("identify docker engine at "+d.cfg.Host, err)
	}
	return &drivers.EngineInfo{ID: info.ID, Name: info.Name, Version: info.ServerVersion,
		APIVersion: d.cli.ClientVersion(), OS: info.OSType, Arch: info.Architecture,
		CPUs: info.NCPU, MemoryBytes: info.MemTotal}, nil
}
