package workers

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

const (
	// maxStatusBytes bounds a status wherever it is sent: a bucket's value, an event, a
	// result and a dead letter have to hold it beside what else they say.
	maxStatusBytes = subjects.MaxValueBytes / 2
	// maxTextBytes bounds a message for people.
	maxTextBytes = 16 << 10
)

// fitStatus encodes a status so that it can always be sent. A workload of very many
// instances loses first what their health checks printed, then the last instances,
// which the status says.
func fitStatus(status *drivers.WorkloadStatus) json.RawMessage {
	b := encode(status)
	if len(b) <= maxStatusBytes {
		return b
	}
	s := *status
	s.Instances = append([]drivers.InstanceStatus(nil), status.Instances...)
	for i := range s.Instances {
		s.Instances[i].HealthOutput = ""
		s.Instances[i].Message = truncate(s.Instances[i].Message, 200)
	}
	all := len(s.Instances)
	for b = encode(s); len(b) > maxStatusBytes && len(s.Instances) > 0; b = encode(s) {
		s.Instances = s.Instances[:len(s.Instances)/2]
		s.Message = fmt.Sprintf("%s (%d of %d instances shown)", truncate(status.Message, maxTextBytes), len(s.Instances), all)
	}
	return b
}

// fitEvidence encodes what a failed rollout left, so that it can always be sent.
func fitEvidence(e *drivers.RolloutError) json.RawMessage {
	c := *e
	c.Message = truncate(c.Message, maxTextBytes)
	c.RollbackError = truncate(c.RollbackError, maxTextBytes)
	c.HealthOutput = truncate(c.HealthOutput, maxTextBytes)
	c.LastLogs = append([]string(nil), e.LastLogs...)
	for i := range c.LastLogs {
		c.LastLogs[i] = truncate(c.LastLogs[i], maxTextBytes/4)
	}
	return encode(c)
}

// isPermanent says that publishing the same message again would fail the same way.
func isPermanent(err error) bool {
	if errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, subjects.ErrEvent) || errors.Is(err, subjects.ErrSubject) {
		return true
	}
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == errCodeTooLarge
}

// refusedFor is how long something is offered to a bus that answers and refuses it.
const refusedFor = time.Minute

// isRefused says that the bus answered, and will not take this now: a stream is missing
// or full. A bus that is away does not answer.
func isRefused(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) || errors.Is(err, jetstream.ErrNoStreamResponse)
}

// errCodeTooLarge is JSStreamMessageExceedsMaximumErr of nats-server's errors.json.
const errCodeTooLarge = 10054
