package rig

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ModuleRoot returns the folder of the repository that the caller works in.
func ModuleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find module: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if mod == "" || mod == os.DevNull {
		return "", fmt.Errorf("find module: not inside the repository")
	}
	return filepath.Dir(mod), nil
}

// Build builds a package of the repository ("./cmd/kranix-runtime") into the file out.
// Environment variables such as "CGO_ENABLED=0" can be given.
func Build(ctx context.Context, pkg, out string, env ...string) error {
	root, err := ModuleRoot(ctx)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", out, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), env...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, bytes.TrimSpace(said))
	}
	return nil
}

// WebBinary builds the web fixture as a static binary and returns its content.
func WebBinary(ctx context.Context) ([]byte, error) {
	dir, err := os.MkdirTemp("", "kranix-rig-")
	if err != nil {
		return nil, fmt.Errorf("make build folder: %w", err)
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "web")
	if err := Build(ctx, "./tests/fixtures/web", out, "CGO_ENABLED=0"); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(out)
	if err != nil {
		return nil, fmt.Errorf("read web fixture: %w", err)
	}
	return b, nil
}

// NatsCLI builds the nats command-line client (the version tests/natscli pins) and
// returns its path in Go's build cache.
func NatsCLI(ctx context.Context) (string, error) {
	root, err := ModuleRoot(ctx)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "-C", filepath.Join(root, "tests", "natscli"), "tool", "-n", "nats")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build the nats client: %w\n%s", err, bytes.TrimSpace(said.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}
