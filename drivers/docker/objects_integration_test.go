//go:build integration

package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// execIn runs a command in a container and returns what it printed.
func execIn(t *testing.T, d *Driver, id string, command ...string) string {
	t.Helper()
	e, err := d.cli.ContainerExecCreate(t.Context(), id, container.ExecOptions{Cmd: command, AttachStdout: true, AttachStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	a, err := d.cli.ContainerExecAttach(t.Context(), e.ID, container.ExecAttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var out strings.Builder
	if _, err := stdcopy.StdCopy(&out, &out, a.Reader); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

type fakeSecrets map[drivers.SecretRef]string

func (f fakeSecrets) ResolveSecret(_ context.Context, _ string, ref drivers.SecretRef) ([]byte, error) {
	v, ok := f[ref]
	if !ok {
		return nil, &drivers.Error{Class: drivers.ErrNotFound, Op: "resolve secret " + ref.String()}
	}
	return []byte(v), nil
}

func withSecrets(values fakeSecrets) func(*drivers.Environment, *Config) {
	return func(env *drivers.Environment, _ *Config) { env.Secrets = values }
}

func TestSecrets(t *testing.T) {
	password, key := drivers.SecretRef{File: "db/password"}, drivers.SecretRef{Env: "KEY"}
	for _, readOnly := range []bool{false, true} {
		t.Run(fmt.Sprintf("readOnlyRoot=%t", readOnly), func(t *testing.T) {
			t.Parallel()
			d := newTestDriver(t, withSecrets(fakeSecrets{password: "hunter22", key: "-----BEGIN-----"}))
			status := mustDeploy(t, with(t, 1), d, testSpec(d, "web", func(s *drivers.WorkloadSpec) {
				s.Security.ReadOnlyRoot = readOnly
				s.User = "1000:1000"
				s.Secrets = []drivers.SecretUse{
					{Ref: password, Env: "PASSWORD"},
					{Ref: key, File: "/run/secrets/tls/key.pem", Mode: "0440", UID: 1000, GID: 1000},
				}
			}))
			id := status.Instances[0].ID
			if got := execIn(t, d, id, "sh", "-c", "echo $PASSWORD; cat /run/secrets/tls/key.pem"); got != "hunter22\n-----BEGIN-----" {
				t.Errorf("the instance sees %q", got)
			}
			if got := execIn(t, d, id, "stat", "-c", "%a %u %g", "/run/secrets/tls/key.pem"); got != "440 1000 1000" {
				t.Errorf("the file has mode and owner %q", got)
			}
			if err := d.Destroy(with(t, 2), status.ID); err != nil {
				t.Fatal(err)
			}
			mustExist(t, d, 0, 0, 0)
		})
	}
}

func TestMissingSecretChangesNothing(t *testing.T) {
	d := newTestDriver(t, withSecrets(nil))
	_, err := d.Deploy(with(t, 1), testSpec(d, "web", func(s *drivers.WorkloadSpec) {
		s.Secrets = []drivers.SecretUse{{Ref: drivers.SecretRef{File: "db/password"}, Env: "PASSWORD"}}
		s.Networks = []drivers.Network{{Name: "front"}}
	}))
	if !errors.Is(err, drivers.ErrNotFound) || !strings.Contains(err.Error(), "db/password") {
		t.Errorf("got %v, want ErrNotFound that names the secret", err)
	}
	mustExist(t, d, 0, 0, 0)
}

func TestSecretIsInNoError(t *testing.T) {
	ref := drivers.SecretRef{Env: "TOKEN"}
	d := newTestDriver(t, withSecrets(fakeSecrets{ref: "tok-en-value"}))
	_, err := d.Deploy(with(t, 1), testSpec(d, "web", crashing, func(s *drivers.WorkloadSpec) {
		s.Secrets = []drivers.SecretUse{{Ref: ref, Env: "TOKEN"}}
		s.Command = []string{"sh", "-c", "echo using $TOKEN; exit 3"}
	}))
	f := rolloutError(t, err, "Crashed")
	if text := fmt.Sprintf("%+v %v", *f, err); strings.Contains(text, "tok-en-value") || !strings.Contains(text, "using ") {
		t.Errorf("error is %s", text)
	}
}

func TestVolumes(t *testing.T) {
	d := newTestDriver(t)
	change := func(v string) func(*drivers.WorkloadSpec) {
		return func(s *drivers.WorkloadSpec) {
			version(v)(s)
			s.Volumes = []drivers.Volume{
				{Source: "data", Target: "/data"},
				{Source: "keep", Target: "/keep", Retain: true},
				{Type: drivers.VolumeTmpfs, Target: "/scratch", Size: quantity("1Mi")},
			}
		}
	}
	first := mustDeploy(t, with(t, 1), d, testSpec(d, "db", change("1")))
	execIn(t, d, first.Instances[0].ID, "sh", "-c", "echo old > /data/x; echo kept > /keep/x")
	second := mustDeploy(t, with(t, 2), d, testSpec(d, "db", change("2")))
	if got := execIn(t, d, second.Instances[0].ID, "cat", "/data/x"); got != "old" {
		t.Errorf("after the update the volume holds %q", got)
	}
	if got := execIn(t, d, second.Instances[0].ID, "sh", "-c", "dd if=/dev/zero of=/scratch/x bs=1k count=2048 2>&1; true"); !strings.Contains(got, "No space left") {
		t.Errorf("the tmpfs has no bound: %s", got)
	}
	if err := d.Destroy(with(t, 3), first.ID); err != nil {
		t.Fatal(err)
	}
	mustExist(t, d, 0, 1, 0)
	if _, err := d.GetStatus(t.Context(), first.ID); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("a retained volume is not a workload: %v", err)
	}
	third := mustDeploy(t, with(t, 4), d, testSpec(d, "db", change("3")))
	if got := execIn(t, d, third.Instances[0].ID, "sh", "-c", "cat /keep/x; ls /data"); got != "kept" {
		t.Errorf("after destroy and deploy the volumes hold %q", got)
	}
}

func TestWhatASpecRefersToMustExist(t *testing.T) {
	d := newTestDriver(t)
	cases := []struct {
		name   string
		change func(*drivers.WorkloadSpec)
		names  string
	}{
		{"external volume", func(s *drivers.WorkloadSpec) {
			s.Volumes = []drivers.Volume{{Source: "no-such-volume", Target: "/x", External: true}}
		}, "no-such-volume"},
		{"external network", func(s *drivers.WorkloadSpec) {
			s.Networks = []drivers.Network{{Name: "no-such-network", External: true}}
		}, "no-such-network"},
		{"bind source", func(s *drivers.WorkloadSpec) {
			s.Volumes = []drivers.Volume{{Type: drivers.VolumeBind, Source: filepath.Join(t.TempDir(), "missing"), Target: "/x"}}
		}, "missing"},
		{"image", func(s *drivers.WorkloadSpec) {
			s.Image, s.PullPolicy = "kranix-test-no-such-image", drivers.PullNever
		}, "kranix-test-no-such-image"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := d.Deploy(with(t, 1), testSpec(d, "web", c.change))
			if !errors.Is(err, drivers.ErrNotFound) || !strings.Contains(err.Error(), c.names) {
				t.Errorf("got %v, want ErrNotFound that names %s", err, c.names)
			}
			mustExist(t, d, 0, 0, 0)
		})
	}
}

func TestNetworksAreSharedAndGoWithTheLast(t *testing.T) {
	d := newTestDriver(t)
	on := func(names ...string) func(*drivers.WorkloadSpec) {
		return func(s *drivers.WorkloadSpec) {
			for _, n := range names {
				s.Networks = append(s.Networks, drivers.Network{Name: n, Aliases: []string{"alias-of-" + s.Name}})
			}
		}
	}
	web := mustDeploy(t, with(t, 1), d, testSpec(d, "web", on("front")))
	api := mustDeploy(t, with(t, 2), d, testSpec(d, "api", on("front", "back")))
	mustExist(t, d, 2, 0, 2)
	for _, name := range []string{"api", "alias-of-api"} {
		// nc resolves the name through the engine's DNS; a refused connection is an answer.
		got := execIn(t, d, web.Instances[0].ID, "sh", "-c", "nc -w 1 "+name+" 9 2>&1; true")
		if strings.Contains(got, "bad address") {
			t.Errorf("%s cannot be resolved: %s", name, got)
		}
	}
	if err := d.Destroy(with(t, 3), web.ID); err != nil {
		t.Fatal(err)
	}
	mustExist(t, d, 1, 0, 2)
	if err := d.Destroy(with(t, 4), api.ID); err != nil {
		t.Fatal(err)
	}
	mustExist(t, d, 0, 0, 0)
}

func TestExternalsAreUsedAndStay(t *testing.T) {
	d := newTestDriver(t)
	name := "kranix-test-" + d.env.Node
	if _, err := d.cli.VolumeCreate(t.Context(), volume.CreateOptions{Name: name}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.cli.VolumeRemove(context.Background(), name, true) })
	if _, err := d.cli.NetworkCreate(t.Context(), name, network.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.cli.NetworkRemove(context.Background(), name) })
	status := mustDeploy(t, with(t, 1), d, testSpec(d, "web", func(s *drivers.WorkloadSpec) {
		s.Volumes = []drivers.Volume{{Source: name, Target: "/data", External: true}}
		s.Networks = []drivers.Network{{Name: name, External: true}}
	}))
	if err := d.Destroy(with(t, 2), status.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := d.cli.VolumeInspect(t.Context(), name); err != nil {
		t.Errorf("the external volume has gone: %v", err)
	}
	if _, err := d.cli.NetworkInspect(t.Context(), name, network.InspectOptions{}); err != nil {
		t.Errorf("the external network has gone: %v", err)
	}
}

func TestForeignObjectsAreNotTouched(t *testing.T) {
	d := newTestDriver(t)
	s := testSpec(d, "web", func(s *drivers.WorkloadSpec) {
		s.Volumes = []drivers.Volume{{Source: "data", Target: "/data"}}
	})
	image, err := d.cli.ImageInspect(t.Context(), testImage)
	if err != nil {
		t.Fatal(err)
	}
	name := instanceName(s, s.Revision(image.ID), 0)
	foreign, err := d.cli.ContainerCreate(t.Context(), &container.Config{Image: testImage}, nil, nil, nil, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = d.cli.ContainerRemove(context.Background(), foreign.ID, container.RemoveOptions{Force: true})
	})
	_, err = d.Deploy(with(t, 1), s)
	if !errors.Is(err, drivers.ErrConflict) || !strings.Contains(err.Error(), name) {
		t.Errorf("got %v, want ErrConflict that names the container", err)
	}
	if err := d.Destroy(with(t, 2), s.ID()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.inspect(t.Context(), foreign.ID); err != nil {
		t.Errorf("the foreign container has gone: %v", err)
	}
	mustExist(t, d, 0, 0, 0)

	volumeOf := volumeName(s, "data")
	if _, err := d.cli.VolumeCreate(t.Context(), volume.CreateOptions{Name: volumeOf}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.cli.VolumeRemove(context.Background(), volumeOf, true) })
	if _, err := d.Deploy(with(t, 3), s); !errors.Is(err, drivers.ErrConflict) || !strings.Contains(err.Error(), volumeOf) {
		t.Errorf("got %v, want ErrConflict that names the volume", err)
	}
}

