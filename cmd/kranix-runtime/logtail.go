package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/subjects"
)

// The end of a log is read from the end: a stream of gigabytes must not be read through
// for its last ten lines. JetStream cannot read backwards, but it counts what a
// consumer that starts at a given sequence would get, so the place is found by
// bisection.

// tail shows the last lines of every subject that matches, in order of time, and
// returns the stream's last sequence before it began.
func (p *logPrinter) tail(ctx context.Context, b *bus, filter string) (last uint64, err error) {
	stream, err := b.js.Stream(ctx, subjects.StreamLogs)
	if err != nil {
		return 0, fmt.Errorf("read logs: %w", explain(err))
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return 0, fmt.Errorf("read logs: %w", explain(err))
	}
	if p.query.tail > 0 {
		for _, subject := range slices.Sorted(maps.Keys(info.State.Subjects)) {
			t := tailReader{b: b, stream: stream, subject: subject, first: info.State.FirstSeq, last: info.State.LastSeq}
			lines, err := t.read(ctx, p)
			if err != nil {
				return 0, err
			}
			p.kept = append(p.kept, lines...)
		}
	}
	slices.SortStableFunc(p.kept, func(a, b logLine) int { return a.when().Compare(b.when()) })
	lines := p.kept
	p.kept = nil
	return info.State.LastSeq, p.print(lines)
}

// tailReader reads the end of one subject.
type tailReader struct {
	b           *bus
	stream      jetstream.Stream
	subject     string
	first, last uint64
}

// read returns the last lines. A message holds at least one line, but it need not be
// one that is wanted: then more messages are read.
func (t tailReader) read(ctx context.Context, p *logPrinter) ([]logLine, error) {
	for messages := uint64(p.query.tail); ; messages *= 8 {
		start, all, err := t.place(ctx, messages)
		if err != nil {
			return nil, err
		}
		lines, err := t.from(ctx, p, start)
		if err != nil {
			return nil, err
		}
		if over := len(lines) - p.query.tail; over >= 0 {
			return lines[over:], nil
		}
		if all {
			return lines, nil
		}
	}
}

// place finds the sequence from which at most n messages of the subject follow, or a
// few more; all says that these are all there are.
func (t tailReader) place(ctx context.Context, n uint64) (start uint64, all bool, err error) {
	low, high := t.first, t.last+1
	total, err := t.pending(ctx, low)
	if err != nil || total <= n {
		return low, true, err
	}
	// Invariant: more than n follow low, at most n follow high.
	for high-low > 1 {
		middle := low + (high-low)/2
		count, err := t.pending(ctx, middle)
		if err != nil {
			return 0, false, err
		}
		if count > n {
			low = middle
		} else {
			high = middle
		}
		if count == n {
			break
		}
	}
	return high, false, nil
}

// pending counts the messages of the subject from a sequence on.
func (t tailReader) pending(ctx context.Context, from uint64) (uint64, error) {
	c, err := t.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		FilterSubject: t.subject, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(from, 1),
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, InactiveThreshold: 5 * time.Second, Replicas: 1,
	})
	if err != nil {
		return 0, fmt.Errorf("read logs: %w", explain(err))
	}
	info := c.CachedInfo()
	if err := t.stream.DeleteConsumer(ctx, info.Name); err != nil {
		return 0, fmt.Errorf("read logs: %w", explain(err))
	}
	return info.NumPending, nil
}

// from reads the wanted lines from a sequence on.
func (t tailReader) from(ctx context.Context, p *logPrinter, start uint64) ([]logLine, error) {
	r, err := t.b.openReplay(ctx, subjects.StreamLogs, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{t.subject}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(start, 1),
	})
	if err != nil {
		return nil, err
	}
	defer r.close()
	var lines []logLine
	for {
		msg, err := r.next(ctx, false)
		if err != nil {
			return nil, err
		}
		if msg == nil {
			return lines, nil
		}
		meta, err := msg.Metadata()
		if err != nil {
			return nil, fmt.Errorf("read logs: %w", err)
		}
		if meta.Sequence.Stream > t.last {
			return lines, nil // the follower's
		}
		batch, err := p.lines(msg)
		if err != nil {
			return nil, err
		}
		lines = append(lines, batch...)
	}
}
