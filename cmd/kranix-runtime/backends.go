package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/kranix-io/kranix-runtime/cmd/kranix-runtime/internal/config"
	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/drivers/docker"
	"github.com/kranix-io/kranix-runtime/drivers/sim"
	"github.com/kranix-io/kranix-runtime/workers"
)

// builtin registers the drivers of this build. It is the one place that names them all;
// config.Built must agree.
func builtin() (*drivers.Registry, error) {
	r := new(drivers.Registry)
	err := errors.Join(
		r.Register("docker", func(ctx context.Context, env drivers.Environment, settings any) (drivers.RuntimeDriver, error) {
			cfg, ok := settings.(docker.Config)
			if !ok {
				return nil, fmt.Errorf("want docker.Config, got %T", settings)
			}
			return docker.New(ctx, env, cfg)
		}),
		r.Register("sim", sim.Open),
	)
	return r, err
}

// settings is a driver's own configuration.
func settings(c *config.Config, backend string) any {
	switch backend {
	case "docker":
		return docker.Config{
			Host: c.Docker.Host, APIVersion: c.Docker.APIVersion, Mirrors: c.ImageCache.RegistryMirrors,
			AllowHostPath: policy(c.Policy).AllowsHostPath,
		}
	case "sim":
		s := sim.Config{StateFile: c.Sim.StateFile, LogRate: c.Sim.LogRate, Latency: map[sim.Op]sim.Latency{}}
		for op, d := range c.Sim.Latency {
			s.Latency[sim.Op(op)] = sim.Latency{Base: d}
		}
		return s
	default:
		return nil
	}
}

// simBackend is served only when it is named: nobody wants to find out that what they
// deployed is a simulation.
const simBackend = "sim"

const (
	// engineTimeout bounds the question whether an engine that nobody named is there.
	engineTimeout = 5 * time.Second
	engineRetry   = 2 * time.Second
)

// served is a backend this runtime serves.
type served struct {
	workers.Backend
	// engine describes it for people.
	engine string
}

// skipped is a backend it does not serve, and why.
type skipped struct {
	name string
	why  error
}

// openBackends opens the engines of the configuration. A backend that is listed is
// waited for; one that is not is skipped when its engine does not answer.
func openBackends(ctx context.Context, c *config.Config, log *slog.Logger) (open []served, left []skipped, err error) {
	registry, err := builtin()
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			closeBackends(open, log)
			open = nil
		}
	}()
	env := drivers.Environment{
		Node:    c.Node.Name,
		Secrets: &drivers.SecretStore{Dir: c.Node.SecretsDir, LookupEnv: os.LookupEnv},
	}
	listed := c.Runtime.Backends
	names := listed
	if len(names) == 0 {
		names = slices.DeleteFunc(registry.Names(), func(n string) bool { return n == simBackend })
	}
	for _, name := range names {
		env.Logger = log.With("backend", name)
		opener := func(ctx context.Context) (drivers.RuntimeDriver, error) {
			return registry.Open(ctx, name, env, settings(c, name))
		}
		var d drivers.RuntimeDriver
		if len(listed) > 0 {
			d, err = openListed(ctx, name, opener, log)
			if err != nil {
				return open, left, err
			}
		} else if d, err = openFound(ctx, opener); err != nil {
			left = append(left, skipped{name: name, why: err})
			err = nil
			continue
		}
		open = append(open, served{
			Backend: workers.Backend{Name: name, Driver: d, Concurrency: concurrency(c, name)},
			engine:  engineText(ctx, d),
		})
	}
	return open, left, nil
}

// openFound opens an engine if it answers now.
func openFound(ctx context.Context, open func(context.Context) (drivers.RuntimeDriver, error)) (drivers.RuntimeDriver, error) {
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	d, err := open(ctx)
	if err != nil {
		return nil, err
	}
	if err := d.Ping(ctx); err != nil {
		return nil, errors.Join(err, closeDriver(d))
	}
	return d, nil
}

// openListed opens an engine, waiting for it to answer. Commands are stored meanwhile.
func openListed(ctx context.Context, name string, open func(context.Context) (drivers.RuntimeDriver, error), log *slog.Logger) (drivers.RuntimeDriver, error) {
	for attempt := 1; ; attempt++ {
		d, err := open(ctx)
		if err == nil {
			return d, nil
		}
		if !errors.Is(err, drivers.ErrUnavailable) || ctx.Err() != nil {
			return nil, err
		}
		if attempt == 1 || attempt%15 == 0 {
			log.Warn("the engine does not answer; waiting for it, commands are stored meanwhile", "backend", name, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(engineRetry):
		}
	}
}

func concurrency(c *config.Config, backend string) int {
	if n, ok := c.Runtime.Concurrency[backend]; ok {
		return n
	}
	return c.Runtime.Concurrency["default"] // 0 leaves the choice to the worker
}

func engineText(ctx context.Context, d drivers.RuntimeDriver) string {
	identifier, ok := d.(drivers.Identifier)
	if !ok {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	info, err := identifier.EngineInfo(ctx)
	if err != nil {
		return ""
	}
	s := info.Version
	if info.APIVersion != "" {
		s += " (API " + info.APIVersion + ")"
	}
	return s
}

func closeDriver(d drivers.RuntimeDriver) error {
	if c, ok := d.(drivers.Closer); ok {
		return c.Close()
	}
	return nil
}

func closeBackends(open []served, log *slog.Logger) {
	for _, b := range open {
		if err := closeDriver(b.Driver); err != nil {
			log.Warn("engine connection not closed", "backend", b.Name, "error", err)
		}
	}
}

// policy is the configuration's as the drivers' package wants it.
func policy(p config.Policy) drivers.Policy {
	return drivers.Policy{
		AllowPrivileged: p.AllowPrivileged, AllowHostNetwork: p.AllowHostNetwork, AllowHostPID: p.AllowHostPID,
		AllowUnconfined: p.AllowUnconfined, AllowExternal: p.AllowExternal,
		AllowedHostPaths: p.AllowedHostPaths, AllowedDevices: p.AllowedDevices, AllowedCapabilities: p.AllowedCapabilities,
		AllowedSysctls: p.AllowedSysctls, AllowedRegistries: p.AllowedRegistries,
		MaxCPU: p.MaxCPU, MaxMemory: p.MaxMemory, MaxPIDs: int64(p.MaxPIDs), MaxReplicas: p.MaxReplicas,
	}
}
