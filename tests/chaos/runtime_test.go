//go:build integration

package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
	"github.com/kranix-io/kranix-runtime/tests/rig"
)

// patience bounds every wait for something that must come.
const patience = 90 * time.Second

// seed makes a failing run repeatable: KRANIX_CHAOS_SEED=<seed> go test ...
func seed(t *testing.T) *rand.Rand {
	t.Helper()
	s := uint64(time.Now().UnixNano())
	if v := os.Getenv("KRANIX_CHAOS_SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatalf("KRANIX_CHAOS_SEED: %v", err)
		}
		s = n
	}
	t.Logf("KRANIX_CHAOS_SEED=%d repeats this run", s)
	return rand.New(rand.NewPCG(s, 0))
}

// binary builds the program once per test process.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kranix-chaos-")
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "kranix-runtime")
	return out, rig.Build(context.Background(), "./cmd/kranix-runtime", out)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// process is a runtime that is started, killed and started again on the same data.
type process struct {
	t    *testing.T
	node string
	url  string
	args []string
	env  []string
	cmd  *exec.Cmd
	done chan error
	log  bytes.Buffer
	mu   sync.Mutex
}

// newProcess prepares a runtime with embedded NATS, or on the bus at url.
func newProcess(t *testing.T, node, url string, backends ...string) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{t: t, node: node, url: url}
	p.env = append(os.Environ(), "KRANIX_NODE_NAME="+node, "KRANIX_NODE_LOCK_DIR="+dir, "KRANIX_METRICS_EXPOSE_ENDPOINT=false",
		"KRANIX_RUNTIME_DATA_DIR="+filepath.Join(dir, "data"))
	if url == "" {
		address := freeAddress(t)
		p.url = "nats://" + address
		p.env = append(p.env, "KRANIX_NATS_LISTEN="+address)
	} else {
		p.env = append(p.env, "KRANIX_NATS_MODE=external", "KRANIX_NATS_URLS="+url)
	}
	p.args = []string{"run"}
	for _, b := range backends {
		p.args = append(p.args, "--backend", b)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the runtime said:\n%s", tail(p.log.Bytes(), 6000))
		}
	})
	return p
}

func tail(b []byte, n int) []byte {
	if len(b) > n {
		return b[len(b)-n:]
	}
	return b
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Write collects what the process says.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) start() {
	p.t.Helper()
	path, err := binary()
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd = exec.Command(path, p.args...)
	p.cmd.Env = p.env
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.done = make(chan error, 1)
	go func(cmd *exec.Cmd, done chan error) { done <- cmd.Wait() }(p.cmd, p.done)
}

// kill ends the process as a power cut would.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	p.cmd = nil
}

// terminate asks the process to drain.
func (p *process) terminate() {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.done:
		if err != nil {
			p.t.Errorf("the runtime ended with %v", err)
		}
	case <-time.After(patience):
		p.t.Error("the runtime does not end")
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	p.cmd = nil
}

// core is a client as kranix-core is one.
type core struct {
	t  *testing.T
	nc *nats.Conn
	js jetstream.JetStream
}

// newCore connects, waiting for the bus and its streams.
func newCore(t *testing.T, url string) *core {
	t.Helper()
	c := &core{t: t}
	eventually(t, "the bus", func() (err error) {
		c.nc, err = nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
		return err
	})
	t.Cleanup(c.nc.Close)
	var err error
	if c.js, err = jetstream.New(c.nc); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the streams", func() error {
		_, err := c.js.Stream(t.Context(), subjects.StreamResults)
		return err
	})
	return c
}

// command is an acknowledged command.
type command struct {
	id, name string
	verb     subjects.Verb
}

// send publishes a command until it is acknowledged: the same event every time, as a
// publisher that means it once does.
func (c *core) send(backend string, verb subjects.Verb, name string, spec *drivers.WorkloadSpec) command {
	c.t.Helper()
	msg, id := c.encode(backend, verb, name, spec)
	eventually(c.t, "an acknowledgement", func() error {
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
		defer cancel()
		_, err := c.js.PublishMsg(ctx, msg)
		return err
	})
	return command{id: id, name: name, verb: verb}
}

