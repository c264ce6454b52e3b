// Package datadir owns the runtime's data directory: it makes it and sees to it that
// one process at a time uses it.
package datadir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrInUse is matched by the error of Open when another process has the directory.
var ErrInUse = errors.New("data directory is in use")

// Dir is a data directory this process has for itself.
type Dir struct {
	path string
	lock *os.File
}

// Open makes the directory, readable by its owner only, and takes it. The lock goes
// with the process, however it ends. Errors: ErrInUse, naming the other process.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	name := filepath.Join(path, "lock")
	lock, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of data directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer func() { _ = lock.Close() }()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s belongs to a runtime that is running%s; stop that one, or set runtime.data_dir to another directory",
				ErrInUse, path, holder(lock))
		}
		return nil, fmt.Errorf("lock data directory %s: %w", path, err)
	}
	d := &Dir{path: path, lock: lock}
	if err := d.sign(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// sign leaves the process's number for the message of the next one.
func (d *Dir) sign() error {
	if err := d.lock.Truncate(0); err != nil {
		return fmt.Errorf("write lock of data directory: %w", err)
	}
	if _, err := d.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("write lock of data directory: %w", err)
	}
	return nil
}

func holder(lock *os.File) string {
	buf := make([]byte, 32)
	n, _ := lock.ReadAt(buf, 0) // what cannot be read is left out of the message
	if pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n]))); err == nil {
		return fmt.Sprintf(" (process %d)", pid)
	}
	return ""
}

// Path is the directory.
func (d *Dir) Path() string { return d.path }

// Close gives the directory back.
func (d *Dir) Close() error {
	if err := d.lock.Close(); err != nil {
		return fmt.Errorf("unlock data directory: %w", err)
	}
	return nil
}
