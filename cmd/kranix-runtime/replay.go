package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// replay reads a stream in order: first what is stored, then, if asked, what comes.
type replay struct {
	messages jetstream.MessagesContext
	// stored is how many of the stored messages have not been read yet.
	stored uint64
}

// storedTimeout bounds the wait for a message that is stored.
const storedTimeout = 15 * time.Second

// openReplay starts to read. The caller closes it.
func (b *bus) openReplay(ctx context.Context, stream string, cfg jetstream.OrderedConsumerConfig) (*replay, error) {
	consumer, err := b.js.OrderedConsumer(ctx, stream, cfg)
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", stream, explain(err))
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(500))
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", stream, explain(err))
	}
	return &replay{messages: messages, stored: consumer.CachedInfo().NumPending}, nil
}

func (r *replay) close() { r.messages.Stop() }

// next returns the next message, waiting for it; nil, without waiting, at the end of
// what was stored when follow is false.
func (r *replay) next(ctx context.Context, follow bool) (jetstream.Msg, error) {
	if r.stored == 0 && !follow {
		return nil, nil
	}
	waiting := ctx
	if !follow {
		// What is stored is there: a server that does not send it is not well.
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, storedTimeout)
		defer cancel()
	}
	msg, err := r.messages.Next(jetstream.NextContext(waiting))
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("read stream: %w", explain(err))
	}
	if r.stored > 0 {
		meta, err := msg.Metadata()
		if err != nil {
			return nil, fmt.Errorf("read stream: %w", err)
		}
		// Messages may have been dropped by age meanwhile: the server's count is the
		// better one.
		r.stored = min(r.stored-1, meta.NumPending)
	}
	return msg, nil
}
