package workers

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// maxLetterBytes bounds each part of a dead letter that can be large: a letter must
// fit a message whatever the command was.
const maxLetterBytes = 128 << 10

// needsDeadLetter: given up after trying, or not to be understood. A command that was
// refused with named fields went back to its author, who needs no second copy.
func (e ending) needsDeadLetter() bool {
	if e.outcome == subjects.Failed || e.outcome == subjects.Expired {
		return true
	}
	var refused *refusal
	return errors.As(e.err, &refused) && refused.unreadable
}

// deadLetter makes the evidence.
func (e ending) deadLetter(cmd *command) subjects.DeadLetterData {
	data := subjects.DeadLetterData{
		Subject: cmd.subject, Sequence: cmd.seq, CommandID: cmd.id, Reason: e.reason, Attempts: e.attempts,
	}
	if e.err != nil {
		data.Message = truncate(e.err.Error(), maxTextBytes)
	}
	var rollout *drivers.RolloutError
	if errors.As(e.err, &rollout) {
		data.Evidence = fitEvidence(rollout)
	}
	if e.status != nil {
		data.Status = fitStatus(e.status)
	}
	if cmd.raw != nil {
		raw := cmd.raw.data
		if len(raw) > maxLetterBytes {
			raw, data.Truncated = raw[:maxLetterBytes], true
		}
		data.Raw, data.Headers = raw, cmd.raw.headers()
	} else if b := encode(cmd.event); len(b) <= 2*maxLetterBytes {
		data.Command = b
	} else {
		// The stream still has the whole: the letter names its sequence.
		data.Truncated = true
	}
	return data
}

// publishDeadLetter publishes the evidence. It is idempotent for one command within the
// stream's dedupe window.
func (w *Worker) publishDeadLetter(ctx context.Context, cmd *command, e ending) error {
	on := cmd.w.On(w.cfg.Node)
	subject, err := subjects.DeadLetter(on)
	if err != nil {
		return fmt.Errorf("address dead letter: %w", err)
	}
	msg, err := message(subject, on, subjects.TypeDeadLetter, e.deadLetter(cmd), cmd)
	if err != nil {
		return err
	}
	msg.Header.Set(jetstream.MsgIDHeader, "dlq|"+cmd.id)
	if _, err := w.cfg.JS.PublishMsg(ctx, msg); err != nil {
		return fmt.Errorf("publish dead letter: %w", err)
	}
	w.cfg.Counters.DeadLettered(cmd.w.Backend)
	return nil
}

// truncate cuts s to at most n bytes at the start of a character.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
