package subjects

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func resultEvent(t testing.TB, w Workload, o Outcome, commandID string) event.Event {
	t.Helper()
	e, err := NewEvent(w.Source(), ResultType(o), w.ID(), ResultData{Outcome: o, CommandID: commandID, Sequence: 1}, map[string]string{ExtCommandID: commandID})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestSettleRace has writers on different nodes settle the same commands: each command
// ends with one result, all of them agree on it, and one of them knows it is its own.
func TestSettleRace(t *testing.T) {
	js := ensured(t)
	settleRace(t, 100, js, js, js, js)
}

// TestSettleRaceInACluster does it on a replicated stream, where a result is refused while
// another one is on its way through the quorum.
func TestSettleRaceInACluster(t *testing.T) {
	servers := startCluster(t)
	settings := testSettings()
	settings.Replicas = 3
	var clients []jetstream.JetStream
	for i := range 4 {
		js, err := settings.JetStream(connect(t, servers[i%len(servers)]))
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, js)
	}
	for range 2 { // the second time it compares what a cluster made of it
		if err := Ensure(t.Context(), clients[0], settings); err != nil {
			t.Fatal(err)
		}
	}
	if differences, err := Differences(t.Context(), clients[0], settings); err != nil || len(differences) > 0 {
		t.Errorf("differences %v, %v", differences, err)
	}
	settleRace(t, 50, clients...)
}

