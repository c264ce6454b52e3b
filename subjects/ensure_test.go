package subjects

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// requests counts the API requests of everyone on a server whose subject has a part.
func requests(t *testing.T, nc *nats.Conn, part string) func() []string {
	t.Helper()
	var mu sync.Mutex
	var seen []string
	sub, err := nc.Subscribe("$JS.API.>", func(m *nats.Msg) {
		if strings.Contains(m.Subject, part) {
			mu.Lock()
			seen = append(seen, m.Subject)
			mu.Unlock()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return func() []string {
		// What was sent before this round trip has been delivered after it.
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		for pending := 1; pending > 0; {
			var err error
			if pending, _, err = sub.Pending(); err != nil {
				t.Fatal(err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen)
	}
}

func TestEnsureIsIdempotent(t *testing.T) {
	s := startServer(t)
	js, err := Settings{}.JetStream(connect(t, s))
	if err != nil {
		t.Fatal(err)
	}
	created := requests(t, connect(t, s), "STREAM.CREATE")
	updated := requests(t, connect(t, s), "STREAM.UPDATE")
	for range 2 {
		if err := Ensure(t.Context(), js, testSettings()); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := len(created()), len(configs(Settings{})); got != want {
		t.Errorf("%d create requests, want %d", got, want)
	}
	if got := updated(); len(got) > 0 {
		t.Errorf("update requests: %v", got)
	}
	differences, err := Differences(t.Context(), js, testSettings())
	if err != nil || len(differences) > 0 {
		t.Errorf("differences %v, %v", differences, err)
	}
}

// TestStreamsOfTheContract reads back what the table of the contract says.
func TestStreamsOfTheContract(t *testing.T) {
	js := ensured(t)
	config := func(name string) jetstream.StreamConfig {
		s, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().Config
	}
	for _, name := range []string{StreamCommands, StreamAssignments, StreamEvents, StreamResults, StreamDeadLetter, StreamLogs, StreamMetrics} {
		c := config(name)
		if c.Retention != jetstream.LimitsPolicy || c.Storage != jetstream.FileStorage || c.Duplicates <= 0 || c.MaxConsumers != maxConsumers || c.MaxAge <= 0 {
			t.Errorf("%s: %+v", name, c)
		}
		bulk := name == StreamLogs || name == StreamMetrics
		if (c.PersistMode == jetstream.AsyncPersistMode) != bulk || (c.Compression == jetstream.S2Compression) != bulk || (c.MaxBytes > 0) != bulk {
			t.Errorf("%s: persist mode %s, compression %s, %d bytes", name, c.PersistMode, c.Compression, c.MaxBytes)
		}
	}
	c := config(StreamCommands)
	if c.MaxAge != 7*24*time.Hour || c.MaxMsgSize != 256<<10 || !c.DenyDelete || !c.DenyPurge || c.Duplicates != DefaultDuplicates || len(c.Subjects) != 24 {
		t.Errorf("commands: %+v", c)
	}
	r := config(StreamResults)
	if r.MaxAge <= c.MaxAge || r.MaxMsgsPerSubject != 1 || !r.DiscardNewPerSubject || r.AllowDirect {
		t.Errorf("results: %+v", r)
	}
	for _, bucket := range []string{BucketWorkloads, BucketAllocations, BucketStatus, BucketNodes} {
		kv, err := js.KeyValue(t.Context(), bucket)
		if err != nil {
			t.Fatalf("%s: %v", bucket, err)
		}
		if _, err := kv.Create(t.Context(), cart.Key(), []byte("1"), jetstream.KeyTTL(time.Hour)); err != nil {
			t.Errorf("%s: create with TTL: %v", bucket, err)
		}
	}
}

// TestBucketsAreThoseOfTheLibrary lets the client library make the same buckets: what it
// finds different about ours would one day bite.
func TestBucketsAreThoseOfTheLibrary(t *testing.T) {
	js := newJetStream(t)
	for _, b := range Buckets(testSettings()) {
		if _, err := js.CreateKeyValue(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		s, err := js.Stream(t.Context(), bucketStreamPrefix+b.Bucket)
		if err != nil {
			t.Fatal(err)
		}
		have := s.CachedInfo().Config
		want := bucketStream(b)
		have.Metadata = nil              // the server's version
		have.MaxConsumers = maxConsumers // ours on purpose
		if !reflect.DeepEqual(have, want) {
			t.Errorf("%s:\nlibrary %+v\nours    %+v", b.Bucket, have, want)
		}
	}
	if err := Ensure(t.Context(), js, testSettings()); err != nil {
		t.Errorf("ensure over the library's buckets: %v", err)
	}
}

func TestEnsureMigratesWithoutLoss(t *testing.T) {
	js := newJetStream(t)
	ctx := t.Context()
	// An old release's stream, changed by an operator since.
	old := jetstream.StreamConfig{
		Name: StreamEvents, Description: "ours", Subjects: []string{"kranix.evt.>", "extra.>"},
		MaxAge: time.Hour, MaxBytes: 64 << 20, MaxMsgsPerSubject: 50, Duplicates: time.Hour,
		Metadata:  map[string]string{"owner": "ops"},
		RePublish: &jetstream.RePublish{Source: "kranix.evt.>", Destination: "copy.evt.>"},
	}
	if _, err := js.CreateStream(ctx, old); err != nil {
		t.Fatal(err)
	}
	subject, err := Event(cart, "running")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if _, err := js.Publish(ctx, subject, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	logs := Streams(testSettings())[5]
	logs.MaxBytes, logs.MaxAge = 2*logs.MaxBytes, 0
	if _, err := js.CreateStream(ctx, logs); err != nil {
		t.Fatal(err)
	}

	before, err := Differences(ctx, js, testSettings())
	if err != nil {
		t.Fatal(err)
	}
	if err := Ensure(ctx, js, testSettings()); err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(ctx, StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	got := s.CachedInfo()
	if got.State.Msgs != 20 {
		t.Errorf("%d messages left, want 20", got.State.Msgs)
	}
	c := got.Config
	if c.MaxAge != DefaultEventAge || c.MaxMsgSize != MaxMessageBytes || c.MaxConsumers != maxConsumers || !c.AllowDirect ||
		!slices.Equal(c.Subjects, []string{"kranix.evt.>", "extra.>", "kranix.node.>"}) {
		t.Errorf("not brought up to date: %+v", c)
	}
	if c.Description != "ours" || c.MaxBytes != 64<<20 || c.MaxMsgsPerSubject != 50 || c.Duplicates != time.Hour || c.Metadata["owner"] != "ops" || c.RePublish == nil {
		t.Errorf("what the operator made is gone: %+v", c)
	}
	if s, err = js.Stream(ctx, StreamLogs); err != nil {
		t.Fatal(err)
	}
	if c := s.CachedInfo().Config; c.MaxBytes != logs.MaxBytes || c.MaxAge != 0 {
		t.Errorf("shrunk: %+v", c)
	}

	kinds := map[string]DifferenceKind{}
	for _, d := range before {
		kinds[d.Stream+" "+d.Field] = d.Kind
	}
	want := map[string]DifferenceKind{
		StreamEvents + " max_age": Changed, StreamEvents + " subjects": Changed, StreamEvents + " max_consumers": Changed,
		StreamEvents + " max_msg_size": Changed, StreamEvents + " allow_direct": Changed,
		StreamLogs + " max_bytes": Kept, StreamLogs + " max_age": Kept,
	}
	if !reflect.DeepEqual(kinds, want) {
		t.Errorf("differences before: %v, want %v", before, want)
	}
	after, err := Differences(ctx, js, testSettings())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range after {
		if d.Kind != Kept || !strings.Contains(d.String(), "nats stream edit "+StreamLogs) {
			t.Errorf("left over: %s", d)
		}
	}
}

func TestEnsureRefusesWhatCannotBeChanged(t *testing.T) {
	for _, tc := range []struct {
		name  string
		exist jetstream.StreamConfig
		field string
	}{
		{"memory", jetstream.StreamConfig{Name: StreamCommands, Subjects: []string{"kranix.cmd.>"}, Storage: jetstream.MemoryStorage}, "storage"},
		{"work queue", jetstream.StreamConfig{Name: StreamCommands, Subjects: []string{"kranix.cmd.>"}, Retention: jetstream.WorkQueuePolicy}, "retention"},
		{"async commands", jetstream.StreamConfig{Name: StreamCommands, Subjects: []string{"kranix.cmd.>"}, PersistMode: jetstream.AsyncPersistMode}, "persist_mode"},
		{"mirror", jetstream.StreamConfig{Name: StreamResults, Mirror: &jetstream.StreamSource{Name: "OTHER"}}, "mirror"},
		{"no acks", jetstream.StreamConfig{Name: StreamEvents, Subjects: []string{"kranix.evt.>"}, NoAck: true}, "no_ack"},
		{"sealed bucket", jetstream.StreamConfig{Name: "KV_" + BucketStatus, Subjects: []string{"x.>"}}, "sealed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			js := newJetStream(t)
			if _, err := js.CreateStream(t.Context(), tc.exist); err != nil {
				t.Fatal(err)
			}
			if tc.field == "sealed" {
				tc.exist.Sealed = true
				if _, err := js.UpdateStream(t.Context(), tc.exist); err != nil {
					t.Fatal(err)
				}
			}
			err := Ensure(t.Context(), js, testSettings())
			if !errors.Is(err, ErrStream) {
				t.Fatalf("got %v, want ErrStream", err)
			}
			for _, part := range []string{tc.exist.Name, tc.field} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not name %q", err, part)
				}
			}
			var names []string
			for name := range js.StreamNames(t.Context()).Name() {
				names = append(names, name)
			}
			if len(names) != 1 {
				t.Errorf("something was made before the refusal: %v", names)
			}
		})
	}
}

// TestEnsureTwoSettings is a rolling update: each side adds, neither takes away.
func TestEnsureTwoSettings(t *testing.T) {
	js := newJetStream(t)
	small, large := testSettings(), testSettings()
	large.CommandAge, large.ResultAge, large.LogBytes = 10*24*time.Hour, 60*24*time.Hour, 64<<20
	for _, s := range []Settings{small, large, small} {
		if err := Ensure(t.Context(), js, s); err != nil {
			t.Fatal(err)
		}
	}
	differences, err := Differences(t.Context(), js, large)
	if err != nil || len(differences) > 0 {
		t.Errorf("the larger settings do not hold: %v, %v", differences, err)
	}
}

func TestEnsureConcurrently(t *testing.T) {
	s := startServer(t)
	const processes = 6
	errs := make(chan error, processes)
	for range processes {
		js, err := Settings{}.JetStream(connect(t, s))
		if err != nil {
			t.Fatal(err)
		}
		go func() { errs <- Ensure(t.Context(), js, testSettings()) }()
	}
	for range processes {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	js, err := Settings{}.JetStream(connect(t, s))
	if err != nil {
		t.Fatal(err)
	}
	if differences, err := Differences(t.Context(), js, testSettings()); err != nil || len(differences) > 0 {
		t.Errorf("differences %v, %v", differences, err)
	}
}

// late is a client that looks for each stream before another process has made it.
type late struct {
	jetstream.JetStream
	looked map[string]bool
}

func (l late) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	// Once to find the differences and once to make the stream.
	for _, look := range []string{"first " + name, "second " + name} {
		if !l.looked[look] {
			l.looked[look] = true
			return nil, jetstream.ErrStreamNotFound
		}
	}
	return l.JetStream.Stream(ctx, name)
}

func TestEnsureComesSecond(t *testing.T) {
	js := ensured(t)
	larger := testSettings()
	larger.LogBytes = 64 << 20
	if err := Ensure(t.Context(), late{js, map[string]bool{}}, larger); err != nil {
		t.Fatal(err)
	}
	if differences, err := Differences(t.Context(), js, larger); err != nil || len(differences) > 0 {
		t.Errorf("differences %v, %v", differences, err)
	}
}

func TestEnsureInADomain(t *testing.T) {
	s := startServer(t, func(o *server.Options) { o.JetStreamDomain = "hub" })
	for _, settings := range []Settings{{Domain: "hub"}, {APIPrefix: "$JS.hub.API"}} {
		settings.LogBytes, settings.MetricBytes = 32<<20, 32<<20
		js, err := settings.JetStream(connect(t, s))
		if err != nil {
			t.Fatal(err)
		}
		if err := Ensure(t.Context(), js, settings); err != nil {
			t.Fatal(err)
		}
		if _, _, err := FindResult(t.Context(), js, CommandID("a", "b")); !errors.Is(err, ErrNoResult) {
			t.Errorf("find a result: %v", err)
		}
	}
	js, err := Settings{Domain: "elsewhere"}.JetStream(connect(t, s))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := Ensure(ctx, js, Settings{Domain: "elsewhere"}); err == nil {
		t.Error("an unknown domain was accepted")
	}
	if _, _, err := FindResult(ctx, js, CommandID("a", "b")); !errors.Is(err, jetstream.ErrJetStreamNotEnabled) {
		t.Errorf("find a result in an unknown domain: %v", err)
	}
}

// TestMergeKnowsEveryField fails when the client library learns a field, so that somebody
// decides whose it is.
func TestMergeKnowsEveryField(t *testing.T) {
	merged := strings.Fields("Name Subjects Retention MaxConsumers MaxMsgs MaxBytes Discard DiscardNewPerSubject MaxAge MaxMsgsPerSubject MaxMsgSize Storage Replicas NoAck Duplicates Mirror Sealed DenyDelete DenyPurge AllowRollup Compression AllowDirect AllowMsgTTL SubjectDeleteMarkerTTL PersistMode")
	operators := strings.Fields("Description Placement Sources FirstSeq SubjectTransform RePublish MirrorDirect ConsumerLimits Metadata Template AllowMsgCounter AllowAtomicPublish AllowMsgSchedules AllowBatchPublish")
	typ := reflect.TypeFor[jetstream.StreamConfig]()
	for i := range typ.NumField() {
		if name := typ.Field(i).Name; !slices.Contains(merged, name) && !slices.Contains(operators, name) {
			t.Errorf("merge does not know %s", name)
		}
	}
	// Every field the contract sets is one that merge looks at.
	for _, c := range configs(Settings{}) {
		v := reflect.ValueOf(c)
		for _, name := range operators {
			if name != "Description" && !v.FieldByName(name).IsZero() {
				t.Errorf("%s sets %s, which merge leaves to the operator", c.Name, name)
			}
		}
	}
}

func TestSettingsValidate(t *testing.T) {
	for _, s := range []Settings{{}, {CommandAge: 90 * 24 * time.Hour}} {
		if err := s.Validate(); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
	for _, tc := range []struct {
		s    Settings
		says []string
	}{
		{Settings{CommandAge: 24 * time.Hour, ResultAge: 24 * time.Hour}, []string{"result age"}},
		{Settings{CommandAge: 365 * 24 * time.Hour, ResultAge: DefaultResultAge}, []string{"result age", "command age"}},
		{Settings{Domain: "a", APIPrefix: "b"}, []string{"domain"}},
		{Settings{Replicas: 2, LogReplicas: -1}, []string{"replicas is 2", "log replicas is -1"}},
		{Settings{EventAge: -time.Second, LogAge: time.Second}, []string{"event age", "log age"}},
		{Settings{Duplicates: 8 * 24 * time.Hour}, []string{"duplicate window"}},
		{Settings{LogBytes: 10, MetricBytes: -1}, []string{"log bytes", "metric bytes"}},
	} {
		err := tc.s.Validate()
		if !errors.Is(err, ErrSettings) {
			t.Errorf("%+v: %v, want ErrSettings", tc.s, err)
			continue
		}
		for _, part := range tc.says {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%+v: %q does not say %q", tc.s, err, part)
			}
		}
	}
	if err := Ensure(t.Context(), nil, Settings{Replicas: 2}); !errors.Is(err, ErrSettings) {
		t.Errorf("Ensure: %v", err)
	}
	if got := fmt.Sprint(Streams(Settings{LogReplicas: 3, Replicas: 3})[5].PersistMode); got != "Default" {
		t.Errorf("replicated logs are written in mode %s, which the server refuses", got)
	}
}
