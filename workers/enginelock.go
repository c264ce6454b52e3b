package workers

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// engineLocks hold one advisory lock per engine on its host, so that two nodes cannot
// serve one engine. The kernel drops them with the process.
type engineLocks struct {
	mu    sync.Mutex
	files []*os.File
}

// take locks an engine. Errors: errEngineTaken, naming who has it.
func (l *engineLocks) take(dir, backend, engineID, node string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create lock directory: %w", err)
	}
	path := filepath.Join(dir, "engine-"+backend+"-"+fileName(engineID)+".lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open engine lock: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		owner, _ := io.ReadAll(io.LimitReader(f, 64))
		f.Close()
		return fmt.Errorf("%s %w %q on this host (lock %s): stop it, or serve this engine from there",
			backend, errEngineTaken, strings.TrimSpace(string(owner)), path)
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(node+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("lock engine: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files = append(l.files, f)
	return nil
}

// release drops all locks. The files stay: removing them would race with another taker.
func (l *engineLocks) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		f.Close()
	}
	l.files = nil
}

// fileName makes a file name of an engine's ID ("ABCD:EFGH:...").
func fileName(id string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, id)
}
