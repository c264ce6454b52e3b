package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/subjects"
)

// errReopen: the log must be read again from where the stream is.
var errReopen = errors.New("read the log again")

// send publishes the lane's segments until there are none. A lane has a sender only
// while it has something to send, so an idle workload costs none.
func (l *lane) send(ctx context.Context) {
	defer l.f.senders.Done()
	for {
		seg := l.take(ctx)
		if seg == nil {
			return
		}
		sequence, err := l.publish(ctx, seg)
		switch {
		case err == nil:
			l.settle(seg, sequence)
		case errors.Is(err, errReopen):
			l.abandon()
			l.f.reopen(false)
			return
		default: // ctx has ended; what is left is counted by Close.
			return
		}
	}
}

// take waits until the first segment is worth a message and seals it. nil means that
// the sender ends.
func (l *lane) take(ctx context.Context) *segment {
	for {
		l.mu.Lock()
		if len(l.queue) == 0 {
			l.sending = false
			l.mu.Unlock()
			return nil
		}
		head := l.queue[0]
		wait := l.patience(head)
		if wait <= 0 {
			head.sealed = true
			l.mu.Unlock()
			return head
		}
		l.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-l.wake:
		case <-l.f.s.closing:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// patience is how much longer the first segment may wait for more lines.
func (l *lane) patience(head *segment) time.Duration {
	cfg := l.f.s.cfg
	if len(l.queue) > 1 || l.pending >= cfg.MaxBatchBytes || l.f.s.isClosing() {
		return 0
	}
	delay := cfg.MaxDelay
	if len(head.entries) == 0 {
		delay = gapDelay
	}
	return delay - time.Since(head.created)
}

// publish stores the segment and returns its sequence. It tries until it succeeds, ctx
// ends or the stream turns out to be elsewhere (errReopen).
func (l *lane) publish(ctx context.Context, seg *segment) (uint64, error) {
	msg, err := l.message(seg)
	if err != nil {
		l.f.s.cfg.Logger.Error("log lines cannot be encoded", "workload", l.f.w.String(), "error", err)
		return 0, errReopen
	}
	pause := backoff{first: 50 * time.Millisecond, most: 2 * time.Second}
	for {
		ack, err := l.attempt(ctx, msg)
		if err == nil && !ack.Duplicate {
			return ack.Sequence, nil
		}
		var refused *jetstream.APIError
		if err == nil || errors.As(err, &refused) && isWrongSequence(refused.ErrorCode) {
			var sequence uint64
			sequence, err = l.resolve(ctx, msg.Header.Get(jetstream.MsgIDHeader))
			if err == nil && sequence > 0 || errors.Is(err, errReopen) {
				return sequence, err
			}
		}
		if errors.Is(err, nats.ErrMaxPayload) || refused != nil && refused.ErrorCode == errCodeMessageSize {
			// The limits have changed: read again and cut smaller.
			return 0, errReopen
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if err != nil && pause.firstTime() {
			l.f.s.cfg.Logger.Warn("log lines wait for the stream", "workload", l.f.w.String(), "instance", l.ordinal, "error", err)
		}
		l.f.s.cfg.Metrics.logRetried(l.f.w.Backend)
		if !pause.wait(ctx) {
			return 0, ctx.Err()
		}
	}
}

func (l *lane) attempt(ctx context.Context, msg *nats.Msg) (*jetstream.PubAck, error) {
	js := l.f.s.cfg.JS
	if !js.Conn().IsConnected() {
		// The client would keep a copy of every attempt in its reconnect buffer, which the
		// commands' events need.
		return nil, nats.ErrDisconnected
	}
	ctx, cancel := context.WithTimeout(ctx, l.f.s.cfg.PublishTimeout)
	defer cancel()
	return js.PublishMsg(ctx, msg, jetstream.WithExpectLastSequencePerSubject(l.lastSeq), jetstream.WithRetryAttempts(0))
}

// The server's error codes (nats-server, server/errors.json).
const (
	errCodeMessageSize           jetstream.ErrorCode = 10054
	errCodeWrongSequence         jetstream.ErrorCode = 10071
	errCodeWrongSequenceConstant jetstream.ErrorCode = 10164
)

func isWrongSequence(c jetstream.ErrorCode) bool {
	return c == errCodeWrongSequence || c == errCodeWrongSequenceConstant
}

// resolve finds out why the subject's last message is not the one expected. It returns
// the sequence of the message with that ID when it was stored after all, 0 when it is
// worth another try, or errReopen.
func (l *lane) resolve(ctx context.Context, id string) (uint64, error) {
	last, _, err := l.f.s.readLast(ctx, l.subject)
	if err != nil {
		return 0, err
	}
	if last != nil && last.Header.Get(jetstream.MsgIDHeader) == id {
		return last.Sequence, nil
	}
	expected, lost, err := l.compare(ctx, last, l.lastSeq)
	if err != nil {
		return 0, err
	}
	if lost {
		return 0, errReopen
	}
	l.mu.Lock()
	l.lastSeq = expected
	l.mu.Unlock()
	return 0, nil
}

// compare judges the subject's last message against the sequence it should have: lost
// says that the stream does not hold what the lane thinks it holds, or more; else
// expected is the sequence to build on.
func (l *lane) compare(ctx context.Context, last *jetstream.RawStreamMsg, ours uint64) (expected uint64, lost bool, err error) {
	if last != nil {
		return last.Sequence, last.Sequence != ours, nil
	}
	if ours == 0 {
		return 0, false, nil
	}
	// Either the retention of the stream or an operator has removed our message, or the
	// server lost its latest ones. In the latter case its sequences start again below.
	end, err := l.f.s.lastSequence(ctx)
	if err != nil {
		return 0, false, err
	}
	return 0, end < ours, nil
}

// settle takes note that a segment is stored.
func (l *lane) settle(seg *segment, sequence uint64) {
	l.mu.Lock()
	l.lastSeq = sequence
	l.queue[0] = nil
	l.queue = l.queue[1:]
	l.pending -= seg.size
	for i, end := range seg.ends {
		if !end.zero() {
			seg.copy.stored[i] = end
		}
	}
	l.mu.Unlock()
	l.f.s.buffers.put(seg.entries)
	signal(l.room)
	l.f.stored.Store(true)
	m := l.f.s.cfg.Metrics
	if seg.gap != nil {
		m.LogGap(l.f.w.Backend, seg.gap.Reason, seg.gap.Lines)
	}
	m.LogsShipped(l.f.w.Backend, seg.lines, seg.bytes)
}

// abandon drops what is queued; it will be read again.
func (l *lane) abandon() {
	l.mu.Lock()
	l.queue, l.pending = nil, 0
	l.sending, l.lost = false, true
	l.mu.Unlock()
	signal(l.room)
}

// verify asks the stream, when the lane is idle, whether it still holds the last
// message. A lane that sends finds out by itself.
func (l *lane) verify(ctx context.Context) error {
	l.mu.Lock()
	skip, sequence := !l.loaded || l.lost || l.sending || l.lastSeq == 0, l.lastSeq
	l.mu.Unlock()
	if skip {
		return nil
	}
	last, _, err := l.f.s.readLast(ctx, l.subject)
	if err != nil {
		return err
	}
	_, lost, err := l.compare(ctx, last, sequence)
	if err != nil {
		return err
	}
	l.mu.Lock()
	lost = lost && !l.sending && l.lastSeq == sequence
	if lost {
		l.lost = true
	}
	l.mu.Unlock()
	if lost {
		l.f.reopen(true)
	}
	return nil
}

// unsent counts the lines that are read and not stored.
func (l *lane) unsent() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int64
	for _, seg := range l.queue {
		n += seg.lines
	}
	return n
}

// message encodes a segment.
func (l *lane) message(seg *segment) (*nats.Msg, error) {
	l.mu.Lock()
	cursors := encodeCursors(l.copies, seg.copy, seg.ends)
	l.mu.Unlock()
	head, err := json.Marshal(subjects.LogData{Instance: l.ordinal, InstanceID: seg.copy.id, Gap: seg.gap, Cursors: cursors})
	if err != nil {
		return nil, fmt.Errorf("encode log batch: %w", err)
	}
	data := head
	if len(seg.entries) > 0 {
		data = make([]byte, 0, len(head)+len(seg.entries)+len(`,"lines":[]`))
		data = append(data, head[:len(head)-1]...)
		data = append(data, `,"lines":[`...)
		data = append(data, seg.entries...)
		data = append(data, "]}"...)
	}
	e, err := subjects.NewEvent(l.f.w.Source(), subjects.TypeLog, l.f.w.ID(), nil, nil)
	if err != nil {
		return nil, err
	}
	// Not through NewEvent, which checks that it is JSON: at the rate of logs that would
	// take longer than writing it.
	e.DataEncoded = data
	e.SetDataContentType("application/json")
	e.SetID(seg.id(l.f.w.ID(), l.ordinal))
	return subjects.Encode(l.subject, e)
}

// id is the same for the same lines of the same copy, and for nothing else.
func (s *segment) id(workload string, ordinal int) string {
	b := append([]byte(workload), '/')
	b = append(append(b, s.copy.id...), '.')
	b = strconv.AppendInt(b, int64(ordinal), 10)
	places := append([]cursor{s.first}, s.ends[:]...)
	for _, c := range places {
		b = append(b, '.')
		if !c.zero() {
			b = strconv.AppendInt(b, c.at.UnixNano(), 36)
		}
		b = append(b, '-')
		b = strconv.AppendInt(b, int64(c.same), 36)
	}
	return string(b)
}

// backoff is a doubling pause with jitter.
type backoff struct {
	first, most, next time.Duration
}

func (b *backoff) firstTime() bool { return b.next == 0 }

func (b *backoff) reset() { b.next = 0 }

// step returns the next pause, within a quarter of its nominal length.
func (b *backoff) step() time.Duration {
	b.next = min(max(2*b.next, b.first), b.most)
	return b.next - b.next/8 + rand.N(b.next/4+1)
}

// wait pauses and says whether ctx is still alive.
func (b *backoff) wait(ctx context.Context) bool {
	t := time.NewTimer(b.step())
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