func (c *core) encode(backend string, verb subjects.Verb, name string, spec *drivers.WorkloadSpec) (*nats.Msg, string) {
	c.t.Helper()
	subject, err := subjects.Command(subjects.Workload{Backend: backend, Node: subjects.Any, Namespace: "chaos", Name: name}, verb)
	if err != nil {
		c.t.Fatal(err)
	}
	var data any
	if spec != nil {
		data = spec
	}
	e, err := subjects.NewEvent("/chaos/core", subjects.CommandType(verb), "chaos/"+name, data, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	msg, err := subjects.Encode(subject, e)
	if err != nil {
		c.t.Fatal(err)
	}
	return msg, subjects.CommandIDOf(e)
}

// result waits for a command's result and checks that there is one only.
func (c *core) result(cmd command) subjects.ResultData {
	c.t.Helper()
	var data subjects.ResultData
	eventually(c.t, fmt.Sprintf("the result of %s %s", cmd.verb, cmd.name), func() error {
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
		defer cancel()
		_, e, err := subjects.FindResult(ctx, c.js, cmd.id)
		if err != nil {
			return err
		}
		return json.Unmarshal(e.Data(), &data)
	})
	if n := c.count(subjects.StreamResults, subjects.ResultFilter(cmd.id)); n != 1 {
		c.t.Errorf("%s %s has %d results", cmd.verb, cmd.name, n)
	}
	return data
}

// count is the number of messages of a stream on a subject.
func (c *core) count(stream, filter string) int {
	c.t.Helper()
	n := 0
	eventually(c.t, "the count of "+filter, func() error {
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
		defer cancel()
		s, err := c.js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
		if err != nil {
			return err
		}
		n = 0
		for _, k := range info.State.Subjects {
			n += int(k)
		}
		return nil
	})
	return n
}

// eventually polls until f succeeds.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s: %v", what, err)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// engine is Docker, looked at past the runtime.
type engine struct {
	t     *testing.T
	host  string
	node  string
	image string
	cli   *client.Client
}

// newEngine finds Docker, imports an image of this test's own and removes, at the end,
// everything of the node.
func newEngine(t *testing.T, node string) *engine {
	t.Helper()
	e := &engine{t: t, host: rig.RequireDocker(t), node: node, image: "kranix-chaos/busybox:" + node}
	if _, err := rig.BusyboxImage(t.Context(), e.host, e.image); err != nil {
		t.Fatal(err)
	}
	var err error
	if e.cli, err = rig.Client(e.host); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		if _, err := rig.Cleanup(ctx, e.host, drivers.LabelNode+"="+node); err != nil {
			t.Error(err)
		}
		if err := rig.RemoveImage(ctx, e.host, e.image); err != nil {
			t.Error(err)
		}
		e.cli.Close()
	})
	return e
}

// containers lists what the node has, of one workload unless name is empty.
func (e *engine) containers(name string) []container.Summary {
	e.t.Helper()
	f := filters.NewArgs(filters.Arg("label", drivers.LabelNode+"="+e.node))
	if name != "" {
		f.Add("label", drivers.LabelWorkload+"=chaos/"+name)
	}
	list, err := e.cli.ContainerList(e.t.Context(), container.ListOptions{All: true, Filters: f})
	if err != nil {
		e.t.Fatal(err)
	}
	return list
}

// spec is a workload that runs until it is stopped, and stops at once.
func (e *engine) spec(name string, env map[string]string) *drivers.WorkloadSpec {
	return &drivers.WorkloadSpec{
		Name: name, Namespace: "chaos", Image: e.image, Command: []string{"sleep", "3600"}, Env: env, Init: true,
		Update: drivers.Update{Monitor: drivers.DurationPtr(100 * time.Millisecond)}, Stop: drivers.Stop{Grace: drivers.DurationPtr(time.Second)},
	}
}
