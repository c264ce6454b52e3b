//go:build integration

package rig

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/volume"
)

// TestOwnDaemon starts a daemon beside the engine that the other tests use, in a network
// namespace of its own, and stops it again.
func TestOwnDaemon(t *testing.T) {
	RequireDocker(t)
	if os.Geteuid() != 0 || len(missingOf(dockerNeeds(), lookPath)) > 0 {
		t.Skip("starting an engine needs root and the package docker.io")
	}
	t.Setenv("KRANIX_TEST_DOCKER_HOST", "")
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "none.sock"))
	bridge := bridgeIndex(t)
	var out bytes.Buffer
	r := &Rig{Dir: t.TempDir(), Out: &out, Isolated: true, NoInstall: true}
	t.Cleanup(func() { mustDown(t, r) })

	e, err := r.UpDocker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !e.Started || e.Host != "unix://"+r.socketPath() {
		t.Errorf("engine %+v, want one started on the rig's socket", e)
	}
	again, err := r.UpDocker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again.Started || again.Host != e.Host {
		t.Errorf("second up gives %+v, want the first engine", again)
	}
	id := runSleeper(t, e.Host)

	s, err := r.readState()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Down(t.Context()); err != nil {
		t.Fatalf("down with container %s running: %v", id, err)
	}
	if now := bridgeIndex(t); now != bridge {
		t.Errorf("the other engine's bridge is now interface %d, before %d", now, bridge)
	}
	if s.Process.alive() {
		t.Error("the daemon is alive after Down")
	}
	if left := processesUsing(r.dockerDir()); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
	if _, err := os.Stat(r.dockerDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("state folder after Down: %v, want it gone", err)
	}
	if !strings.Contains(out.String(), "starting dockerd") || !strings.Contains(out.String(), "stopping dockerd") {
		t.Errorf("the rig says %q, want what it does", out.String())
	}
}

// TestDownAfterTheDaemonWasKilled: a daemon that was killed leaves its containerd, the
// shims of its containers and mounts behind.
func TestDownAfterTheDaemonWasKilled(t *testing.T) {
	RequireDocker(t)
	if os.Geteuid() != 0 || len(missingOf(dockerNeeds(), lookPath)) > 0 {
		t.Skip("starting an engine needs root and the package docker.io")
	}
	t.Setenv("KRANIX_TEST_DOCKER_HOST", "")
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "none.sock"))
	r := &Rig{Dir: t.TempDir(), Isolated: true, NoInstall: true}
	t.Cleanup(func() { mustDown(t, r) })
	e, err := r.UpDocker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	runSleeper(t, e.Host)
	s, err := r.readState()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Process.signal(9); err != nil || !awaitEnd(t.Context(), s.Process, 10*time.Second) {
		t.Fatalf("kill the daemon: %v", err)
	}
	if len(processesUsing(r.dockerDir())) == 0 {
		t.Fatal("the killed daemon left no process; this test proves nothing")
	}
	if err := r.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := processesUsing(r.dockerDir()); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if left := mountsBelow(string(mounts), r.dockerDir()); len(left) > 0 {
		t.Errorf("mounts left: %v", left)
	}
}

// TestASecondDaemonIsRefused: without Isolated the rig starts none beside another.
func TestASecondDaemonIsRefused(t *testing.T) {
	RequireDocker(t)
	if os.Geteuid() != 0 || otherDaemon() == 0 {
		t.Skip("needs root and an engine on this machine")
	}
	t.Setenv("KRANIX_TEST_DOCKER_HOST", "")
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "none.sock"))
	r := &Rig{Dir: t.TempDir(), NoInstall: true}
	t.Cleanup(func() { mustDown(t, r) })
	_, err := r.UpDocker(t.Context())
	if !errors.Is(err, ErrNoEngine) || !strings.Contains(err.Error(), "DOCKER_HOST") {
		t.Errorf("error %v, want ErrNoEngine with what to do", err)
	}
}