func settleRace(t *testing.T, commands int, writers ...jetstream.JetStream) {
	t.Helper()
	type verdict struct {
		won bool
		id  string
	}
	verdicts := make([][]verdict, commands)
	for i := range verdicts {
		verdicts[i] = make([]verdict, len(writers))
	}
	var wg sync.WaitGroup
	for writer, js := range writers {
		w := cart.On(fmt.Sprintf("n%d", writer))
		wg.Go(func() {
			for i := range commands {
				id := CommandID("/core", fmt.Sprint(i))
				won, standing, err := PublishResult(t.Context(), js, w, id, resultEvent(t, w, Outcomes()[writer], id))
				if err != nil {
					t.Errorf("writer %d, command %d: %v", writer, i, err)
					return
				}
				verdicts[i][writer] = verdict{won, standing.Source() + standing.ID()}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for i, v := range verdicts {
		winners := 0
		for _, one := range v {
			if one.won {
				winners++
			}
			if one.id != v[0].id {
				t.Fatalf("command %d: the writers disagree: %v", i, v)
			}
		}
		if winners != 1 {
			t.Fatalf("command %d has %d winners: %v", i, winners, v)
		}
	}
	s, err := writers[0].Stream(t.Context(), StreamResults)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n != uint64(commands) {
		t.Errorf("%d results, want %d", n, commands)
	}
}

func TestPublishResultAgain(t *testing.T) {
	js := ensured(t)
	id := CommandID("/core", "1")
	first := resultEvent(t, cart, Done, id)
	for try := range 3 {
		won, standing, err := PublishResult(t.Context(), js, cart, id, first)
		if err != nil || !won || standing.ID() != first.ID() {
			t.Fatalf("try %d of the same event: won %v, %v, %v", try, won, standing.Context, err)
		}
	}
	// Settled under the name of the default backend and by nobody in particular: the same
	// command all the same.
	won, standing, err := PublishResult(t.Context(), js, Workload{Any, Any, "shop", "cart"}, id, resultEvent(t, cart, Expired, id))
	if err != nil || won || standing.ID() != first.ID() {
		t.Fatalf("under another backend: won %v, %v, %v", won, standing.Context, err)
	}
	// Another event for the same node and command: its subject is taken too.
	won, standing, err = PublishResult(t.Context(), js, cart, id, resultEvent(t, cart, Failed, id))
	if err != nil || won || standing.Type() != ResultType(Done) || standing.ID() != first.ID() {
		t.Fatalf("a second result: won %v, %v, %v", won, standing.Context, err)
	}
}

func TestFindResult(t *testing.T) {
	js := ensured(t)
	ctx := t.Context()
	id := CommandID("/core", "1")
	if _, _, err := FindResult(ctx, js, id); !errors.Is(err, ErrNoResult) {
		t.Fatalf("before: %v, want ErrNoResult", err)
	}
	if _, _, err := FindResult(ctx, js, "*"); !errors.Is(err, ErrSubject) {
		t.Fatalf("a wildcard: %v, want ErrSubject", err)
	}
	for i := range 50 { // others around it
		other := CommandID("/core", fmt.Sprint("other", i))
		if _, _, err := PublishResult(ctx, js, cart, other, resultEvent(t, cart, Done, other)); err != nil {
			t.Fatal(err)
		}
		if i == 25 {
			if _, _, err := PublishResult(ctx, js, cart.On("n9"), id, resultEvent(t, cart, Superseded, id)); err != nil {
				t.Fatal(err)
			}
		}
	}
	msg, e, err := FindResult(ctx, js, id)
	if err != nil || e.Type() != ResultType(Superseded) || Extension(e, ExtCommandID) != id || msg.Sequence != 27 || msg.Time.IsZero() {
		t.Fatalf("got %+v, %v, %v", msg, e.Context, err)
	}
	if of, _, err := FindResultOf(ctx, js, Workload{Any, Any, "shop", "cart"}, id); err != nil || of.Sequence != msg.Sequence {
		t.Errorf("by its workload: %+v, %v", of, err)
	}
	if _, _, err := FindResultOf(ctx, js, Workload{"docker", "n9", "shop", "web"}, id); !errors.Is(err, ErrNoResult) {
		t.Errorf("by another workload: %v, want ErrNoResult", err)
	}
	if _, _, err := FindResultOf(ctx, js, Workload{"docker", "n9", "*", "*"}, id); !errors.Is(err, ErrSubject) {
		t.Errorf("by wildcards: %v, want ErrSubject", err)
	}
	if s, err := Parse(msg.Subject); err != nil || s.Workload.Node != "n9" || s.Last != id {
		t.Errorf("its subject is %q, %v", msg.Subject, err)
	}
	// The library's own way works on this stream as well, with a wildcard.
	stream, err := js.Stream(ctx, StreamResults)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := stream.GetLastMsgForSubject(ctx, ResultFilter(id)); err != nil || raw.Sequence != msg.Sequence {
		t.Errorf("GetLastMsgForSubject: %v, %v", raw, err)
	}
	// What is stored and is no event comes back with the error.
	broken := CommandID("/core", "broken")
	subject, err := Result(cart, broken)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(ctx, subject, []byte("text")); err != nil {
		t.Fatal(err)
	}
	if msg, _, err := FindResult(ctx, js, broken); !errors.Is(err, ErrEvent) || msg == nil || string(msg.Data) != "text" {
		t.Errorf("a broken result: %v, %v", msg, err)
	}
}

// TestResultIsNeverReplaced publishes past the protocol.
func TestResultIsNeverReplaced(t *testing.T) {
	js := ensured(t)
	id := CommandID("/core", "1")
	if _, _, err := PublishResult(t.Context(), js, cart, id, resultEvent(t, cart, Done, id)); err != nil {
		t.Fatal(err)
	}
	subject, err := Result(cart, id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), subject, []byte("another")); err == nil {
		t.Error("a second message on the subject was stored")
	}
	if _, e, err := FindResult(t.Context(), js, id); err != nil || e.Type() != ResultType(Done) {
		t.Errorf("afterwards: %v, %v", e.Context, err)
	}
}

func TestTypoGetsNoAck(t *testing.T) {
	js := ensured(t)
	for _, backend := range append(Backends(), Any) {
		for _, verb := range Verbs() {
			subject, err := Command(Workload{backend, Any, "shop", "cart"}, verb)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := js.Publish(t.Context(), subject, nil); err != nil {
				t.Errorf("%s: %v", subject, err)
			}
		}
	}
	for _, subject := range []string{
		"kranix.cmd.dokcer._.shop.cart.deploy", "kranix.cmd.docker._.shop.cart.deplay", "kranix.cmd.docker._.shop.deploy",
		"kranix.cmd.docker._.shop.cart.deploy.now", "kranix.cmds.docker._.shop.cart.deploy",
	} {
		if _, err := js.Publish(t.Context(), subject, nil, jetstream.WithRetryAttempts(0)); !errors.Is(err, jetstream.ErrNoStreamResponse) {
			t.Errorf("%s: %v, want no stream", subject, err)
		}
	}
}

func TestCommandsAreBoundedAndKept(t *testing.T) {
	js := ensured(t)
	ctx := t.Context()
	big := nats.NewMsg(testSubject)
	big.Data = make([]byte, MaxCommandBytes)
	if ack, err := js.PublishMsg(ctx, big); err != nil {
		t.Errorf("at the limit: %v", err)
	} else if ack.Sequence != 1 {
		t.Errorf("sequence %d", ack.Sequence)
	}
	big.Header.Set("a", "b") // headers count
	if _, err := js.PublishMsg(ctx, big); !errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum) {
		t.Errorf("over the limit: %v", err)
	}
	s, err := js.Stream(ctx, StreamCommands)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(ctx, 1); err == nil {
		t.Error("a command was deleted")
	}
	if err := s.Purge(ctx); err == nil {
		t.Error("the commands were purged")
	}
	if c := s.CachedInfo().Config; c.DenyDelete {
		c.DenyDelete, c.DenyPurge = false, false
		if _, err := js.UpdateStream(ctx, c); err == nil {
			t.Error("the protection was switched off")
		}
	}
}

// TestEncodedSizeIsTheServers compares our count with the server's: a message that Encode
// lets through must not be refused, and the other way round.
func TestEncodedSizeIsTheServers(t *testing.T) {
	js := ensured(t)
	e := testEvent(t)
	e.SetDataContentType("text/plain")
	e.DataEncoded = []byte{'x'}
	msg, err := Encode(testSubject, e)
	if err != nil {
		t.Fatal(err)
	}
	room := MaxCommandBytes - wireSize(msg.Header, msg.Data)
	e.DataEncoded = []byte(strings.Repeat("x", room+1))
	if msg, err = Encode(testSubject, e); err != nil {
		t.Fatalf("at the limit: %v", err)
	}
	if _, err := js.PublishMsg(t.Context(), msg); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	msg.Data = append(msg.Data, 'x')
	if _, err := js.PublishMsg(t.Context(), msg); !errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum) {
		t.Errorf("one byte more, published: %v", err)
	}
	e.DataEncoded = msg.Data
	if _, err := Encode(testSubject, e); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one byte more, encoded: %v", err)
	}
}

