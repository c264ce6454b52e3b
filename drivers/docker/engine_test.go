//go:build integration

package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// hostEnv names the engine the integration tests run against.
const hostEnv = "KRANIX_TEST_DOCKER_HOST"

// testImage is a busybox the tests import themselves; nothing is pulled.
const testImage = "kranix-test-busybox:latest"

// newTestDriver returns a driver on a node of its own, so that tests see nothing of
// each other, and removes what is left of the node when the test ends.
func newTestDriver(t *testing.T, change ...func(*drivers.Environment, *Config)) *Driver {
	t.Helper()
	env := drivers.Environment{Node: "test-" + randomLabel(t), Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	cfg := Config{Host: os.Getenv(hostEnv)}
	for _, c := range change {
		c(&env, &cfg)
	}
	d, err := New(t.Context(), env, cfg)
	if err != nil {
		t.Fatalf("connect to the engine (%s names another): %v", hostEnv, err)
	}
	t.Cleanup(func() {
		removeNode(t, d)
		if err := d.Close(); err != nil {
			t.Errorf("close driver: %v", err)
		}
	})
	importTestImage(t, d)
	return d
}

func randomLabel(t *testing.T) string {
	t.Helper()
	b := make([]byte, 4)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

// importTestImage makes sure the engine has testImage.
func importTestImage(t *testing.T, d *Driver) {
	t.Helper()
	if _, err := d.cli.ImageInspect(t.Context(), testImage); err == nil {
		return
	}
	binary, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("read busybox (package busybox-static): %v", err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h *tar.Header, content []byte) {
		h.Size = int64(len(content))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin/", "etc/", "tmp/"} {
		add(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, nil)
	}
	add(&tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, binary)
	for _, name := range []string{"sh", "sleep", "cat", "echo", "httpd", "ls", "id", "stat", "env", "nc", "date",
		"trap", "hostname", "pwd", "touch", "test", "dd", "tail", "true", "false", "seq", "wget", "mkdir", "kill"} {
		add(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox", Mode: 0o755}, nil)
	}
	add(&tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0:root:/:/bin/sh\napp:x:1000:1000:app:/:/bin/sh\n"))
	add(&tar.Header{Typeflag: tar.TypeReg, Name: "etc/group", Mode: 0o644}, []byte("root:x:0:\napp:x:1000:\n"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := d.cli.ImageImport(t.Context(), image.ImportSource{Source: &buf, SourceName: "-"}, testImage, image.ImportOptions{
		Changes: []string{"ENV PATH=/bin", `CMD ["sleep","3600"]`}})
	if err != nil {
		t.Fatalf("import %s: %v", testImage, err)
	}
	defer r.Close() //nolint:errcheck // read to the end below
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
}

// removeNode removes all objects of the driver's node.
func removeNode(t *testing.T, d *Driver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	node := filters.NewArgs(filters.Arg("label", drivers.LabelNode+"="+d.env.Node))
	containers, err := d.cli.ContainerList(ctx, container.ListOptions{All: true, Filters: node})
	if err != nil {
		t.Errorf("list containers to clean up: %v", err)
		return
	}
	for _, c := range containers {
		if err := d.cli.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true}); err != nil && !cerrdefs.IsNotFound(err) {
			t.Errorf("clean up container %v: %v", c.Names, err)
		}
	}
	volumes, err := d.cli.VolumeList(ctx, volume.ListOptions{Filters: node})
	if err != nil {
		t.Errorf("list volumes to clean up: %v", err)
		return
	}
	for _, v := range volumes.Volumes {
		if err := d.cli.VolumeRemove(ctx, v.Name, true); err != nil && !cerrdefs.IsNotFound(err) {
			t.Errorf("clean up volume %s: %v", v.Name, err)
		}
	}
	networks, err := d.cli.NetworkList(ctx, network.ListOptions{Filters: node})
	if err != nil {
		t.Errorf("list networks to clean up: %v", err)
		return
	}
	for _, n := range networks {
		if err := d.cli.NetworkRemove(ctx, n.ID); err != nil && !cerrdefs.IsNotFound(err) {
			t.Errorf("clean up network %s: %v", n.Name, err)
		}
	}
}

// testSpec is a workload that runs until it is stopped, at once. Its namespace is the
// driver's own: the nodes of parallel tests share the engine's names.
func testSpec(d *Driver, name string, change ...func(*drivers.WorkloadSpec)) *drivers.WorkloadSpec {
	s := &drivers.WorkloadSpec{Name: name, Namespace: d.env.Node, Image: testImage,
		Command: []string{"sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done"},
		Update:  drivers.Update{Monitor: drivers.DurationPtr(300 * time.Millisecond)},
		Stop:    drivers.Stop{Grace: drivers.DurationPtr(3 * time.Second)},
	}
	for _, c := range change {
		c(s)
	}
	return s.WithDefaults()
}

// with returns a context that carries a command of that sequence.
func with(t *testing.T, sequence uint64, change ...func(*drivers.Command)) context.Context {
	t.Helper()
	cmd := drivers.Command{ID: "command" + string(rune('a'+sequence%26)), Sequence: sequence}
	for _, c := range change {
		c(&cmd)
	}
	return drivers.WithCommand(t.Context(), cmd)
}

func mustDeploy(t *testing.T, ctx context.Context, d *Driver, s *drivers.WorkloadSpec) *drivers.WorkloadStatus {
	t.Helper()
	status, err := d.Deploy(ctx, s)
	if err != nil {
		t.Fatalf("deploy %s: %v", s.ID(), err)
	}
	return status
}

// mustExist asserts how many containers, volumes and networks the node has.
func mustExist(t *testing.T, d *Driver, containers, volumes, networks int) {
	t.Helper()
	node := filters.NewArgs(filters.Arg("label", drivers.LabelNode+"="+d.env.Node))
	c, err := d.cli.ContainerList(t.Context(), container.ListOptions{All: true, Filters: node})
	if err != nil {
		t.Fatal(err)
	}
	v, err := d.cli.VolumeList(t.Context(), volume.ListOptions{Filters: node})
	if err != nil {
		t.Fatal(err)
	}
	n, err := d.cli.NetworkList(t.Context(), network.ListOptions{Filters: node})
	if err != nil {
		t.Fatal(err)
	}
	if len(c) != containers || len(v.Volumes) != volumes || len(n) != networks {
		var names []string
		for _, x := range c {
			names = append(names, x.Names[0]+"="+x.State)
		}
		for _, x := range v.Volumes {
			names = append(names, x.Name)
		}
		for _, x := range n {
			names = append(names, x.Name)
		}
		t.Fatalf("the node has %d containers, %d volumes, %d networks, want %d, %d, %d:\n%s",
			len(c), len(v.Volumes), len(n), containers, volumes, networks, strings.Join(names, "\n"))
	}
}

// eventually polls until ok says so.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
		<-tick.C
	}
}

// rolloutError asserts that err is one, for that reason.
func rolloutError(t *testing.T, err error, reason string) *drivers.RolloutError {
	t.Helper()
	var f *drivers.RolloutError
	if !errors.As(err, &f) {
		t.Fatalf("got error %v, want a RolloutError", err)
	}
	if f.Reason != reason {
		t.Fatalf("reason is %q (%s), want %q", f.Reason, f.Message, reason)
	}
	return f
}

// progressLog collects the steps of a command.
type progressLog struct {
	mu    sync.Mutex
	steps []drivers.Progress
}

func (p *progressLog) add(s drivers.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps = append(p.steps, s)
}

func (p *progressLog) phases() []drivers.Phase {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []drivers.Phase
	for _, s := range p.steps {
		out = append(out, s.Phase)
	}
	return out
}