func TestImportAndCleanup(t *testing.T) {
	host := RequireDocker(t)
	c, err := Client(host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const ref, label = "kranix-rig/import:test", "io.kranix.rigtest"
	t.Cleanup(func() {
		if err := RemoveImage(context.WithoutCancel(t.Context()), host, ref); err != nil {
			t.Error(err)
		}
	})
	first, err := WebImage(t.Context(), host, ref, "WEB_VERSION=v1")
	if err != nil {
		t.Fatal(err)
	}
	if same, err := WebImage(t.Context(), host, ref, "WEB_VERSION=v1"); err != nil || same != first {
		t.Errorf("the same import gives %s, %v; want image %s as it is", same, err, first)
	}
	other, err := WebImage(t.Context(), host, ref, "WEB_VERSION=v2")
	if err != nil || other == first {
		t.Errorf("another import gives %s, %v; want another image", other, err)
	}
	if err := RemoveImage(t.Context(), host, first); err != nil {
		t.Error(err)
	}

	mine := map[string]string{label: "mine"}
	created, err := c.ContainerCreate(t.Context(), &container.Config{Image: ref, Labels: mine}, nil, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	v, err := c.VolumeCreate(t.Context(), volume.CreateOptions{Labels: map[string]string{label: "other"}})
	if err != nil {
		t.Fatal(err)
	}
	n, err := Cleanup(t.Context(), host, label+"=mine")
	if err != nil || n != 1 {
		t.Errorf("cleanup removed %d, %v; want the one container", n, err)
	}
	if _, err := c.ContainerInspect(t.Context(), created.ID); err == nil {
		t.Error("the labelled container is still there")
	}
	if n, err := Cleanup(t.Context(), host, label+"=other"); err != nil || n != 1 {
		t.Errorf("cleanup removed %d, %v; want volume %s", n, err, v.Name)
	}
	if _, err := Cleanup(t.Context(), host, ""); err == nil {
		t.Error("an empty label is accepted")
	}
}

func TestBusyboxImageHasAShell(t *testing.T) {
	host := RequireDocker(t)
	const ref = "kranix-rig/busybox:test"
	if _, err := BusyboxImage(t.Context(), host, ref); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := RemoveImage(context.WithoutCancel(t.Context()), host, ref); err != nil {
			t.Error(err)
		}
	})
	out, err := runOnce(t, host, ref, "sh", "-c", "echo $((6*7)) | tr 4 x; ls -d /tmp")
	if err != nil || out != "x2\n/tmp\n" {
		t.Errorf("output %q, %v", out, err)
	}
}

// bridgeIndex is the index of this network namespace's docker0, 0 when it has none.
func bridgeIndex(t *testing.T) int {
	t.Helper()
	i, err := net.InterfaceByName(defaultBridge)
	if err != nil {
		return 0
	}
	return i.Index
}

func mustDown(t *testing.T, r *Rig) {
	t.Helper()
	if err := r.Down(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

// runSleeper starts a container that runs until it is stopped, without a network.
func runSleeper(t *testing.T, host string) string {
	t.Helper()
	const ref = "kranix-rig/web:own"
	if _, err := WebImage(t.Context(), host, ref); err != nil {
		t.Fatal(err)
	}
	c, err := Client(host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	created, err := c.ContainerCreate(t.Context(), &container.Config{Image: ref},
		&container.HostConfig{NetworkMode: "none"}, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ContainerStart(t.Context(), created.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	return created.ID
}

// runOnce runs a command in a container that is removed afterwards.
func runOnce(t *testing.T, host, ref string, command ...string) (string, error) {
	t.Helper()
	docker, err := exec.LookPath("docker")
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"--host", host, "run", "--rm", "--network", "none", ref}, command...)
	out, err := exec.CommandContext(t.Context(), docker, args...).CombinedOutput()
	return string(out), err
}
