//go:build integration

package chaos

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// away is how long the bus is gone.
const away = 30 * time.Second

// TestBusGoneUnderLoad stops NATS for 30 s under load. Everything acknowledged is
// carried out in one result each, containers never notice, and the log lines they
// print meanwhile arrive, none missing and none twice (faults 8 and 21, invariants 1, 5
// and 6).
func TestBusGoneUnderLoad(t *testing.T) {
	random := seed(t)
	node := fmt.Sprintf("away-%x", random.Uint32())
	docker := newEngine(t, node)
	bus := newBus(t)
	p := newProcess(t, node, bus.url(), "docker", "sim")
	p.env = append(p.env, "KRANIX_DOCKER_HOST="+docker.host)
	p.start()
	c := newCore(t, bus.url())

	counter := docker.spec("counter", nil)
	counter.Command = []string{"sh", "-c", "i=0; while true; do echo line $i; i=$((i+1)); sleep 0.05; done"}
	if r := c.result(c.send("docker", subjects.Deploy, "counter", counter)); r.Outcome != subjects.Done {
		t.Fatalf("deploy: %s", r.Message)
	}
	before := docker.containers("counter")[0]
	started, err := docker.cli.ContainerInspect(t.Context(), before.ID)
	if err != nil {
		t.Fatal(err)
	}

	// Load until the bus goes, through it, and after it is back: what gets no
	// acknowledgement is published again, as the same event.
	var sent []command
	load := func(n int) {
		for range n {
			name := fmt.Sprintf("w%d", len(sent))
			sent = append(sent, c.send("sim", subjects.Deploy, name, &drivers.WorkloadSpec{
				Name: name, Namespace: "chaos", Image: "web:1", Update: drivers.Update{Monitor: drivers.DurationPtr(0)},
			}))
		}
	}
	load(200)
	bus.stop()
	<-time.After(away)
	bus.start()
	load(100)
	for _, cmd := range sent {
		if r := c.result(cmd); r.Outcome != subjects.Done {
			t.Errorf("%s ended %s: %s", cmd.name, r.Outcome, r.Message)
		}
	}
	now, err := docker.cli.ContainerInspect(t.Context(), before.ID)
	if err != nil {
		t.Fatalf("the container is gone: %v", err)
	}
	if now.State.StartedAt != started.State.StartedAt || now.RestartCount != 0 || !now.State.Running {
		t.Errorf("the container noticed: started %s, then %s", started.State.StartedAt, now.State.StartedAt)
	}
	if r := c.result(c.send("docker", subjects.Destroy, "counter", nil)); r.Outcome != subjects.Done {
		t.Errorf("destroy: %s", r.Message)
	}
	p.terminate()
	c.wholeCount("counter", int(away/(100*time.Millisecond)))
}

// wholeCount reads the shipped lines of a counter and checks that they are all there,
// once each and in order, at least atLeast of them.
func (c *core) wholeCount(name string, atLeast int) {
	c.t.Helper()
	filter := subjects.LogsOf(subjects.Workload{Backend: "docker", Namespace: "chaos", Name: name})
	n := c.count(subjects.StreamLogs, filter)
	consumer, err := c.js.OrderedConsumer(c.t.Context(), subjects.StreamLogs, jetstream.OrderedConsumerConfig{FilterSubjects: []string{filter}})
	if err != nil {
		c.t.Fatal(err)
	}
	next := 0
	for range n {
		msg, err := consumer.Next(jetstream.FetchMaxWait(patience))
		if err != nil {
			c.t.Fatal(err)
		}
		e, err := subjects.Decode(msg.Headers(), msg.Data())
		if err != nil {
			c.t.Fatal(err)
		}
		var data subjects.LogData
		if err := json.Unmarshal(e.Data(), &data); err != nil {
			c.t.Fatal(err)
		}
		if data.Gap != nil {
			c.t.Errorf("a gap is declared: %+v", data.Gap)
		}
		for _, l := range data.Lines {
			i, err := strconv.Atoi(strings.TrimPrefix(l.Line, "line "))
			if err != nil || i != next {
				c.t.Fatalf("line %q where line %d was due", l.Line, next)
			}
			next++
		}
	}
	if next < atLeast {
		c.t.Errorf("%d lines arrived, want at least %d", next, atLeast)
	}
}

// bus is a NATS server that can be stopped and started on the same store.
type bus struct {
	t      *testing.T
	opts   *server.Options
	server *server.Server
}

func newBus(t *testing.T) *bus {
	t.Helper()
	host, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	b := &bus{t: t, opts: &server.Options{Host: host, Port: n, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, NoSigs: true, NoLog: true}}
	b.start()
	t.Cleanup(b.stop)
	return b
}

func (b *bus) url() string { return fmt.Sprintf("nats://%s:%d", b.opts.Host, b.opts.Port) }

func (b *bus) start() {
	b.t.Helper()
	s, err := server.NewServer(b.opts)
	if err != nil {
		b.t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		b.t.Fatal("NATS does not start")
	}
	b.server = s
}

func (b *bus) stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}
