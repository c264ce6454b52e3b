package subjects

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The streams.
const (
	StreamCommands    = "KRANIX_COMMANDS"
	StreamAssignments = "KRANIX_ASSIGNMENTS"
	StreamEvents      = "KRANIX_EVENTS"
	StreamResults     = "KRANIX_RESULTS"
	StreamDeadLetter  = "KRANIX_DEADLETTER"
	StreamLogs        = "KRANIX_LOGS"
	StreamMetrics     = "KRANIX_METRICS"
)

// The buckets.
const (
	// BucketWorkloads holds the record of each workload: what was asked for, the
	// sequences, the claim and the tombstone. Its keys are Workload.Identity keys.
	BucketWorkloads = "KRANIX_WORKLOADS"
	// BucketAllocations holds where each instance is.
	BucketAllocations = "KRANIX_ALLOCATIONS"
	// BucketStatus holds the latest observed status. Its keys are Workload keys.
	BucketStatus = "KRANIX_STATUS"
	// BucketNodes holds what nodes say about themselves. Its keys are "<node>.<kind>", one
	// writer each (HeartbeatKey).
	BucketNodes = "KRANIX_NODES"
)

const (
	// maxConsumers is set on every stream because a server limits a stream that says
	// nothing to 1,000 consumers (default_max_consumers, NATS 2.15), and every node and
	// every watching client is one.
	maxConsumers = 10_000

	// shortDuplicates is the window of the streams the runtime writes: it covers a
	// publisher's retries and keeps the server's memory of busy streams small.
	shortDuplicates = 2 * time.Minute

	// markerTTL is how long watchers can still learn that a key expired.
	markerTTL = time.Hour

	bucketStreamPrefix = "KV_"
)

// Streams returns the streams of the contract. s must have passed Validate.
func Streams(s Settings) []jetstream.StreamConfig {
	s = s.WithDefaults()
	commands := stream(StreamCommands, "Commands of kranix-core, in order; replayed, so never a work queue", s.Replicas, commandSubjects()...)
	commands.MaxAge = s.CommandAge
	commands.MaxMsgSize = MaxCommandBytes
	commands.Duplicates = s.Duplicates
	commands.DenyDelete = true
	commands.DenyPurge = true
	// Should an operator bound the stream, a new command is refused, not an old one lost.
	commands.Discard = jetstream.DiscardNew

	assignments := stream(StreamAssignments, "Pool commands handed to a node, by reference", s.Replicas, all(KindAssignment))
	assignments.MaxAge = s.CommandAge
	assignments.MaxMsgSize = MaxAssignmentBytes
	assignments.Discard = jetstream.DiscardNew

	events := stream(StreamEvents, "What was observed and how far commands have come", s.Replicas, all(KindEvent), all(KindNode))
	events.MaxAge = s.EventAge

	results := stream(StreamResults, "The one terminal result of each command", s.Replicas, all(KindResult))
	results.MaxAge = s.ResultAge
	// A second message on a subject is refused, not put in place of the first.
	results.MaxMsgsPerSubject = 1
	results.Discard = jetstream.DiscardNew
	results.DiscardNewPerSubject = true
	results.DenyDelete = true
	results.DenyPurge = true
	// Who loses the race to settle a command reads the winner's result at once: a direct
	// get may be answered by a replica that has not seen it yet.
	results.AllowDirect = false

	deadLetter := stream(StreamDeadLetter, "Commands given up, with the evidence", s.Replicas, all(KindDeadLetter))
	deadLetter.MaxAge = s.DeadLetterAge

	logs := bulk(stream(StreamLogs, "Output of workloads", s.LogReplicas, all(KindLog)))
	logs.MaxAge = s.LogAge
	logs.MaxBytes = s.LogBytes

	metrics := bulk(stream(StreamMetrics, "Resource use of workloads", s.LogReplicas, all(KindMetric)))
	metrics.MaxAge = s.MetricAge
	metrics.MaxBytes = s.MetricBytes

	streams := []jetstream.StreamConfig{commands, assignments, events, results, deadLetter, logs, metrics}
	for i := range streams {
		streams[i].Duplicates = min(streams[i].Duplicates, streams[i].MaxAge)
	}
	return streams
}

// stream is what all streams have in common. Every field the server would fill in is
// spelled out, so that a stream read back can be compared with what was asked for.
func stream(name, description string, replicas int, subjects ...string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              name,
		Description:       description,
		Subjects:          subjects,
		Retention:         jetstream.LimitsPolicy,
		Storage:           jetstream.FileStorage,
		Discard:           jetstream.DiscardOld,
		MaxConsumers:      maxConsumers,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		MaxMsgsPerSubject: -1,
		MaxMsgSize:        MaxMessageBytes,
		Duplicates:        shortDuplicates,
		Replicas:          replicas,
		AllowDirect:       true,
	}
}

// bulk makes a stream of data that may be lost with the machine: compressed and, where
// the server can (one copy, on disk), written without waiting for the disk. The
// persist mode needs NATS 2.12 and cannot be changed later.
func bulk(c jetstream.StreamConfig) jetstream.StreamConfig {
	c.Compression = jetstream.S2Compression
	if c.Replicas == 1 {
		c.PersistMode = jetstream.AsyncPersistMode
	}
	return c
}

// commandSubjects spells the subjects out, so that a command for an unknown backend or
// with an unknown verb is stored by nobody and its publisher gets no acknowledgement.
func commandSubjects() []string {
	var subjects []string
	for _, backend := range append(Backends(), Any) {
		for _, verb := range Verbs() {
			subjects = append(subjects, pattern(KindCommand, Workload{Backend: backend}, string(verb)))
		}
	}
	return subjects
}

// Buckets returns the buckets of the contract. s must have passed Validate. All of them
// know per-key TTLs.
func Buckets(s Settings) []jetstream.KeyValueConfig {
	s = s.WithDefaults()
	bucket := func(name, description string) jetstream.KeyValueConfig {
		return jetstream.KeyValueConfig{
			Bucket:         name,
			Description:    description,
			MaxValueSize:   MaxValueBytes,
			History:        1,
			MaxBytes:       -1,
			Storage:        jetstream.FileStorage,
			Replicas:       s.Replicas,
			LimitMarkerTTL: markerTTL,
		}
	}
	return []jetstream.KeyValueConfig{
		bucket(BucketWorkloads, "What was asked for: spec, sequences, claim, tombstone"),
		bucket(BucketAllocations, "Where each instance is: node, epoch, phase"),
		bucket(BucketStatus, "Latest observed status"),
		bucket(BucketNodes, "Inventory, heartbeat and ledger of nodes"),
	}
}
