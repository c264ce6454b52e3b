package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/kranix-io/kranix-runtime/tests/rig"
)

// cli runs the built binary as a user would, shows both the command line and what it
// says, and wants the exit code given.
func (d *demo) cli(ctx context.Context, wantCode int, args ...string) error {
	d.show.command("kranix-runtime " + strings.Join(args, " "))
	out := d.show.indented()
	defer out.close()
	cmd := d.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = out, out
	return exitCode(cmd.Run(), wantCode, args[0])
}

// read runs the built binary quietly and returns its standard output.
func (d *demo) read(ctx context.Context, args ...string) ([]byte, error) {
	cmd := d.command(ctx, args...)
	var faults bytes.Buffer
	cmd.Stderr = &faults
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("kranix-runtime %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(faults.Bytes()))
	}
	return out, nil
}

// until runs the built binary and shows its output line by line until match says that
// enough was seen.
func (d *demo) until(ctx context.Context, match func(line string) (text string, done bool), args ...string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("run %s: %w", args[0], err)
	}
	defer r.Close()
	cmd := exec.Command(d.bin, args...)
	cmd.Env = d.runtime.Environ()
	cmd.Stdout, cmd.Stderr = w, w
	c, err := rig.StartChild(cmd)
	w.Close()
	if err != nil {
		return err
	}
	// The end of ctx ends the child, and that the reading below.
	unhook := context.AfterFunc(ctx, func() { _ = c.Signal(syscall.SIGTERM) })
	defer unhook()
	found := false
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for !found && in.Scan() {
		text, done := match(in.Text())
		if text != "" {
			d.show.note("%s", text)
		}
		found = done
	}
	// How it ends once enough was seen does not matter.
	stopErr := c.Stop(context.WithoutCancel(ctx))
	switch {
	case found:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("run %s: %w", args[0], ctx.Err())
	default:
		return fmt.Errorf("run %s: it ended early: %w", args[0], errors.Join(in.Err(), stopErr))
	}
}

func (d *demo) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.bin, args...)
	cmd.Env = d.runtime.Environ()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// exitCode compares how a program ended with what was expected.
func exitCode(err error, want int, name string) error {
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		return fmt.Errorf("run %s: %w", name, err)
	}
	if got != want {
		return fmt.Errorf("%s ended with code %d, want %d", name, got, want)
	}
	return nil
}