// freePort returns a port that nothing listened on a moment ago.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // only its number is wanted
	return l.Addr().(*net.TCPAddr).Port
}

func serving(text string, port int) func(*drivers.WorkloadSpec) {
	return func(s *drivers.WorkloadSpec) {
		s.Command = []string{"sh", "-c", "mkdir -p /tmp/www; echo " + text + " > /tmp/www/index.html; exec httpd -f -p 80 -h /tmp/www"}
		s.Ports = []drivers.Port{{Name: "http", ContainerPort: 80, HostPort: port, HostAddress: "127.0.0.1", Publish: port == 0}}
		s.Stop.Grace = drivers.DurationPtr(time.Second)
	}
}

func fetch(t *testing.T, port int) string {
	t.Helper()
	resp, err := http.Get("http://127.0.0.1:" + strconv.Itoa(port) + "/")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close() //nolint:errcheck // read to the end
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

func TestPorts(t *testing.T) {
	d := newTestDriver(t)
	port := freePort(t)
	first := mustDeploy(t, with(t, 1), d, testSpec(d, "web", serving("one", port)))
	want := drivers.PublishedPort{Name: "http", ContainerPort: 80, HostAddress: "127.0.0.1", HostPort: port, Protocol: "tcp"}
	if got := first.Instances[0].Ports; len(got) != 1 || got[0] != want {
		t.Errorf("ports are %+v, want %+v", got, want)
	}
	if got := fetch(t, port); got != "one" {
		t.Errorf("the published port answers %q", got)
	}
	_, err := d.Deploy(with(t, 2), testSpec(d, "other", serving("other", port)))
	if !errors.Is(err, drivers.ErrConflict) || !strings.Contains(err.Error(), strconv.Itoa(port)) {
		t.Errorf("got %v, want ErrConflict that names the port", err)
	}
	mustExist(t, d, 1, 0, 0)
	// The port is bound once, so the update stops first.
	mustDeploy(t, with(t, 3), d, testSpec(d, "web", serving("two", port)))
	if got := fetch(t, port); got != "two" {
		t.Errorf("after the update the port answers %q", got)
	}
	chosen := mustDeploy(t, with(t, 4), d, testSpec(d, "any", serving("any", 0)))
	if got := fetch(t, chosen.Instances[0].Ports[0].HostPort); got != "any" {
		t.Errorf("the engine's choice of port answers %q", got)
	}
}

func TestHook(t *testing.T) {
	d := newTestDriver(t)
	hooked := func(v, command string) func(*drivers.WorkloadSpec) {
		return func(s *drivers.WorkloadSpec) {
			version(v)(s)
			s.Volumes = []drivers.Volume{{Source: "data", Target: "/data"}}
			s.PreDeploy = &drivers.Hook{Command: []string{"sh", "-c", command}}
		}
	}
	first := mustDeploy(t, with(t, 1), d, testSpec(d, "db", hooked("1", "echo migrated-$VERSION >> /data/log")))
	mustExist(t, d, 1, 1, 0)
	// Neither a repetition nor more instances run it again.
	mustDeploy(t, with(t, 1), d, testSpec(d, "db", hooked("1", "echo migrated-$VERSION >> /data/log")))
	mustDeploy(t, with(t, 2), d, testSpec(d, "db", hooked("1", "echo migrated-$VERSION >> /data/log"), replicas(2)))
	if got := execIn(t, d, first.Instances[0].ID, "cat", "/data/log"); got != "migrated-1" {
		t.Errorf("the hook left %q", got)
	}
	before, err := d.GetStatus(t.Context(), first.ID)
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Deploy(with(t, 3), testSpec(d, "db", hooked("2", "echo no such column; exit 7"), replicas(2)))
	f := rolloutError(t, err, "HookFailed")
	if f.ExitCode != 7 || !f.RolledBack || strings.Join(f.LastLogs, "|") != "no such column" {
		t.Errorf("error is %+v", f)
	}
	after, err := d.GetStatus(t.Context(), first.ID)
	if err != nil {
		t.Fatal(err)
	}
	for i := range before.Instances {
		if after.Instances[i].StartedAt != before.Instances[i].StartedAt {
			t.Errorf("a failed hook touched instance %d", i)
		}
	}
	mustExist(t, d, 2, 1, 0)
}

func TestHookThatTakesTooLong(t *testing.T) {
	d := newTestDriver(t)
	_, err := d.Deploy(with(t, 1), testSpec(d, "db", func(s *drivers.WorkloadSpec) {
		s.PreDeploy = &drivers.Hook{Command: []string{"sleep", "60"}, Timeout: drivers.Duration(500 * time.Millisecond)}
		s.Stop.Grace = drivers.DurationPtr(0)
	}))
	if f := rolloutError(t, err, "HookFailed"); !strings.Contains(f.Message, "500ms") {
		t.Errorf("error is %+v", f)
	}
	mustExist(t, d, 0, 0, 0)
}

// A network that somebody is about to use is not removed from under them.
func TestHeldNetworksStay(t *testing.T) {
	d := newTestDriver(t)
	s := testSpec(d, "web", func(s *drivers.WorkloadSpec) { s.Networks = []drivers.Network{{Name: "front"}} })
	_, release, err := d.holdNetworks(t.Context(), s, drivers.Command{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Destroy(with(t, 1), drivers.WorkloadID(d.env.Node, "other")); err != nil {
		t.Fatal(err)
	}
	mustExist(t, d, 0, 0, 1)
	release()
	if err := d.Destroy(with(t, 2), drivers.WorkloadID(d.env.Node, "other")); err != nil {
		t.Fatal(err)
	}
	mustExist(t, d, 0, 0, 0)
}

// The engine may hold two networks of one name after a worker died in the making of
// one. Containers must not depend on the name then, and the surplus goes.
func TestNetworksOfOneName(t *testing.T) {
	d := newTestDriver(t)
	on := func(v string) *drivers.WorkloadSpec {
		return testSpec(d, "web", version(v), func(s *drivers.WorkloadSpec) {
			s.Networks = []drivers.Network{{Name: "front"}, {Name: "back"}}
		})
	}
	add := func() {
		t.Helper()
		for _, name := range []string{"front", "back"} {
			addNetwork(t, d, networkName(d.env.Node, name))
		}
	}
	add()
	add()
	mustExist(t, d, 0, 0, 4)
	first := mustDeploy(t, with(t, 1), d, on("1"))
	mustExist(t, d, 1, 0, 2)
	add()
	mustExist(t, d, 1, 0, 4)
	second := mustDeploy(t, with(t, 2), d, on("2"))
	mustExist(t, d, 1, 0, 2)
	if first.Instances[0].Address == "" || second.Instances[0].Address == "" {
		t.Errorf("instances without an address: %+v, %+v", first.Instances[0], second.Instances[0])
	}
	if err := d.Destroy(with(t, 3), first.ID); err != nil {
		t.Fatal(err)
	}
	mustExist(t, d, 0, 0, 0)
}

// addNetwork makes a network even where there is one of that name, as the engine does
// for two requests at the same time; the SDK always asks it not to.
func addNetwork(t *testing.T, d *Driver, name string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"Name": name, "Driver": "bridge", "CheckDuplicate": false,
		"Labels": map[string]string{drivers.LabelNode: d.env.Node, drivers.LabelNamespace: d.env.Node, drivers.LabelRole: roleNetwork}})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := d.cli.HTTPClient().Post("http://engine/v1.41/networks/create", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // only its status is wanted
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("make network %s: %s (this test needs an engine with API 1.43 or older)", name, resp.Status)
	}
}
