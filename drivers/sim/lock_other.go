//go:build !unix

package sim

import (
	"errors"
	"os"
)

// lockFile refuses: without a lock two processes could use one state file.
func lockFile(string) (*os.File, error) {
	return nil, errors.New("state files need a Unix system")
}
