package workers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/drivers/sim"
	"github.com/kranix-io/kranix-runtime/subjects"
	"github.com/kranix-io/kranix-runtime/workers"
)

// TestBadInputIsRejected publishes what a careless or hostile author might, and wants
// each to be refused with the field named, none to reach the engine, and the next good
// command to be carried out.
func TestBadInputIsRejected(t *testing.T) {
	b := newBus(t)
	engine, driver := newEngine(t, "n1", sim.Config{})
	b.startWorker("n1", driver, func(c *workers.Config) { c.RejectUnserved = true })

	deploy := func(data string) func(*nats.Msg) {
		return func(m *nats.Msg) { m.Data = []byte(data) }
	}
	cases := []struct {
		name string
		// subject is the default when empty.
		subject string
		change  func(*nats.Msg)
		field   string
		letter  bool
	}{
		{name: "malformed JSON", change: deploy(`{"name": "cart"`), field: ""},
		{name: "wrong type", change: deploy(`{"name":"cart","image":"web:1","replicas":"two"}`), field: "replicas"},
		{name: "unknown field", change: deploy(`{"name":"cart","image":"web:1","resources":{"cpus":"1"}}`), field: "resources.cpus"},
		{name: "other name", change: deploy(`{"name":"other","image":"web:1"}`), field: "name"},
		{name: "other namespace", change: deploy(`{"name":"cart","namespace":"else","image":"web:1"}`), field: "namespace"},
		{name: "other backend", change: deploy(`{"name":"cart","backend":"docker","image":"web:1"}`), field: "backend"},
		{name: "no image", change: deploy(`{"name":"cart"}`), field: "image"},
		{name: "shell in the image", change: deploy(`{"name":"cart","image":"web:1; rm -rf /"}`), field: "image"},
		{name: "quantity overflows", change: deploy(`{"name":"cart","image":"web:1","resources":{"memory":"99999999999Ei"}}`), field: "resources.memory"},
		{name: "ports clash", change: deploy(`{"name":"cart","image":"web:1","ports":[{"containerPort":80,"hostPort":8080},{"containerPort":81,"hostPort":8080}]}`), field: "ports[1].hostPort"},
		{name: "privileged", change: deploy(`{"name":"cart","image":"web:1","security":{"privileged":true}}`), field: "security.privileged"},
		{name: "host path", change: deploy(`{"name":"cart","image":"web:1","volumes":[{"type":"bind","source":"/etc","target":"/x"}]}`), field: "volumes[0].source"},
		{name: "path traversal", change: deploy(`{"name":"cart","image":"web:1","secrets":[{"ref":{"file":"../../etc/shadow"},"env":"X"}]}`), field: "secrets[0].ref.file"},
		{name: "unsupported", change: deploy(`{"name":"cart","image":"web:1","resources":{"gpu":{"vendor":"nvidia","count":1}}}`), field: "resources.gpu"},
		{name: "no data", change: deploy(``), field: "data"},
		{name: "no such backend here", subject: "kranix.cmd.podman._.shop.cart.deploy", change: deploy(`{"name":"cart","image":"web:1"}`), field: "backend"},
		{name: "name is no label", subject: "kranix.cmd.sim._.shop.Cart_1.deploy", change: deploy(`{"name":"Cart_1","image":"web:1"}`), field: ""},
		{name: "type of another verb", change: func(m *nats.Msg) { m.Header.Set("ce-type", subjects.TypeDestroy) }, field: "type"},
		{name: "subject of another workload", change: func(m *nats.Msg) { m.Header.Set("ce-subject", "shop/else") }, field: "subject"},
		{name: "no required attributes", change: func(m *nats.Msg) { m.Header.Del("ce-id") }, letter: true},
		{name: "no CloudEvent at all", change: func(m *nats.Msg) { m.Header, m.Data = nil, []byte("\x00\xff not json") }, letter: true},
		{name: "empty message", change: func(m *nats.Msg) { m.Header, m.Data = nil, nil }, letter: true},
		{name: "batch", change: func(m *nats.Msg) {
			m.Header.Set("Content-Type", "application/cloudevents-batch+json")
			m.Data = []byte("[]")
		}, letter: true},
	}
	letters := 0
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			subject, e := commandFor(t, subjects.Deploy, "cart", web("cart"))
			if tc.subject != "" {
				subject = tc.subject
			}
			msg, err := subjects.Encode(subject, e)
			if err != nil {
				t.Fatal(err)
			}
			tc.change(msg)
			ack, err := b.js.PublishMsg(t.Context(), msg)
			if err != nil {
				t.Fatal(err)
			}
			command := subjects.CommandIDOf(e)
			if tc.letter {
				command = subjects.CommandID(subjects.StreamCommands, fmt.Sprint(ack.Sequence))
			}
			r := b.want(command, subjects.Rejected)
			if r.Sequence != ack.Sequence {
				t.Errorf("result is for command %d, want %d", r.Sequence, ack.Sequence)
			}
			if r.Message == "" {
				t.Error("result says nothing")
			}
			named := tc.field == ""
			for _, f := range r.Fields {
				named = named || f.Path == tc.field || strings.HasPrefix(f.Path, tc.field+".")
			}
			if !named {
				t.Errorf("fields %+v do not name %s: %s", r.Fields, tc.field, r.Message)
			}
			if tc.letter {
				letters++
			}
			if n := b.count(subjects.StreamDeadLetter, "kranix.dlq.>"); n != letters {
				t.Errorf("%d dead letters, want %d", n, letters)
			}
		})
	}
	if j := journal(engine); len(j) != 0 {
		t.Errorf("the engine was reached: %v", j)
	}
	id, _ := b.command(subjects.Deploy, "cart", web("cart"))
	b.want(id, subjects.Done)
}