// TestEventOverTheWire sends an event with difficult attributes through a server in both
// modes, and repeats it: the second one is dropped.
func TestEventOverTheWire(t *testing.T) {
	js := ensured(t)
	ctx := t.Context()
	e := testEvent(t)
	e.SetID("é \"1\"\r\nInjected: yes")
	e.SetSubject("Euro € 😀 100%")
	e.SetExtension("note", "a\tb\x00c, %41")
	for i, encode := range []func(string, event.Event) (*nats.Msg, error){Encode, EncodeStructured} {
		e.SetSource(fmt.Sprintf("/kranix/core|%d", i))
		msg, err := encode(testSubject, e)
		if err != nil {
			t.Fatal(err)
		}
		first, err := js.PublishMsg(ctx, msg)
		if err != nil {
			t.Fatal(err)
		}
		again, err := js.PublishMsg(ctx, msg)
		if err != nil || !again.Duplicate || again.Sequence != first.Sequence {
			t.Errorf("mode %d: the repetition was stored: %+v, %v", i, again, err)
		}
		s, err := js.Stream(ctx, StreamCommands)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := s.GetMsg(ctx, first.Sequence)
		if err != nil {
			t.Fatal(err)
		}
		if len(raw.Header["Injected"]) > 0 {
			t.Errorf("mode %d: a header was injected", i)
		}
		got, err := Decode(raw.Header, raw.Data)
		if err != nil {
			t.Fatalf("mode %d: %v", i, err)
		}
		sameEvent(t, got, e, i == 0)
	}
}

