//go:build unix

package drivers

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"
)

// Opening a FIFO waits for a writer, who may never come.
func TestSecretStoreNeverWaitsForAPipe(t *testing.T) {
	dir := secretsDir(t)
	if err := syscall.Mkfifo(filepath.Join(dir, "shop", "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := (&SecretStore{Dir: dir}).ResolveSecret(t.Context(), "shop", SecretRef{File: "pipe"})
	if !errors.Is(err, ErrDenied) {
		t.Errorf("got %v, want denied", err)
	}
}