func TestTypoInSubjectGetsNoAck(t *testing.T) {
	b := newBus(t)
	for _, subject := range []string{"kranix.cmd.dokcer._.shop.cart.deploy", "kranix.cmd.docker._.shop.cart.delpoy", "kranix.cmd.docker.shop.cart.deploy"} {
		if _, err := b.js.Publish(t.Context(), subject, nil); err == nil {
			t.Errorf("%s was acknowledged", subject)
		}
	}
}

func TestTooLargeCommandIsRefusedWhenPublished(t *testing.T) {
	b := newBus(t)
	if _, err := b.js.Publish(t.Context(), "kranix.cmd.sim._.shop.cart.deploy", make([]byte, subjects.MaxCommandBytes+1)); err == nil {
		t.Error("a command over the limit was acknowledged")
	}
}

func TestPanickingDriverIsAnEngineFailure(t *testing.T) {
	b := newBus(t)
	_, driver := newEngine(t, "n1", sim.Config{})
	b.startWorker("n1", panicking{driver}, func(c *workers.Config) { c.MaxAttempts = 2 })
	id, _ := b.command(subjects.Deploy, "cart", web("cart"))
	if r := b.want(id, subjects.Failed); !strings.Contains(r.Message, "panicked") {
		t.Errorf("message %q", r.Message)
	}
	other, _ := b.command(subjects.Destroy, "other", nil)
	b.want(other, subjects.Done)
}

// TestHugeAttributeIsRejected: an attribute of a command that would not fit into the
// result is refused by name, and the result can be sent.
func TestHugeAttributeIsRejected(t *testing.T) {
	b := newBus(t)
	engine, driver := newEngine(t, "n1", sim.Config{})
	b.startWorker("n1", driver)
	for name, value := range map[string]string{
		// A < is six bytes where it is escaped for HTML.
		"id": strings.Repeat("<", 200<<10), "type": strings.Repeat("<", 200<<10),
		"source": "/" + strings.Repeat("x", 200<<10), "subject": strings.Repeat("x", 200<<10),
	} {
		t.Run(name, func(t *testing.T) {
			e := map[string]string{
				"specversion": "1.0", "id": "long-" + name, "source": "/test/core", "type": subjects.TypeDestroy, "subject": "shop/cart",
			}
			e[name] = value
			var data bytes.Buffer
			enc := json.NewEncoder(&data)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(e); err != nil {
				t.Fatal(err)
			}
			msg := nats.NewMsg("kranix.cmd.sim._.shop.cart.destroy")
			msg.Header.Set("Content-Type", "application/cloudevents+json")
			msg.Data = data.Bytes()
			if _, err := b.js.PublishMsg(t.Context(), msg); err != nil {
				t.Fatal(err)
			}
			r := b.want(subjects.CommandID(e["source"], e["id"]), subjects.Rejected)
			if len(r.Fields) != 1 || r.Fields[0].Path != name {
				t.Errorf("fields %+v do not name %s", r.Fields, name)
			}
		})
	}
	if j := journal(engine); len(j) != 0 {
		t.Errorf("the engine was reached: %v", j)
	}
}

// TestNodeThatDoesNotExist: where no other worker can be on the bus, a command for a node
// that is not there is refused, naming the node; one for this node is carried out, once.
func TestNodeThatDoesNotExist(t *testing.T) {
	b := newBus(t)
	engine, driver := newEngine(t, "n1", sim.Config{})
	b.startWorker("n1", driver, func(c *workers.Config) { c.RejectUnserved = true })
	_, e := commandFor(t, subjects.Deploy, "cart", web("cart"))
	nowhere, _ := b.publish("kranix.cmd.sim.typo.shop.cart.deploy", e)
	r := b.want(nowhere, subjects.Rejected)
	if len(r.Fields) != 1 || r.Fields[0].Path != "node" || !strings.Contains(r.Message, "typo") {
		t.Errorf("result does not name the node: %+v", r)
	}
	if j := journal(engine); len(j) != 0 {
		t.Errorf("the engine was reached: %v", j)
	}
	_, e = commandFor(t, subjects.Deploy, "cart", web("cart"))
	here, _ := b.publish("kranix.cmd.sim.n1.shop.cart.deploy", e)
	b.want(here, subjects.Done)
	if starts := engine.Starts("shop/cart"); len(starts) != 1 {
		t.Errorf("%d starts", len(starts))
	}
}

// panicking is a driver with a bug.
type panicking struct{ *sim.Driver }

func (panicking) Deploy(_ context.Context, spec *drivers.WorkloadSpec) (*drivers.WorkloadStatus, error) {
	var none *drivers.WorkloadStatus
	none.Name = spec.Name
	return none, nil
}
