package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kranix-io/kranix-runtime/tests/rig"
)

const (
	startLimit   = 30 * time.Second
	pollInterval = 50 * time.Millisecond
)

func (d *demo) findEngine(ctx context.Context) (err error) {
	if d.engine, err = d.rig.UpDocker(ctx); err != nil {
		return err
	}
	whose := "which was running"
	if d.engine.Started {
		whose = "started for this demo"
	}
	d.show.note("Docker %s on %s, %s", d.engine.Version, d.engine.Host, whose)
	if d.before, err = takeInventory(ctx, d.engine.Host); err != nil {
		return err
	}
	d.show.note("it has %d containers of others, which stay untouched", len(d.before["containers"]))
	d.show.detail("Docker %s, %s", d.engine.Version, whose)
	return nil
}

// makeImages imports three versions of one binary; the third is broken.
func (d *demo) makeImages(ctx context.Context) error {
	for _, v := range []struct {
		tag string
		env []string
	}{
		{"v1", []string{"WEB_VERSION=v1"}},
		{"v2", []string{"WEB_VERSION=v2"}},
		{"v3", []string{"WEB_VERSION=v3", "WEB_FAIL=exit"}},
	} {
		ref := d.repository + ":" + v.tag
		// Before the import: one that is interrupted may have made it.
		d.images = append(d.images, ref)
		id, err := rig.WebImage(ctx, d.engine.Host, ref, v.env...)
		if err != nil {
			return err
		}
		d.show.note("%s  %.19s  %s", ref, id, strings.Join(v.env, " "))
	}
	return nil
}

var configTemplate = template.Must(template.New("config").Parse(`# A runtime of its own: other ports and folders than an installed one would use.
runtime:
  default_backend: docker
  backends: [docker]
  data_dir: {{.Dir}}/data
node:
  name: {{.Node}}
  lock_dir: {{.Dir}}/locks
nats:
  listen: {{.Listen}}
docker:
  host: {{.Host}}
metrics:
  expose_endpoint: false
`))

// startRuntime starts `kranix-runtime run` and waits until it takes commands.
func (d *demo) startRuntime(ctx context.Context) (err error) {
	if d.dir, err = os.MkdirTemp("", "kranix-demo-"); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	listen, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	d.natsURL = "nats://" + listen
	var config bytes.Buffer
	err = configTemplate.Execute(&config, map[string]string{"Dir": d.dir, "Node": d.node, "Listen": listen, "Host": d.engine.Host})
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if err := os.WriteFile(d.configPath(), config.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	log, err := os.Create(d.logPath())
	if err != nil {
		return fmt.Errorf("open the runtime's log: %w", err)
	}
	defer log.Close()
	d.show.command("export KRANIX_CONFIG=" + d.configPath())
	d.show.command("kranix-runtime run &")
	if d.runtime, err = d.start(log, "run"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		if _, err = d.read(ctx, "ls", "-o", "json"); err == nil {
			d.show.note("ready: process %d, NATS on %s", d.runtime.cmd.Process.Pid, d.natsURL)
			return nil
		}
		select {
		case <-d.runtime.done:
			return fmt.Errorf("the runtime ended: %w", errors.Join(d.runtime.err, err))
		case <-ctx.Done():
			return fmt.Errorf("the runtime is not ready after %s: %w", startLimit, err)
		case <-time.After(pollInterval):
		}
	}
}

func (d *demo) stopRuntime(ctx context.Context) error {
	d.show.command(fmt.Sprintf("kill %d", d.runtime.cmd.Process.Pid))
	if err := d.runtime.stop(ctx); err != nil {
		return err
	}
	d.show.note("it ended with code 0")
	return nil
}

func (d *demo) logPath() string { return filepath.Join(d.dir, "runtime.log") }

// runtimeLog shows what the runtime said last, for who looks for the cause of a fault.
func (d *demo) runtimeLog() {
	if d.runtime == nil {
		return
	}
	b, err := os.ReadFile(d.logPath())
	if err != nil {
		return
	}
	log := strings.Split(strings.TrimSpace(string(b)), "\n")
	d.show.note("the end of the runtime's log:")
	for _, line := range log[max(0, len(log)-20):] {
		d.show.note("  %s", line)
	}
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

// connect opens a plain NATS connection, as any client of the contract would.
func (d *demo) connect() (*nats.Conn, error) {
	nc, err := nats.Connect(d.natsURL, nats.Name("demo"))
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return nc, nil
}
