package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stopGrace is how long a child may take to end by itself.
const stopGrace = 30 * time.Second

// child is a program that runs beside the demo.
type child struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// start starts the built binary beside the demo, in a process group of its own: an
// interrupt from the terminal reaches the demo alone, which ends its children in order.
func (d *demo) start(out io.Writer, args ...string) (*child, error) {
	c := &child{cmd: exec.Command(d.bin, args...), done: make(chan struct{})}
	c.cmd.Env = d.environ()
	c.cmd.Stdout, c.cmd.Stderr = out, out
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	go func() {
		defer close(c.done)
		c.err = c.cmd.Wait()
	}()
	return c, nil
}

// stop asks the child to end, waits, and says how it ended. It can be called again.
func (c *child) stop(ctx context.Context) error {
	select {
	case <-c.done:
		return c.err
	default:
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop process %d: %w", c.cmd.Process.Pid, err)
	}
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-c.done:
		return c.err
	case <-grace.C:
	case <-ctx.Done():
	}
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill process %d: %w", c.cmd.Process.Pid, err)
	}
	<-c.done
	return fmt.Errorf("process %d did not end within %s and was killed", c.cmd.Process.Pid, stopGrace)
}

// environ is the environment of the user, less what would configure the runtime, plus
// the demo's configuration.
func (d *demo) environ() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "KRANIX_") {
			env = append(env, kv)
		}
	}
	return append(env, "KRANIX_CONFIG="+d.configPath())
}

func (d *demo) configPath() string { return filepath.Join(d.dir, "kranix.yaml") }

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
	c, err := d.start(w, args...)
	w.Close()
	if err != nil {
		return err
	}
	// The end of ctx ends the child, and that the reading below.
	unhook := context.AfterFunc(ctx, func() { _ = c.cmd.Process.Signal(syscall.SIGTERM) })
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
	stopErr := c.stop(context.WithoutCancel(ctx))
	switch {
	case found:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("run %s: %w", args[0], ctx.Err())
	default:
		return fmt.Errorf("run %s: it ended early: %w", args[0], errors.Join(in.Err(), c.err, stopErr))
	}
}

func (d *demo) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.bin, args...)
	cmd.Env = d.environ()
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
