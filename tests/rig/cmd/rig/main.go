// Command rig starts and stops the engines that tests and the demo work on.
//
//	rig up docker                  make sure of an engine, and of what images are made from
//	rig status                     say which engine would be used
//	rig exec docker -- COMMAND...  run a command with an engine, started and stopped for
//	                               it when there was none
//	rig image REF [NAME=VALUE...]  import the web fixture as an image with that environment
//	rig down                       stop what up has started
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/kranix-io/kranix-runtime/tests/rig"
)

// stopTimeout bounds the clean-up after an interrupt.
const stopTimeout = 90 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

const usage = `usage: rig up docker | rig status | rig exec docker -- COMMAND... | rig image REF [NAME=VALUE...] | rig down`

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	r := rig.New(errOut)
	var err error
	switch {
	case slices.Equal(args, []string{"up", "docker"}):
		err = up(ctx, r, out)
	case slices.Equal(args, []string{"status"}):
		err = status(ctx, r, out)
	case slices.Equal(args, []string{"down"}):
		err = r.Down(ctx)
	case len(args) > 1 && args[0] == "image":
		err = importWeb(ctx, r, out, args[1], args[2:])
	case len(args) > 3 && slices.Equal(args[:3], []string{"exec", "docker", "--"}):
		err = execWith(ctx, r, args[3:])
	default:
		fmt.Fprintln(errOut, usage)
		return 2
	}
	var exit *commandError
	switch {
	case errors.As(err, &exit):
		return exit.code
	case err != nil:
		fmt.Fprintf(errOut, "rig: %v\n", err)
		return 1
	}
	return 0
}

func up(ctx context.Context, r *rig.Rig, out io.Writer) error {
	e, err := r.UpDocker(ctx)
	if err != nil {
		return err
	}
	if err := r.InstallImageSources(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "docker %s on %s\n", e.Version, e.Host)
	return nil
}

func status(ctx context.Context, r *rig.Rig, out io.Writer) error {
	e, err := r.FindDocker(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "docker %s on %s\n", e.Version, e.Host)
	return nil
}

// importWeb makes an image for playing, where no registry is in reach.
func importWeb(ctx context.Context, r *rig.Rig, out io.Writer, ref string, env []string) error {
	e, err := r.FindDocker(ctx)
	if err != nil {
		return err
	}
	id, err := rig.WebImage(ctx, e.Host, ref, env...)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "image %s is %.19s\n", ref, id)
	return nil
}

// execWith runs a command that finds the engine in KRANIX_TEST_DOCKER_HOST. Without an
// engine it runs too, unless KRANIX_REQUIRE_ENGINES lists the engine: tests then name
// what they skip.
func execWith(ctx context.Context, r *rig.Rig, command []string) (err error) {
	env := os.Environ()
	switch e, upErr := r.UpDocker(ctx); {
	case upErr == nil:
		env = append(env, "KRANIX_TEST_DOCKER_HOST="+e.Host)
		if e.Started {
			defer func() {
				// An interrupt must not cut the clean-up short.
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
				defer cancel()
				if downErr := r.Down(ctx); downErr != nil {
					fmt.Fprintf(r.Out, "rig: %v\n", downErr)
					err = errors.Join(err, downErr)
				}
			}()
		}
		if err := r.InstallImageSources(ctx); err != nil {
			return err
		}
	case rig.Required("docker") || !errors.Is(upErr, rig.ErrNoEngine):
		return upErr
	default:
		fmt.Fprintf(r.Out, "rig: going on without an engine: %v\n", upErr)
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// A process group of its own, so that an interrupt from the terminal reaches the
	// command once, from here: a second one would cut its clean-up short.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = stopTimeout
	err = cmd.Run()
	if err != nil && cmd.ProcessState != nil && cmd.ProcessState.Success() {
		return nil // interrupted, and it ended well
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &commandError{code: max(exit.ExitCode(), 1)}
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", command[0], err)
	}
	return nil
}

// commandError is the failure of the command of exec, which has told about it itself.
type commandError struct{ code int }

func (e *commandError) Error() string { return fmt.Sprintf("the command ended with code %d", e.code) }