func TestConsumers(t *testing.T) {
	js := ensured(t)
	ctx := t.Context()
	o := ConsumerOptions{AckWait: 2 * time.Second}
	make1 := func(stream string, c jetstream.ConsumerConfig) jetstream.Consumer {
		t.Helper()
		for range 2 { // a worker that comes back finds the same
			got, err := js.CreateOrUpdateConsumer(ctx, stream, c)
			if err != nil {
				t.Fatal(err)
			}
			have := got.CachedInfo().Config
			if have.MaxDeliver != -1 || have.MaxAckPending != -1 || have.AckWait != o.AckWait || have.AckPolicy != jetstream.AckExplicitPolicy ||
				have.DeliverPolicy != jetstream.DeliverAllPolicy || len(have.BackOff) != 0 || have.InactiveThreshold != c.InactiveThreshold {
				t.Errorf("%s: %+v", c.Durable, have)
			}
		}
		got, err := js.Consumer(ctx, stream, c.Durable)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	consumers := map[string]jetstream.Consumer{
		"pool-docker":          make1(StreamCommands, PoolConsumer("docker", true, o)),
		"pool-sim":             make1(StreamCommands, PoolConsumer("sim", false, o)),
		"node-n1-docker":       make1(StreamCommands, NodeConsumer("docker", "n1", true, o)),
		"node-n1-sim":          make1(StreamCommands, NodeConsumer("sim", "n1", false, o)),
		"node-n1-docker (asg)": make1(StreamAssignments, AssignmentConsumer("docker", "n1", o)),
	}
	publish := func(subject string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(ctx, subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	publish(Command(Workload{"docker", Any, "a", "b"}, Deploy))
	publish(Command(Workload{Any, Any, "a", "b"}, Deploy))
	publish(Command(Workload{"sim", Any, "a", "b"}, Deploy))
	publish(Command(Workload{"docker", "n1", "a", "b"}, Deploy))
	publish(Command(Workload{Any, "n1", "a", "b"}, Deploy))
	publish(Command(Workload{"docker", "n2", "a", "b"}, Deploy))
	publish(Assignment(Workload{"docker", "n1", "a", "b"}))
	publish(Assignment(Workload{"sim", "n1", "a", "b"}))
	for name, want := range map[string]uint64{"pool-docker": 2, "pool-sim": 1, "node-n1-docker": 2, "node-n1-sim": 0, "node-n1-docker (asg)": 1} {
		// The server counts a little after it has acknowledged.
		var got uint64
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
			info, err := consumers[name].Info(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if got = info.NumPending; got == want {
				break
			}
		}
		if got != want {
			t.Errorf("%s would get %d, want %d", name, got, want)
		}
	}
	if c := PoolConsumer("docker", true, ConsumerOptions{InactiveThreshold: time.Hour}); c.InactiveThreshold != 0 || c.AckWait != 30*time.Second {
		t.Errorf("a pool's consumer: %+v", c)
	}
	if c := NodeConsumer("docker", "n1", true, ConsumerOptions{}); c.InactiveThreshold != DefaultCommandAge {
		t.Errorf("a node's consumer is removed after %s", c.InactiveThreshold)
	}
	if c := NodeConsumer("docker", "n1", true, ConsumerOptions{InactiveThreshold: -1}); c.InactiveThreshold != 0 {
		t.Errorf("a node's consumer that shall stay is removed after %s", c.InactiveThreshold)
	}
}
