package subjects

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrNoResult says that a command has not been settled.
var ErrNoResult = errors.New("no result")

// PublishResult settles a command: it publishes e as the command's one result unless
// there is one already, on whichever node. won says whether the command's result is e;
// the event returned is the result that stands, e or the winner's.
//
// It may be called again with the same e after any error: what a lost reply left open
// is decided then. Errors: ErrSubject, ErrEvent, ErrTooLarge, those of the server.
func PublishResult(ctx context.Context, js jetstream.JetStream, w Workload, commandID string, e event.Event) (won bool, standing event.Event, err error) {
	subject, err := Result(w, commandID)
	if err != nil {
		return false, event.Event{}, err
	}
	msg, err := Encode(subject, e)
	if err != nil {
		return false, event.Event{}, err
	}
	for try := 1; ; try++ {
		_, publishErr := js.PublishMsg(ctx, msg,
			jetstream.WithExpectStream(StreamResults),
			jetstream.WithExpectLastSequenceForSubject(0, ResultFilterOf(w, commandID)))
		if publishErr == nil {
			return true, e, nil
		}
		// The server has more than one way to say that there is a result, depending on
		// where it noticed, and a lost reply says nothing: what is stored decides.
		_, standing, err = FindResultOf(ctx, js, w, commandID)
		if err == nil {
			return standing.ID() == e.ID() && standing.Source() == e.Source(), standing, nil
		}
		if errors.Is(err, ErrNoResult) {
			err = publishErr
			// In a cluster another one's result can be under way: not stored yet, and it
			// may still come to nothing.
			if try < maxSettleTries && isWrongLastSequence(publishErr) && wait(ctx, time.Duration(try)*settlePause) {
				continue
			}
		}
		return false, event.Event{}, fmt.Errorf("publish result of command %s: %w", commandID, err)
	}
}

// The server is asked again after 10, 20, 30 … ms, for about 2 s in all.
const (
	maxSettleTries = 20
	settlePause    = 10 * time.Millisecond
)

// isWrongLastSequence says whether the server refused a message because of the sequence
// it expected. Replicated streams have a second code for it.
func isWrongLastSequence(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) &&
		(api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// wait returns false when ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// FindResultOf reads the result of a command of a workload, whichever node wrote it. It
// asks the stream's leader, so a result whose publication was acknowledged to anyone is
// found. What it costs does not depend on how many results there are. Errors: ErrSubject,
// ErrNoResult, ErrEvent (what is stored is no event; the message is returned then), those
// of the server.
func FindResultOf(ctx context.Context, js jetstream.JetStream, w Workload, commandID string) (*jetstream.RawStreamMsg, event.Event, error) {
	if err := w.Validate(); err != nil {
		return nil, event.Event{}, err
	}
	return findResult(ctx, js, commandID, ResultFilterOf(w, commandID))
}

// FindResult is FindResultOf for who does not know the workload. Its cost grows with the
// number of results (60,000 take the server about a millisecond).
func FindResult(ctx context.Context, js jetstream.JetStream, commandID string) (*jetstream.RawStreamMsg, event.Event, error) {
	return findResult(ctx, js, commandID, ResultFilter(commandID))
}

func findResult(ctx context.Context, js jetstream.JetStream, commandID, filter string) (*jetstream.RawStreamMsg, event.Event, error) {
	if !isCommandID(commandID) {
		return nil, event.Event{}, fmt.Errorf("%w: command %q is not a command token", ErrSubject, commandID)
	}
	msg, err := lastMessage(ctx, js, StreamResults, filter)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, event.Event{}, fmt.Errorf("%w of command %s", ErrNoResult, commandID)
	}
	if err != nil {
		return nil, event.Event{}, fmt.Errorf("find result of command %s: %w", commandID, err)
	}
	e, err := Decode(msg.Header, msg.Data)
	if err != nil {
		return msg, event.Event{}, fmt.Errorf("find result of command %s: %w", commandID, err)
	}
	return msg, e, nil
}

// lastMessage reads the last message of a stream that matches a filter, in one request
// to the stream's leader (JetStream API STREAM.MSG.GET). The client library would ask
// for the stream's state first, and, where direct gets are allowed, any replica after.
// Errors: jetstream.ErrMsgNotFound, other jetstream errors.
func lastMessage(ctx context.Context, js jetstream.JetStream, stream, filter string) (*jetstream.RawStreamMsg, error) {
	request, err := json.Marshal(struct {
		LastFor string `json:"last_by_subj"`
	}{filter})
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	ctx, cancel := withTimeout(ctx, js.Options().DefaultTimeout)
	defer cancel()
	reply, err := js.Conn().RequestWithContext(ctx, apiPrefix(js)+"STREAM.MSG.GET."+stream, request)
	if err != nil {
		if errors.Is(err, nats.ErrNoResponders) {
			return nil, jetstream.ErrJetStreamNotEnabled
		}
		return nil, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return nil, fmt.Errorf("decode answer: %w", err)
	}
	if answer.Error != nil {
		return nil, answer.Error
	}
	if answer.Message == nil {
		return nil, errors.New("the answer holds no message")
	}
	stored := answer.Message
	msg := &jetstream.RawStreamMsg{Subject: stored.Subject, Sequence: stored.Sequence, Data: stored.Data, Time: stored.Time}
	if len(stored.Header) > 0 {
		if msg.Header, err = nats.DecodeHeadersMsg(stored.Header); err != nil {
			return nil, fmt.Errorf("decode headers: %w", err)
		}
	}
	return msg, nil
}

// apiPrefix is where js sends its requests.
func apiPrefix(js jetstream.JetStream) string {
	o := js.Options()
	switch {
	case o.Domain != "":
		return "$JS." + o.Domain + ".API."
	case o.APIPrefix != "":
		return strings.TrimSuffix(o.APIPrefix, ".") + "."
	}
	return jetstream.DefaultAPIPrefix
}

// withTimeout bounds a request whose caller set no deadline.
func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok || d <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}
