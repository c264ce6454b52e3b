package workers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// record is what is intended for a workload and who works on it: the value of its key
// in KRANIX_WORKLOADS. It is written by compare-and-set only.
type record struct {
	// SpecSeq is the highest deploy or destroy taken up, Verb which of the two.
	SpecSeq uint64        `json:"specSeq"`
	Verb    subjects.Verb `json:"verb,omitempty"`
	// OpSeq is the highest restart carried out.
	OpSeq uint64 `json:"opSeq,omitempty"`
	// Spec is the deploy's, nil after a destroy.
	Spec json.RawMessage `json:"spec,omitempty"`
	// Owner is the node whose engine holds the workload; empty when none does.
	Owner string `json:"owner,omitempty"`

	// SettledSeq is the highest deploy or destroy that has its result, Outcome how it
	// ended.
	SettledSeq uint64           `json:"settledSeq,omitempty"`
	Outcome    subjects.Outcome `json:"outcome,omitempty"`
	// GoodSeq and GoodRevision are of the last deploy that was done: what a rollback
	// puts back.
	GoodSeq      uint64 `json:"goodSeq,omitempty"`
	GoodRevision string `json:"goodRevision,omitempty"`
	// Destroyed makes the record a tombstone: it only keeps older commands from coming
	// back.
	Destroyed bool `json:"destroyed,omitempty"`
	// ExpiresAt is when the workload's TTL ends, zero for never.
	ExpiresAt time.Time `json:"expiresAt,omitzero"`

	// Claim is who works on the workload now; nil when nobody does.
	Claim *claimData `json:"claim,omitempty"`
	// Epoch counts claims.
	Epoch uint64 `json:"epoch,omitempty"`
	// Touch makes each renewal a new revision with a new value.
	Touch uint64 `json:"touch,omitempty"`

	// Attempts are the engine failures of the command AttemptsOf.
	AttemptsOf uint64                 `json:"attemptsOf,omitempty"`
	Attempts   []subjects.AttemptData `json:"attempts,omitempty"`
	// Baseline is what the instances were when the restart BaselineOf was taken up.
	BaselineOf uint64                 `json:"baselineOf,omitempty"`
	Baseline   []drivers.InstanceMark `json:"baseline,omitempty"`
}

// claimData is a lease without timestamps: its age is what an observer measures on its
// own monotonic clock.
type claimData struct {
	// Holder is "<node>/<process>".
	Holder string `json:"holder"`
	// Node is the holder's node.
	Node  string `json:"node"`
	Epoch uint64 `json:"epoch"`
	// Duration is how long the claim stands without a new revision.
	Duration drivers.Duration `json:"duration"`
	// Sequence and CommandID are the command's.
	Sequence  uint64 `json:"sequence"`
	CommandID string `json:"commandId"`
}

// attemptsFor returns the failures of the command seq.
func (r *record) attemptsFor(seq uint64) []subjects.AttemptData {
	if r.AttemptsOf != seq {
		return nil
	}
	return r.Attempts
}

// lacks says that the command's result has not been written into the record: whoever
// published it did not live to do that, and has no successor yet.
func (r *record) lacks(cmd *command) bool {
	if r.Claim != nil {
		return r.Claim.Sequence == cmd.seq
	}
	return cmd.verb != subjects.Restart && r.SpecSeq == cmd.seq && r.SettledSeq < cmd.seq
}

// errUnreadable: the record is not one. Somebody wrote into the bucket by hand.
var errUnreadable = errors.New("the workload's record cannot be read")

// errConflict: somebody else wrote the record first.
var errConflict = errors.New("record changed")

// recordStore keeps records; revision 0 means there is none.
type recordStore interface {
	get(ctx context.Context, w subjects.Workload) (record, uint64, error)
	// put writes rec where the revision still is rev, and returns the new one.
	// errConflict when it is not; any other error leaves open whether it was written.
	put(ctx context.Context, w subjects.Workload, rec record, rev uint64) (uint64, error)
	// each calls fn for every record; err is errUnreadable where rec is none.
	each(ctx context.Context, fn func(key string, rec record, err error)) error
}

// requestTimeout bounds one request to the bus. Whoever makes one repeats it; a request
// whose answer was lost with the connection must not wait as long as the command may
// take, which is what the caller's own deadline allows.
const requestTimeout = 3 * time.Second

// kvRecords is a recordStore in KRANIX_WORKLOADS.
type kvRecords struct{ kv jetstream.KeyValue }

func (s kvRecords) get(ctx context.Context, w subjects.Workload) (record, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	entry, err := s.kv.Get(ctx, w.Identity().Key())
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return record{}, 0, nil
	}
	if err != nil {
		return record{}, 0, fmt.Errorf("read record of %s: %w", w, err)
	}
	var rec record
	if err := json.Unmarshal(entry.Value(), &rec); err != nil {
		return record{}, 0, fmt.Errorf("%w (key %s of bucket %s, restore or delete it): %w", errUnreadable, entry.Key(), entry.Bucket(), err)
	}
	return rec, entry.Revision(), nil
}

func (s kvRecords) put(ctx context.Context, w subjects.Workload, rec record, rev uint64) (uint64, error) {
	value, err := encodeRecord(rec)
	if err != nil {
		return 0, fmt.Errorf("encode record of %s: %w", w, err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	key := w.Identity().Key()
	var next uint64
	if rev == 0 {
		next, err = s.kv.Create(ctx, key, value)
	} else {
		next, err = s.kv.Update(ctx, key, value, rev)
	}
	if isWrongLastSequence(err) {
		return 0, errConflict
	}
	if err != nil {
		return 0, fmt.Errorf("write record of %s: %w", w, err)
	}
	return next, nil
}

func (s kvRecords) each(ctx context.Context, fn func(key string, rec record, err error)) error {
	watcher, err := s.kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("read records: %w", err)
	}
	defer watcher.Stop() //nolint:errcheck // the subscription ends with the connection at the latest
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("read records: %w", ctx.Err())
		case entry, ok := <-watcher.Updates():
			if !ok || entry == nil {
				return nil // nil marks the end of what there was
			}
			var rec record
			if err := json.Unmarshal(entry.Value(), &rec); err != nil {
				fn(entry.Key(), record{}, fmt.Errorf("%w: %w", errUnreadable, err))
				continue
			}
			fn(entry.Key(), rec, nil)
		}
	}
}

// encodeRecord does not escape what is special in HTML, which would make six bytes of
// one, and leaves out the spec rather than fail: a record that could not be written
// would hold its workload for ever.
func encodeRecord(rec record) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(rec); err != nil {
		return nil, err
	}
	if b.Len() > subjects.MaxValueBytes && rec.Spec != nil {
		rec.Spec = nil
		return encodeRecord(rec)
	}
	return b.Bytes(), nil
}

// isWrongLastSequence says whether a compare-and-set lost. A clustered stream says so in
// other words while a write is in flight.
func isWrongLastSequence(err error) bool {
	if errors.Is(err, jetstream.ErrKeyExists) {
		return true
	}
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}
