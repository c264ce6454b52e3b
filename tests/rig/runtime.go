package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

const (
	runtimeStart = 30 * time.Second
	runtimePoll  = 50 * time.Millisecond
)

// RuntimeConfig is what a runtime under test needs.
type RuntimeConfig struct {
	// Bin is the built binary, Dir an existing folder for its files.
	Bin, Dir string
	// Node is its name; empty is the host's.
	Node string
	// Backend is its only backend, "docker" by default; DockerHost is the engine.
	Backend, DockerHost string
}

// Runtime is a `kranix-runtime run` with embedded NATS on a free loopback port and its
// own data and locks, apart from any that is installed.
type Runtime struct {
	*Child
	cfg RuntimeConfig
	// URL is where its NATS server listens.
	URL string
}

var runtimeConfig = template.Must(template.New("config").Parse(`# Apart from an installed runtime: other ports, other folders.
runtime:
  default_backend: {{.Backend}}
  backends: [{{.Backend}}]
  data_dir: {{.Dir}}/data
node:
{{- if .Node}}
  name: {{.Node}}
{{- end}}
  lock_dir: {{.Dir}}/locks
nats:
  listen: {{.Listen}}
{{- if .DockerHost}}
docker:
  host: {{.DockerHost}}
{{- end}}
metrics:
  expose_endpoint: false
`))

// StartRuntime starts the runtime and waits until it takes commands.
func StartRuntime(ctx context.Context, cfg RuntimeConfig) (*Runtime, error) {
	if cfg.Backend == "" {
		cfg.Backend = "docker"
	}
	listen, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	r := &Runtime{cfg: cfg, URL: "nats://" + listen}
	var config bytes.Buffer
	if err := runtimeConfig.Execute(&config, struct {
		RuntimeConfig
		Listen string
	}{cfg, listen}); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	if err := os.WriteFile(r.ConfigPath(), config.Bytes(), 0o600); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	log, err := os.OpenFile(r.LogPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the runtime's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(cfg.Bin, "run")
	cmd.Env = r.Environ()
	cmd.Stdout, cmd.Stderr = log, log
	if r.Child, err = StartChild(cmd); err != nil {
		return nil, err
	}
	if err := r.await(ctx); err != nil {
		stopErr := r.Stop(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("%w\n%s", errors.Join(err, stopErr), r.LogTail(20))
	}
	return r, nil
}

// await waits until the runtime answers a client.
func (r *Runtime) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, runtimeStart)
	defer cancel()
	for {
		cmd := exec.CommandContext(ctx, r.cfg.Bin, "ls", "-o", "json")
		cmd.Env = r.Environ()
		said, err := cmd.CombinedOutput()
		if err == nil {
			return nil
		}
		select {
		case <-r.Done():
			return fmt.Errorf("the runtime ended: %w", r.Err())
		default:
		}
		if wait(ctx, runtimePoll) != nil {
			return fmt.Errorf("the runtime is not ready after %s: %w: %s", runtimeStart, err, bytes.TrimSpace(said))
		}
	}
}

// ConfigPath is where its configuration is.
func (r *Runtime) ConfigPath() string { return filepath.Join(r.cfg.Dir, "kranix.yaml") }

// LogPath is where its log is.
func (r *Runtime) LogPath() string { return filepath.Join(r.cfg.Dir, "runtime.log") }

// LogTail is the last n lines of its log.
func (r *Runtime) LogTail(n int) string {
	b, err := os.ReadFile(r.LogPath())
	if err != nil {
		return err.Error()
	}
	return lastLines(string(b), n)
}

// Environ is the environment for its clients, kranix-runtime and nats: that of this
// process, less what would lead them elsewhere.
func (r *Runtime) Environ() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "KRANIX_") && !strings.HasPrefix(kv, "NATS_") {
			env = append(env, kv)
		}
	}
	return append(env, "KRANIX_CONFIG="+r.ConfigPath(), "NATS_URL="+r.URL)
}

// freeAddress asks the kernel for a free port of the loopback interface.
func freeAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}
