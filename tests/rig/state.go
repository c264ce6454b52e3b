package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// state is what the rig remembers of a daemon it started; it lives in
// <Dir>/docker/state.json and is written before the daemon is used.
type state struct {
	Host    string  `json:"host"`
	Process process `json:"process"`
	// Bridge is the bridge the daemon made, removed when it is stopped; empty when the
	// bridge was there before.
	Bridge string `json:"bridge,omitempty"`
}

func (r *Rig) dockerDir() string  { return filepath.Join(r.Dir, "docker") }
func (r *Rig) statePath() string  { return filepath.Join(r.dockerDir(), "state.json") }
func (r *Rig) socketPath() string { return filepath.Join(r.dockerDir(), "docker.sock") }
func (r *Rig) execRoot() string   { return filepath.Join(r.dockerDir(), "exec") }

// LogPath is where the daemon the rig started writes its log.
func (r *Rig) LogPath() string { return filepath.Join(r.dockerDir(), "dockerd.log") }

func (r *Rig) readState() (*state, error) {
	b, err := os.ReadFile(r.statePath())
	if err != nil {
		return nil, fmt.Errorf("read engine state: %w", err)
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("read engine state %s: %w", r.statePath(), err)
	}
	return &s, nil
}

func (r *Rig) writeState(s *state) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write engine state: %w", err)
	}
	if err := os.WriteFile(r.statePath(), b, 0o600); err != nil {
		return fmt.Errorf("write engine state: %w", err)
	}
	return nil
}

// lock keeps two rigs from starting or stopping an engine at a time. The returned
// function releases it, and removes the state folder when nothing is in it any more.
func (r *Rig) lock(ctx context.Context) (func(), error) {
	path := filepath.Join(r.Dir, "lock")
	for {
		f, err := tryLock(path)
		if err != nil {
			return nil, err
		}
		if f != nil {
			return func() {
				if _, err := os.Stat(r.dockerDir()); errors.Is(err, fs.ErrNotExist) {
					// Others wait for this very file: they find it gone and start over. A
					// folder with anything else in it stays.
					_ = os.Remove(path)
					_ = os.Remove(r.Dir)
				}
				f.Close()
			}, nil
		}
		if err := wait(ctx, 100*time.Millisecond); err != nil {
			return nil, fmt.Errorf("wait for another rig: %w", err)
		}
	}
}

// tryLock returns nil when someone else has the lock.
func tryLock(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) { // the folder was just removed
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err == nil {
		// The lock of a file that was removed meanwhile keeps nobody out.
		mine, mineErr := f.Stat()
		there, thereErr := os.Stat(path)
		if mineErr == nil && thereErr == nil && os.SameFile(mine, there) {
			return f, nil
		}
	}
	f.Close()
	return nil, nil
}

// process identifies a process beyond the reuse of its number.
type process struct {
	PID int `json:"pid"`
	// Started is the start time in clock ticks since boot (proc(5), stat field 22).
	Started string `json:"started"`
	// Boot is the kernel's id of this boot.
	Boot string `json:"boot"`
}

func processOf(pid int) (process, error) {
	started, err := startTime(pid)
	if err != nil {
		return process{}, err
	}
	boot, err := bootID()
	if err != nil {
		return process{}, err
	}
	return process{PID: pid, Started: started, Boot: boot}, nil
}

// alive says whether the very process still runs.
func (p process) alive() bool {
	if p.PID <= 1 {
		return false
	}
	now, err := processOf(p.PID)
	return err == nil && now == p
}

// signal sends sig to the process if it is still the one that was remembered.
func (p process) signal(sig syscall.Signal) error {
	if !p.alive() {
		return nil
	}
	if err := syscall.Kill(p.PID, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}

// startTime reads field 22 of /proc/<pid>/stat; a zombie counts as gone.
func startTime(pid int) (string, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", fmt.Errorf("read process %d: %w", pid, err)
	}
	// The command, field 2, is in parentheses and may contain anything.
	_, rest, ok := cutLast(string(b), ")")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return "", fmt.Errorf("read process %d: unexpected stat %q", pid, b)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return "", fmt.Errorf("read process %d: %w", pid, fs.ErrNotExist)
	}
	return fields[19], nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// wait returns after d, or ctx's error when that ends first.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
