package rig

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

func TestIsDebian(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		release string
		want    bool
	}{
		"debian": {"PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n", true},
		"ubuntu": {"ID=ubuntu\nID_LIKE=debian\n", true},
		"mint":   {"ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", true},
		"fedora": {"ID=fedora\nNAME=\"not debian\"\n", false},
		"empty":  {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := isDebian(tc.release); got != tc.want {
				t.Errorf("isDebian = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestMissingOf(t *testing.T) {
	t.Parallel()
	got := missingOf(dockerNeeds(), func(program string) bool { return program == "iptables" })
	if len(got) != 1 || got[0].pkg != "docker.io" {
		t.Errorf("missing %v, want docker.io alone", got)
	}
}

func TestMountsBelow(t *testing.T) {
	t.Parallel()
	const info = `22 1 0:20 / /rig rw - ext4 x rw
23 1 0:20 / /rig/data rw - ext4 x rw
24 1 0:21 / /rig/data/overlay2/a\040b/merged rw - overlay overlay rw
25 1 0:22 / /rigid/data rw - ext4 x rw
broken
`
	want := []string{"/rig/data/overlay2/a b/merged", "/rig/data"}
	if got := mountsBelow(info, "/rig"); !slices.Equal(got, want) {
		t.Errorf("mounts %q, want %q", got, want)
	}
}

func TestProcessIsKnownByItsStart(t *testing.T) {
	t.Parallel()
	// A name with spaces and parentheses must not confuse the reading of stat.
	path := filepath.Join(t.TempDir(), "a) b (c")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := processOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !p.alive() {
		t.Error("a process that runs counts as gone")
	}
	reused := p
	reused.Started += "1"
	if reused.alive() {
		t.Error("a process with another start time counts as the one remembered")
	}
	if err := reused.signal(syscall.SIGKILL); err != nil || !p.alive() {
		t.Errorf("signal to a reused process id: error %v, alive %v; want it left alone", err, p.alive())
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the process ended by itself, want it killed")
	}
	if p.alive() {
		t.Error("a process that is gone counts as alive")
	}
}

func TestFindDockerSaysWhereItAsked(t *testing.T) {
	nowhere := "unix://" + filepath.Join(t.TempDir(), "none.sock")
	for _, variable := range []string{"KRANIX_TEST_DOCKER_HOST", "DOCKER_HOST"} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv("KRANIX_TEST_DOCKER_HOST", "")
			t.Setenv(variable, nowhere)
			r := &Rig{Dir: t.TempDir()}
			_, err := r.FindDocker(t.Context())
			if !errors.Is(err, ErrNoEngine) || !strings.Contains(err.Error(), nowhere) {
				t.Errorf("error %v, want ErrNoEngine naming %s", err, nowhere)
			}
		})
	}
}

func TestDownLeavesAForeignProcessAlone(t *testing.T) {
	t.Parallel()
	r := &Rig{Dir: t.TempDir()}
	self, err := processOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	self.Started = "1" // as if this process had been given the daemon's old number
	if err := os.MkdirAll(r.dockerDir(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := r.writeState(&state{Host: "unix:///none", Process: self}); err != nil {
		t.Fatal(err)
	}
	if err := r.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.dockerDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("state folder after Down: %v, want it gone", err)
	}
	if _, err := os.Stat(r.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the rig's folder after Down: %v, want it gone", err)
	}
	if err := r.Down(t.Context()); err != nil {
		t.Errorf("a second Down: %v, want nothing to do", err)
	}
}

func TestDownKeepsAFolderThatIsNotTheRigs(t *testing.T) {
	t.Parallel()
	r := &Rig{Dir: t.TempDir()}
	precious := filepath.Join(r.dockerDir(), "precious")
	if err := os.MkdirAll(precious, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := r.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("a folder without the rig's state: %v, want it untouched", err)
	}
}

// TestLockIsExclusive: the lock file is removed with the folder again and again, and
// still nobody shares the lock.
func TestLockIsExclusive(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "rig")
	var inside, entered atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				f, err := tryLock(filepath.Join(dir, "lock"))
				if err != nil {
					t.Error(err)
					return
				}
				if f == nil {
					runtime.Gosched()
					continue
				}
				if inside.Add(1) != 1 {
					t.Error("two have the lock")
				}
				entered.Add(1)
				for range 50 { // time for another to try
					runtime.Gosched()
				}
				inside.Add(-1)
				_ = os.Remove(f.Name())
				f.Close()
			}
		})
	}
	all.Wait()
	if entered.Load() == 0 {
		t.Error("nobody got the lock")
	}
}

func TestRequired(t *testing.T) {
	t.Setenv("KRANIX_REQUIRE_ENGINES", "docker, podman")
	if !Required("docker") || !Required("podman") || Required("kubernetes") || Required("pod") {
		t.Error("the list of required engines is read wrong")
	}
}

func TestRootFS(t *testing.T) {
	t.Parallel()
	b, err := RootFS(File{Path: "/a/b/tool", Data: []byte("#!"), Mode: 0o755}, File{Path: "/a/link", Link: "/a/b/tool"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, h.Name)
	}
	if want := []string{"tmp/", "a/", "a/b/", "a/b/tool", "a/link"}; !slices.Equal(got, want) {
		t.Errorf("entries %q, want %q", got, want)
	}
}
