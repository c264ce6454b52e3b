//go:build unix

package sim

import (
	"fmt"
	"os"
	"syscall"
)

// lockFile takes an exclusive lock that ends with the file or the process. Errors: when
// another holder has it.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("take lock %s: %w", path, err)
	}
	return f, nil
}
