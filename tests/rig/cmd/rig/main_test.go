package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"up"}, {"up", "podman"}, {"exec", "docker", "--"}, {"exec", "docker", "true"}, {"image"}, {"down", "now"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			var out, errOut bytes.Buffer
			if code := run(t.Context(), args, &out, &errOut); code != 2 || !strings.Contains(errOut.String(), "usage:") {
				t.Errorf("code %d, %q; want 2 and the usage", code, errOut.String())
			}
		})
	}
}

// TestExecWithoutAnEngine: the command runs and names what it misses, unless the engine
// is required.
func TestExecWithoutAnEngine(t *testing.T) {
	for name, tc := range map[string]struct {
		required string
		script   string
		code     int
		ran      bool
	}{
		"goes on":               {"", "touch ran", 0, true},
		"the command's code":    {"", "touch ran; exit 7", 7, true},
		"required":              {"docker", "touch ran", 1, false},
		"another is required":   {"podman", "touch ran", 0, true},
		"required among others": {"podman,docker", "touch ran", 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Chdir(dir)
			// An engine that is named and does not answer is never replaced by another.
			t.Setenv("KRANIX_TEST_DOCKER_HOST", "unix://"+filepath.Join(dir, "none.sock"))
			t.Setenv("KRANIX_RIG_DIR", filepath.Join(dir, "rig"))
			t.Setenv("KRANIX_REQUIRE_ENGINES", tc.required)
			var out, errOut bytes.Buffer
			code := run(t.Context(), []string{"exec", "docker", "--", "sh", "-c", tc.script}, &out, &errOut)
			if code != tc.code {
				t.Errorf("code %d, want %d: %s", code, tc.code, errOut.String())
			}
			if _, err := os.Stat("ran"); (err == nil) != tc.ran {
				t.Errorf("the command ran: %v, want %v", err == nil, tc.ran)
			}
			if !strings.Contains(errOut.String(), "none.sock") {
				t.Errorf("output %q does not name the engine", errOut.String())
			}
		})
	}
}

func TestStatusWithoutAnEngine(t *testing.T) {
	t.Setenv("KRANIX_TEST_DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "none.sock"))
	var out, errOut bytes.Buffer
	if code := run(t.Context(), []string{"status"}, &out, &errOut); code != 1 {
		t.Errorf("code %d, want 1", code)
	}
}
