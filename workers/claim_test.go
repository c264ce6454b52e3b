package workers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// memoryRecords is a recordStore of one workload with faults to inject.
type memoryRecords struct {
	mu  sync.Mutex
	rec record
	rev uint64
	// loseReply makes that many puts succeed and report a failure.
	loseReply int
	puts      int
}

var errNoReply = errors.New("no reply")

func (m *memoryRecords) get(context.Context, subjects.Workload) (record, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rec, m.rev, nil
}

func (m *memoryRecords) put(_ context.Context, _ subjects.Workload, rec record, rev uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if rev != m.rev {
		return 0, errConflict
	}
	m.rec, m.rev = rec, m.rev+1
	m.puts++
	if m.loseReply > 0 {
		m.loseReply--
		return 0, errNoReply
	}
	return m.rev, nil
}

func (m *memoryRecords) each(context.Context, func(string, record, error)) error { return nil }

func (m *memoryRecords) claims(holder string, lease time.Duration) *claims {
	return &claims{store: m, holder: holder + "/1", node: holder, lease: lease, deadHolder: func(string, *claimData) bool { return false }}
}

var cart = subjects.Workload{Backend: "sim", Node: "n", Namespace: "shop", Name: "cart"}

// wanting is a request that takes any record.
func wanting(seq uint64, verb subjects.Verb) request {
	return request{
		w: cart, id: fmt.Sprint(seq), seq: seq, verb: verb,
		prepare: func(*record) error { return nil },
		idle:    func(ctx context.Context, wait *pause) error { return wait.sleep(ctx) },
	}
}

func TestClaimIsExclusive(t *testing.T) {
	m := &memoryRecords{}
	a, b := m.claims("a", time.Minute), m.claims("b", time.Minute)
	held, err := a.acquire(t.Context(), wanting(1, subjects.Deploy))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := b.acquire(ctx, wanting(2, subjects.Restart)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("restart took a claim that is held: %v", err)
	}
	if err := held.fence(t.Context()); err != nil {
		t.Fatalf("a waiting restart disturbed the holder: %v", err)
	}
}

func TestNewerDeployMakesHolderGiveWay(t *testing.T) {
	m := &memoryRecords{}
	a, b := m.claims("a", time.Minute), m.claims("b", time.Minute)
	held, err := a.acquire(t.Context(), wanting(1, subjects.Deploy))
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan *claim, 1)
	go func() {
		c, err := b.acquire(t.Context(), wanting(2, subjects.Deploy))
		if err != nil {
			t.Error(err)
		}
		got <- c
	}()
	var by *supersededError
	for deadline := time.Now().Add(5 * time.Second); ; {
		if err := held.fence(t.Context()); errors.As(err, &by) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("the holder never learnt of the newer deploy")
		}
	}
	if by.by != 2 {
		t.Errorf("superseded by %d, want 2", by.by)
	}
	if err := held.release(t.Context(), func(*record) {}); err != nil {
		t.Fatal(err)
	}
	c := <-got
	if rec := c.record(); rec.SpecSeq != 2 || rec.Claim.Sequence != 2 {
		t.Errorf("record after the hand-over: %+v", rec)
	}
	if err := held.fence(t.Context()); !errors.Is(err, drivers.ErrStale) {
		t.Errorf("the old holder still passes the fence: %v", err)
	}
}

func TestOlderCommandsAreSuperseded(t *testing.T) {
	cases := []struct {
		name string
		rec  record
		seq  uint64
		verb subjects.Verb
		by   uint64
	}{
		{"deploy before a deploy", record{SpecSeq: 9}, 8, subjects.Deploy, 9},
		{"restart before a destroy", record{SpecSeq: 9}, 8, subjects.Restart, 9},
		{"restart before a restart", record{SpecSeq: 3, OpSeq: 9}, 8, subjects.Restart, 9},
		{"deploy before a restart only", record{SpecSeq: 3, OpSeq: 9}, 8, subjects.Deploy, 0},
		{"the same deploy again", record{SpecSeq: 8}, 8, subjects.Deploy, 0},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			m := &memoryRecords{rec: tc.rec, rev: 1}
			_, err := m.claims("a", time.Minute).acquire(t.Context(), wanting(tc.seq, tc.verb))
			var by *supersededError
			switch {
			case tc.by == 0 && err != nil:
				t.Errorf("refused: %v", err)
			case tc.by != 0 && (!errors.As(err, &by) || by.by != tc.by):
				t.Errorf("got %v, want superseded by %d", err, tc.by)
			}
		})
	}
}

func TestLeaseIsStolenOnlyWhenUnchanged(t *testing.T) {
	const lease = 150 * time.Millisecond
	m := &memoryRecords{}
	a, b := m.claims("a", lease), m.claims("b", lease)
	held, err := a.acquire(t.Context(), wanting(1, subjects.Deploy))
	if err != nil {
		t.Fatal(err)
	}
	keeping, stop := context.WithCancel(t.Context())
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		held.keep(keeping, func(err error) { t.Errorf("a live claim was lost: %v", err) })
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 4*lease)
	defer cancel()
	if _, err := b.acquire(ctx, wanting(2, subjects.Restart)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a renewed lease was stolen: %v", err)
	}
	stop()
	<-kept
	c, err := b.acquire(t.Context(), wanting(2, subjects.Restart))
	if err != nil {
		t.Fatal(err)
	}
	if c.epoch <= held.epoch {
		t.Errorf("epoch %d does not follow %d", c.epoch, held.epoch)
	}
	if err := held.fence(t.Context()); !errors.Is(err, errClaimLost) {
		t.Errorf("the dead holder passes the fence: %v", err)
	}
	if err := held.release(t.Context(), func(r *record) { r.Owner = "a" }); !errors.Is(err, errClaimLost) {
		t.Errorf("the dead holder releases what is not its own: %v", err)
	}
	if m.rec.Owner == "a" {
		t.Error("the dead holder wrote the record")
	}
}

func TestLostReplyIsNoLostClaim(t *testing.T) {
	m := &memoryRecords{loseReply: 1}
	c, err := m.claims("a", time.Minute).acquire(t.Context(), wanting(1, subjects.Deploy))
	if err != nil {
		t.Fatal(err)
	}
	m.loseReply = 1
	if err := c.update(t.Context(), func(r *record) { r.Owner = "n" }); err != nil {
		t.Fatalf("a write that took effect without a reply ended the claim: %v", err)
	}
	if m.rec.Owner != "n" {
		t.Error("the change was not written")
	}
}

func TestDeadHolderOfOwnNodeIsReplacedAtOnce(t *testing.T) {
	m := &memoryRecords{}
	if _, err := m.claims("a", time.Hour).acquire(t.Context(), wanting(1, subjects.Deploy)); err != nil {
		t.Fatal(err)
	}
	next := m.claims("a", time.Hour)
	next.holder = "a/2"
	next.deadHolder = func(_ string, c *claimData) bool { return c.Node == "a" }
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := next.acquire(ctx, wanting(1, subjects.Deploy)); err != nil {
		t.Fatalf("the restarted worker waits for its own dead process: %v", err)
	}
}
