package rig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	startTimeout = 60 * time.Second
	// stopTimeout is longer than the grace the daemon gives its containers.
	stopTimeout   = 45 * time.Second
	pollInterval  = 100 * time.Millisecond
	defaultBridge = "docker0"
)

// startDocker installs what is missing and starts a daemon. why is the reason that
// there is no engine yet. The lock is held.
func (r *Rig) startDocker(ctx context.Context, why error) (*Engine, error) {
	if os.Geteuid() != 0 {
		return nil, withAdvice(why, "you are not root")
	}
	if pid := otherDaemon(); pid != 0 && !r.Isolated {
		return nil, fmt.Errorf("%w; a dockerd runs here as process %d and a second one beside it would break its network: "+
			"set DOCKER_HOST to the address it listens on", why, pid)
	}
	if err := r.clear(ctx); err != nil { // of what a killed rig left
		return nil, err
	}
	installed, err := r.install(ctx, why)
	if err != nil {
		return nil, err
	}
	if installed {
		// Where services are managed, the package has started its own.
		if e := r.awaitService(ctx); e != nil {
			return e, nil
		}
	}
	s, err := r.launch()
	if err != nil {
		return nil, err
	}
	version, err := r.await(ctx, s)
	if err != nil {
		return nil, errors.Join(err, r.clear(context.WithoutCancel(ctx)))
	}
	r.say("dockerd %s is up on %s (process %d, log %s)", version, s.Host, s.Process.PID, r.LogPath())
	return &Engine{Host: s.Host, Version: version, Started: true}, nil
}

// awaitService waits for a daemon that the package's installation started, if it did.
func (r *Rig) awaitService(ctx context.Context) *Engine {
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); {
		if version, err := probe(ctx, DefaultDockerHost); err == nil {
			r.say("the installed service answers on %s; it stays: stop it with 'service docker stop'", DefaultDockerHost)
			return &Engine{Host: DefaultDockerHost, Version: version}
		}
		if otherDaemon() == 0 {
			return nil
		}
		if wait(ctx, pollInterval) != nil {
			return nil
		}
	}
	return nil
}

// launch starts the daemon and remembers it; it does not wait for it to answer.
func (r *Rig) launch() (*state, error) {
	path, err := exec.LookPath("dockerd")
	if err != nil {
		return nil, fmt.Errorf("find dockerd: %w", err)
	}
	if err := os.MkdirAll(r.execRoot(), 0o711); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	s := &state{Host: "unix://" + r.socketPath()}
	// A bridge that is there already belongs to someone else.
	if _, err := net.InterfaceByName(defaultBridge); err != nil && !r.Isolated {
		s.Bridge = defaultBridge
	}
	// Written before the start too: without a process it still leads clear to the folder.
	if err := r.writeState(s); err != nil {
		return nil, err
	}
	config := filepath.Join(r.dockerDir(), "daemon.json")
	if err := os.WriteFile(config, []byte("{}\n"), 0o600); err != nil {
		return nil, fmt.Errorf("write engine configuration: %w", err)
	}
	log, err := os.OpenFile(r.LogPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open engine log: %w", err)
	}
	defer log.Close()

	args := []string{
		"--host", s.Host,
		"--config-file", config,
		"--data-root", filepath.Join(r.dockerDir(), "data"),
		"--exec-root", r.execRoot(),
		"--pidfile", filepath.Join(r.dockerDir(), "dockerd.pid"),
		"--containerd-namespace", "kranix-rig",
		"--containerd-plugins-namespace", "kranix-rig-plugins",
	}
	// Not bound to a context: the daemon outlives this program, and in a session of its
	// own it does not see the terminal's interrupt before its containers are removed.
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if r.Isolated {
		// Flags that switch its network off would not do: --bridge=none makes it remove
		// docker0, whoever that belongs to.
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	}
	r.say("starting dockerd with its state in %s", r.dockerDir())
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start dockerd: %w", err)
	}
	if s.Process, err = processOf(cmd.Process.Pid); err != nil {
		return nil, fmt.Errorf("remember dockerd: %w", err)
	}
	if err := cmd.Process.Release(); err != nil {
		return nil, fmt.Errorf("release dockerd: %w", err)
	}
	return s, r.writeState(s)
}

// await waits until the daemon answers.
func (r *Rig) await(ctx context.Context, s *state) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		if version, err = probe(ctx, s.Host); err == nil {
			return version, nil
		}
		if !s.Process.alive() {
			return "", fmt.Errorf("start dockerd: it ended; the end of its log:\n%s", r.logTail())
		}
		if wait(ctx, pollInterval) != nil {
			return "", fmt.Errorf("start dockerd: no answer: %w; the end of its log:\n%s", err, r.logTail())
		}
	}
}

func (r *Rig) logTail() string {
	b, err := os.ReadFile(r.LogPath())
	if err != nil {
		return err.Error()
	}
	return lastLines(string(b), 15)
}

// Down stops the daemon the rig has started, if any, and removes its state.
func (r *Rig) Down(ctx context.Context) error {
	if _, err := os.Stat(r.dockerDir()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return r.clear(ctx)
}

// clear ends what a rig with this state folder has started, and removes the folder.
func (r *Rig) clear(ctx context.Context) error {
	s, err := r.readState()
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.Process.alive() {
		r.say("stopping dockerd (process %d)", s.Process.PID)
		if err := s.Process.signal(syscall.SIGTERM); err != nil {
			return err
		}
		if !awaitEnd(ctx, s.Process, stopTimeout) {
			if err := s.Process.signal(syscall.SIGKILL); err != nil {
				return err
			}
		}
	}
	// What a daemon that was killed leaves: its containerd, and the shims of containers.
	for _, p := range processesUsing(r.dockerDir()) {
		if err := p.signal(syscall.SIGTERM); err != nil {
			return err
		}
		if !awaitEnd(ctx, p, 5*time.Second) {
			if err := p.signal(syscall.SIGKILL); err != nil {
				return err
			}
			awaitEnd(ctx, p, 5*time.Second)
		}
	}
	if err := unmountBelow(r.dockerDir()); err != nil {
		return err
	}
	if s.Bridge != "" {
		removeBridge(ctx, s.Bridge)
	}
	if err := os.RemoveAll(r.dockerDir()); err != nil {
		return fmt.Errorf("remove engine state: %w", err)
	}
	return nil
}

// awaitEnd waits until p is gone, and says whether it is.
func awaitEnd(ctx context.Context, p process, timeout time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for p.alive() {
		if wait(ctx, pollInterval) != nil {
			return false
		}
	}
	return true
}
