package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// stopGrace is how long a child may take to end by itself.
const stopGrace = 40 * time.Second

// Child is a program that runs beside this one and is waited for.
type Child struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// StartChild starts cmd in a process group of its own: an interrupt from the terminal
// reaches this program alone, which ends its children in order. cmd is not bound to a
// context; Stop ends it.
func StartChild(cmd *exec.Cmd) (*Child, error) {
	c := &Child{cmd: cmd, done: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	go func() {
		defer close(c.done)
		c.err = cmd.Wait()
	}()
	return c, nil
}

// PID is the child's process id.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Done is closed when the child has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Err is how the child ended, as exec.Cmd.Wait says it; it waits for that.
func (c *Child) Err() error {
	<-c.done
	return c.err
}

// Signal sends sig to the child and to what it has started.
func (c *Child) Signal(sig syscall.Signal) error {
	if err := syscall.Kill(-c.PID(), sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal process %d: %w", c.PID(), err)
	}
	return nil
}

// Stop asks the child to end with SIGTERM, waits, and says how it ended. One that does
// not end in time, or before ctx does, is killed. Stop can be called again.
func (c *Child) Stop(ctx context.Context) error {
	select {
	case <-c.done:
		return c.err
	default:
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop process %d: %w", c.PID(), err)
	}
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-c.done:
		return c.err
	case <-grace.C:
	case <-ctx.Done():
	}
	if err := c.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-c.done
	return fmt.Errorf("process %d did not end in time and was killed", c.PID())
}
