package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/docker/docker/client"
)

// ErrNoEngine says that no engine answers and none can be had here; the error's text
// says what to do.
var ErrNoEngine = errors.New("no Docker engine")

// DefaultDockerHost is where an engine is expected when nothing else is said.
const DefaultDockerHost = "unix:///var/run/docker.sock"

// probeTimeout bounds one question whether an engine answers.
const probeTimeout = 5 * time.Second

// Rig knows where the engines it starts keep their state.
type Rig struct {
	// Dir is the state folder.
	Dir string
	// Out receives what is installed and started, for a person to read.
	Out io.Writer
	// Isolated starts a daemon in a network namespace of its own, where it can live
	// beside another one. Its containers cannot be reached from here.
	Isolated bool
	// NoInstall forbids installing packages.
	NoInstall bool
}

// New returns a rig with its state in KRANIX_RIG_DIR, /var/tmp/kranix-rig by default.
func New(out io.Writer) *Rig {
	dir := os.Getenv("KRANIX_RIG_DIR")
	if dir == "" {
		dir = "/var/tmp/kranix-rig"
	}
	return &Rig{Dir: dir, Out: out}
}

// Engine is an engine that answers.
type Engine struct {
	// Host is its address, "unix:///var/run/docker.sock".
	Host string
	// Version is the engine's version.
	Version string
	// Started says that this call has started it; who started it stops it with Down.
	Started bool
}

// FindDocker returns an engine that answers, and starts none. Errors: ErrNoEngine.
func (r *Rig) FindDocker(ctx context.Context) (*Engine, error) {
	if host := os.Getenv("KRANIX_TEST_DOCKER_HOST"); host != "" {
		version, err := probe(ctx, host)
		if err != nil {
			return nil, fmt.Errorf("%w: KRANIX_TEST_DOCKER_HOST=%s: %w", ErrNoEngine, host, err)
		}
		return &Engine{Host: host, Version: version}, nil
	}
	host := os.Getenv("DOCKER_HOST")
	if host == "" {
		host = DefaultDockerHost
	}
	version, err := probe(ctx, host)
	if err == nil {
		return &Engine{Host: host, Version: version}, nil
	}
	s, stateErr := r.readState()
	if stateErr == nil && s.Process.alive() {
		if version, ownErr := probe(ctx, s.Host); ownErr == nil {
			return &Engine{Host: s.Host, Version: version}, nil
		}
	}
	return nil, fmt.Errorf("%w answers on %s: %w", ErrNoEngine, host, err)
}

// UpDocker returns an engine that answers, starting one when there is none. Errors:
// ErrNoEngine, with what to do, when that is not possible here.
func (r *Rig) UpDocker(ctx context.Context) (*Engine, error) {
	e, err := r.FindDocker(ctx)
	if err == nil {
		return e, nil
	}
	if os.Getenv("KRANIX_TEST_DOCKER_HOST") != "" {
		return nil, err
	}
	unlock, lockErr := r.lock(ctx)
	if lockErr != nil {
		return nil, lockErr
	}
	defer unlock()
	// Whoever held the lock may have started one.
	if e, again := r.FindDocker(ctx); again == nil {
		return e, nil
	}
	return r.startDocker(ctx, err)
}

// Docker returns the address of an engine that answers, starting one when there is
// none, and the function that stops what this call has started.
func Docker(ctx context.Context, out io.Writer) (host string, stop func(context.Context) error, err error) {
	r := New(out)
	e, err := r.UpDocker(ctx)
	if err != nil {
		return "", nil, err
	}
	if !e.Started {
		return e.Host, func(context.Context) error { return nil }, nil
	}
	return e.Host, r.Down, nil
}

// Client returns an API client of the engine at host.
func Client(host string) (*client.Client, error) {
	c, err := client.NewClientWithOpts(client.WithHost(host), client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("open engine %s: %w", host, err)
	}
	return c, nil
}

func probe(ctx context.Context, host string) (version string, err error) {
	c, err := Client(host)
	if err != nil {
		return "", err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	v, err := c.ServerVersion(ctx)
	if err != nil {
		return "", fmt.Errorf("ask engine: %w", err)
	}
	return v.Version, nil
}

func (r *Rig) say(format string, args ...any) {
	if r.Out != nil {
		fmt.Fprintf(r.Out, "rig: "+format+"\n", args...)
	}
}
