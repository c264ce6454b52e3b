package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// measureProcess reports what the built binary takes: its size, and its memory while it
// runs idle with embedded NATS.
func measureProcess(ctx context.Context, o options) ([]row, error) {
	info, err := os.Stat(o.binary)
	if err != nil {
		return nil, fmt.Errorf("%w (build it first: make build)", err)
	}
	rows := []row{{Name: "binary size", Value: float64(info.Size()) / (1 << 20), Unit: "MiB"}}
	anonymous, resident, err := idleMemory(ctx, o.binary)
	if err != nil {
		return rows, err
	}
	under := anonymous < 40
	return append(rows,
		row{Name: "run idle, embedded NATS: anonymous memory", Value: anonymous, Unit: "MiB", Target: "< 40", Met: &under},
		row{Name: "run idle, embedded NATS: resident memory", Value: resident, Unit: "MiB"},
	), nil
}

// idleAfter is how long the process is left alone before it is looked at.
const idleAfter = 10 * time.Second

// idleMemory starts the binary on the simulated engine and reads its memory, in MiB.
func idleMemory(ctx context.Context, binary string) (anonymous, resident float64, err error) {
	dir, err := os.MkdirTemp("", "kranix-bench-")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, binary, "run", "--data-dir", dir, "--nats-listen", "127.0.0.1:0", "--backend", "sim")
	cmd.Env = append(os.Environ(), "KRANIX_METRICS_EXPOSE_ENDPOINT=false", "KRANIX_NODE_LOCK_DIR="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return 0, 0, fmt.Errorf("start %s: %w", binary, err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if waitErr := <-exited; waitErr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w: %s", binary, waitErr, stderr.String()))
		}
	}()
	select {
	case <-time.After(idleAfter):
	case err := <-exited:
		exited <- nil
		return 0, 0, fmt.Errorf("%s ended: %w: %s", binary, err, stderr.String())
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	field := func(name string) float64 {
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, name+":"); ok {
				kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
				return kib / 1024
			}
		}
		return 0
	}
	return field("RssAnon"), field("VmRSS"), nil
}
