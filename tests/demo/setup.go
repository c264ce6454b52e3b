package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/kranix-io/kranix-runtime/tests/rig"
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
	rootfs, err := rig.WebRootFS(ctx)
	if err != nil {
		return err
	}
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
		id, err := rig.ImportWeb(ctx, d.engine.Host, ref, rootfs, v.env...)
		if err != nil {
			return err
		}
		d.show.note("%s  %.19s  %s", ref, id, strings.Join(v.env, " "))
	}
	return nil
}

// startRuntime starts `kranix-runtime run` and waits until it takes commands.
func (d *demo) startRuntime(ctx context.Context) (err error) {
	if d.dir, err = os.MkdirTemp("", "kranix-demo-"); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	d.show.command("kranix-runtime run &")
	d.runtime, err = rig.StartRuntime(ctx, rig.RuntimeConfig{
		Bin: d.bin, Dir: d.dir, Node: d.node, DockerHost: d.engine.Host,
	})
	if err != nil {
		return err
	}
	d.show.command("export KRANIX_CONFIG=" + d.runtime.ConfigPath())
	d.show.note("ready: process %d, NATS on %s", d.runtime.PID(), d.runtime.URL)
	return nil
}

func (d *demo) stopRuntime(ctx context.Context) error {
	d.show.command(fmt.Sprintf("kill %d", d.runtime.PID()))
	if err := d.runtime.Stop(ctx); err != nil {
		return err
	}
	d.show.note("it ended with code 0")
	return nil
}

// runtimeLog shows what the runtime said last, for who looks for the cause of a fault.
func (d *demo) runtimeLog() {
	if d.runtime == nil {
		return
	}
	d.show.note("the end of the runtime's log:")
	for line := range strings.Lines(d.runtime.LogTail(20)) {
		d.show.note("  %s", strings.TrimRight(line, "\n"))
	}
}

// connect opens a plain NATS connection, as any client of the contract would.
func (d *demo) connect() (*nats.Conn, error) {
	nc, err := nats.Connect(d.runtime.URL, nats.Name("demo"))
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return nc, nil
}
