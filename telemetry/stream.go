package telemetry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/subjects"
)

// limits are what a message to the stream may hold, in bytes.
type limits struct {
	// message bounds the encoded lines, piece the part of a line in one entry.
	message, piece int
}

// envelope is what a message has besides its lines: headers, the gap and the cursors of
// all copies.
const envelope = 8 << 10

func (s *Shipper) limitsOf(maxMsgSize int32) limits {
	budget := int64(subjects.MaxMessageBytes)
	if n := s.cfg.JS.Conn().MaxPayload(); n > 0 {
		budget = min(budget, n)
	}
	if maxMsgSize > 0 {
		budget = min(budget, int64(maxMsgSize))
	}
	budget -= min(envelope, budget/2)
	return limits{message: min(int(budget), s.cfg.MaxPendingBytes), piece: pieceSize(int(budget))}
}

// lastMessage reads a subject's last message, nil when there is none, and the limits of
// the stream. It tries until ctx ends, whose cause is then the error.
func (s *Shipper) lastMessage(ctx context.Context, subject string) (*jetstream.RawStreamMsg, limits, error) {
	pause := backoff{first: 100 * time.Millisecond, most: 5 * time.Second}
	for {
		last, lim, err := s.readLast(ctx, subject)
		if err == nil {
			return last, lim, nil
		}
		if pause.firstTime() && ctx.Err() == nil {
			s.cfg.Logger.Warn("log shipping waits for the stream", "subject", subject, "error", err)
		}
		if !pause.wait(ctx) {
			return nil, limits{}, context.Cause(ctx)
		}
	}
}

func (s *Shipper) readLast(ctx context.Context, subject string) (*jetstream.RawStreamMsg, limits, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.PublishTimeout)
	defer cancel()
	stream, err := s.stream(ctx)
	if err != nil {
		return nil, limits{}, err
	}
	lim := s.limitsOf(stream.CachedInfo().Config.MaxMsgSize)
	last, err := stream.GetLastMsgForSubject(ctx, subject)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, lim, nil
	case err != nil:
		return nil, limits{}, fmt.Errorf("read last message of %s: %w", subject, err)
	}
	return last, lim, nil
}

// lastSequence is the stream's last sequence.
func (s *Shipper) lastSequence(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.PublishTimeout)
	defer cancel()
	stream, err := s.stream(ctx)
	if err != nil {
		return 0, err
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("read state of %s: %w", subjects.StreamLogs, err)
	}
	return info.State.LastSeq, nil
}

// stream returns the handle of the stream, which costs a request the first time.
func (s *Shipper) stream(ctx context.Context) (jetstream.Stream, error) {
	s.mu.Lock()
	known := s.handle
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	h, err := s.cfg.JS.Stream(ctx, subjects.StreamLogs)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", subjects.StreamLogs, err)
	}
	s.mu.Lock()
	s.handle = h
	s.mu.Unlock()
	return h, nil
}

// forgetStream makes the next use look the stream up again: its limits may be new.
func (s *Shipper) forgetStream() {
	s.mu.Lock()
	s.handle = nil
	s.mu.Unlock()
}
