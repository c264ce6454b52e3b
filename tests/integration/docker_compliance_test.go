//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/drivers/docker"
	"github.com/kranix-io/kranix-runtime/tests/compliance"
	"github.com/kranix-io/kranix-runtime/tests/rig"
)

// busyboxImage is the image of the suite's workloads.
const busyboxImage = "kranix-compliance/busybox:v1"

// TestDockerCompliance runs the suite against a real Docker engine.
func TestDockerCompliance(t *testing.T) {
	compliance.Run(t, dockerHarness(t))
}

// dockerEngine looks at an engine past the driver.
type dockerEngine struct {
	host, node string
	cli        *client.Client
}

func dockerHarness(t *testing.T) compliance.Harness {
	t.Helper()
	host := rig.RequireDocker(t)
	if _, err := rig.BusyboxImage(t.Context(), host, busyboxImage); err != nil {
		t.Fatalf("import the suite's image: %v", err)
	}
	cli, err := rig.Client(host)
	if err != nil {
		t.Fatalf("connect to the engine: %v", err)
	}
	t.Cleanup(func() { _ = cli.Close() })
	// A node of this run's own: nothing that runs here already is seen or touched.
	e := &dockerEngine{host: host, node: fmt.Sprintf("suite-%x", time.Now().UnixNano()), cli: cli}
	registry := refusingRegistry(t)
	return compliance.Harness{
		Open: e.open,
		Node: e.node, Prefix: "c" + e.node[len(e.node)-6:], Workloads: busyboxWorkloads{image: busyboxImage},
		Features: compliance.Features{Watch: true, Logs: true, Stats: true, Images: true, SpecCheck: true, Identity: true, OOM: true,
			Refused: map[string]func(*drivers.WorkloadSpec){
				"resources.gpu.vendor": func(s *drivers.WorkloadSpec) { s.Resources.GPU = &drivers.GPURequest{Vendor: "amd", Count: 1} },
				"resources.gpu.type": func(s *drivers.WorkloadSpec) {
					s.Resources.GPU = &drivers.GPURequest{Vendor: "nvidia", Count: 1, Type: "A100"}
				},
			}},
		Timeouts: compliance.Timeouts{Step: time.Minute, Monitor: 500 * time.Millisecond, Event: 200 * time.Millisecond,
			Slack: 3 * time.Second},
		ManyWorkloads: 100,
		MissingImage:  registry + "/missing/web:1", DeniedImage: registry + "/denied/web:1",
		AbsentImage: registry + "/absent/web:1",
		Get:         get, TakePort: takePort, Kill: e.kill,
		Texts: e.texts, Leftovers: e.leftovers, Purge: e.purge, Neighbour: e.neighbour,
	}
}

func (e *dockerEngine) open(t compliance.T, node string, secrets drivers.SecretResolver) drivers.RuntimeDriver {
	d, err := docker.New(context.WithoutCancel(t.Context()), drivers.Environment{Node: node, Secrets: secrets}, docker.Config{Host: e.host})
	if err != nil {
		t.Fatalf("open driver: %v", err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close driver: %v", err)
		}
	})
	return d
}

// refusingRegistry is a registry on a loopback port: it has nothing below "missing/",
// and asks for a password everywhere else.
func refusingRegistry(t *testing.T) string {
	t.Helper()
	refuse := func(w http.ResponseWriter, status int, code string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": strings.ToLower(code)}}})
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		switch {
		case r.URL.Path == "/v2/":
			w.WriteHeader(http.StatusOK)
		case strings.HasPrefix(r.URL.Path, "/v2/missing/"):
			refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
		default:
			w.Header().Set("WWW-Authenticate", `Basic realm="suite"`)
			refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
		}
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func get(ctx context.Context, p drivers.PublishedPort, path string) (string, error) {
	url := "http://" + net.JoinHostPort(p.HostAddress, strconv.Itoa(p.HostPort)) + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", fmt.Errorf("make request: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("get %s: %w", url, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", url, err)
	}
	return string(body), nil
}

func takePort(t compliance.T) int {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("take a port: %v", err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// kill ends the process of an instance, not through the engine: that would count as a
// stop on request.
func (e *dockerEngine) kill(t compliance.T, id string) {
	c, err := e.cli.ContainerInspect(t.Context(), id)
	if err != nil || c.State.Pid <= 1 {
		t.Fatalf("find the process of %s: %+v, %v", id, c.State, err)
	}
	if out, err := exec.CommandContext(t.Context(), "kill", "-KILL", strconv.Itoa(c.State.Pid)).CombinedOutput(); err != nil {
		t.Fatalf("kill process %d of %s (run as root, beside the engine): %v: %s", c.State.Pid, id, err, out)
	}
}

// owned selects the node's objects of a namespace.
func (e *dockerEngine) owned(namespace string) filters.Args {
	return filters.NewArgs(filters.Arg("label", drivers.LabelNode+"="+e.node), filters.Arg("label", drivers.LabelNamespace+"="+namespace))
}

func (e *dockerEngine) containers(t compliance.T, namespace string) []container.Summary {
	cs, err := e.cli.ContainerList(context.WithoutCancel(t.Context()), container.ListOptions{All: true, Filters: e.owned(namespace)})
	if err != nil {
		t.Fatalf("list containers: %v", err)
	}
	return cs
}

func (e *dockerEngine) volumes(t compliance.T, namespace string) []*volume.Volume {
	vs, err := e.cli.VolumeList(context.WithoutCancel(t.Context()), volume.ListOptions{Filters: e.owned(namespace)})
	if err != nil {
		t.Fatalf("list volumes: %v", err)
	}
	return vs.Volumes
}

func (e *dockerEngine) networks(t compliance.T, namespace string) []network.Summary {
	ns, err := e.cli.NetworkList(context.WithoutCancel(t.Context()), network.ListOptions{Filters: e.owned(namespace)})
	if err != nil {
		t.Fatalf("list networks: %v", err)
	}
	return ns
}

func (e *dockerEngine) leftovers(t compliance.T, namespace string) []string {
	var out []string
	for _, c := range e.containers(t, namespace) {
		out = append(out, "container "+strings.Join(c.Names, " ")+" "+c.State)
	}
	for _, v := range e.volumes(t, namespace) {
		out = append(out, "volume "+v.Name)
	}
	for _, n := range e.networks(t, namespace) {
		out = append(out, "network "+n.Name)
	}
	return out
}

func (e *dockerEngine) purge(t compliance.T, namespace string) {
	ctx := context.WithoutCancel(t.Context())
	for _, c := range e.containers(t, namespace) {
		if err := e.cli.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
			t.Errorf("remove container %v: %v", c.Names, err)
		}
	}
	for _, v := range e.volumes(t, namespace) {
		if err := e.cli.VolumeRemove(ctx, v.Name, false); err != nil {
			t.Errorf("remove volume %s: %v", v.Name, err)
		}
	}
	for _, n := range e.networks(t, namespace) {
		if err := e.cli.NetworkRemove(ctx, n.ID); err != nil {
			t.Errorf("remove network %s: %v", n.Name, err)
		}
	}
}

// texts is what inspecting shows, less the processes' environment.
func (e *dockerEngine) texts(t compliance.T, namespace string) []string {
	var out []string
	for _, c := range e.containers(t, namespace) {
		in, err := e.cli.ContainerInspect(t.Context(), c.ID)
		if err != nil {
			t.Fatalf("inspect: %v", err)
		}
		in.Config.Env = nil
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatalf("encode: %v", err)
		}
		out = append(out, string(b))
	}
	for _, v := range e.volumes(t, namespace) {
		out = append(out, fmt.Sprintf("%+v", *v))
	}
	return out
}

// neighbour runs a container that bears the labels of a workload, but another node's.
func (e *dockerEngine) neighbour(t compliance.T, workloadID string) func() string {
	namespace, name, _ := strings.Cut(workloadID, "/")
	labels := map[string]string{
		drivers.LabelWorkload: workloadID, drivers.LabelNamespace: namespace, drivers.LabelName: name,
		drivers.LabelNode: "neighbour", drivers.LabelRole: drivers.RoleInstance, drivers.LabelInstance: "0",
		drivers.LabelSequence: "1", drivers.LabelRevision: "aaaaaaaaaaaa",
	}
	ctx := context.WithoutCancel(t.Context())
	c, err := e.cli.ContainerCreate(ctx, &container.Config{Image: busyboxImage, Cmd: []string{"sleep", "3600"}, Labels: labels},
		nil, nil, nil, "kranix."+namespace+"."+name+".aaaaaaaaaaaa.0")
	if err != nil {
		t.Fatalf("create the neighbour: %v", err)
	}
	vol, err := e.cli.VolumeCreate(ctx, volume.CreateOptions{Name: "kranix." + namespace + "." + name + ".neighbour", Labels: labels})
	if err != nil {
		t.Fatalf("create the neighbour's volume: %v", err)
	}
	t.Cleanup(func() {
		if err := e.cli.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true}); err != nil {
			t.Errorf("remove the neighbour: %v", err)
		}
		if err := e.cli.VolumeRemove(ctx, vol.Name, false); err != nil {
			t.Errorf("remove the neighbour's volume: %v", err)
		}
	})
	if err := e.cli.ContainerStart(ctx, c.ID, container.StartOptions{}); err != nil {
		t.Fatalf("start the neighbour: %v", err)
	}
	before, err := e.cli.ContainerInspect(ctx, c.ID)
	if err != nil {
		t.Fatalf("inspect the neighbour: %v", err)
	}
	return func() string {
		after, err := e.cli.ContainerInspect(ctx, c.ID)
		if err != nil {
			return err.Error()
		}
		if !after.State.Running || after.State.StartedAt != before.State.StartedAt {
			return fmt.Sprintf("it runs no more, or again: %+v", after.State)
		}
		if vs, err := e.cli.VolumeList(ctx, volume.ListOptions{}); err != nil ||
			!slices.ContainsFunc(vs.Volumes, func(v *volume.Volume) bool { return v.Name == vol.Name }) {
			return fmt.Sprintf("its volume is gone: %v", err)
		}
		return ""
	}
}
