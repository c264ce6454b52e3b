package subjects

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/nats-io/nuid"
)

// ErrEvent is matched by every error about a message that is no acceptable CloudEvent.
// Trying again does not help.
var ErrEvent = errors.New("invalid CloudEvent")

// NewEvent makes an event of this moment with an id of its own. subject is a workload
// ID, empty for none. data is marshalled to JSON; json.RawMessage and []byte are taken as
// JSON already; nil is no data. Extensions with an empty value are left out. Errors:
// ErrEvent.
func NewEvent(source, typ, subject string, data any, ext map[string]string) (event.Event, error) {
	e := event.New(event.CloudEventsVersionV1)
	e.SetID(nuid.Next())
	e.SetSource(source)
	e.SetType(typ)
	e.SetSubject(subject)
	e.SetTime(time.Now().UTC())
	for name, value := range ext {
		if value != "" {
			e.SetExtension(name, value)
		}
	}
	if data != nil {
		raw, err := rawJSON(data)
		if err != nil {
			return event.Event{}, fmt.Errorf("%w: encode data of %s: %w", ErrEvent, typ, err)
		}
		e.DataEncoded = raw
		e.SetDataContentType(event.ApplicationJSON)
	}
	if err := e.Validate(); err != nil {
		return event.Event{}, fmt.Errorf("%w: %w", ErrEvent, err)
	}
	return e, nil
}

func rawJSON(data any) ([]byte, error) {
	var raw []byte
	switch d := data.(type) {
	case json.RawMessage:
		raw = d
	case []byte:
		raw = d
	default:
		return json.Marshal(data)
	}
	if !json.Valid(raw) {
		return nil, errors.New("the data is not JSON")
	}
	return raw, nil
}

// Extension returns an extension attribute as text (CloudEvents 1.0, "type system"), ""
// when it is absent.
func Extension(e event.Event, name string) string {
	v, ok := e.Extensions()[name]
	if !ok || v == nil {
		return ""
	}
	s, err := types.Format(v)
	if err != nil {
		return ""
	}
	return s
}

// CommandIDOf is the CommandID of a command event.
func CommandIDOf(e event.Event) string { return CommandID(e.Source(), e.ID()) }

// PadSequence writes a sequence for ExtSequence: 20 digits, so that it sorts as text.
func PadSequence(n uint64) string { return fmt.Sprintf("%020d", n) }

// ParseSequence reads what PadSequence wrote; digits alone are enough. Errors: ErrEvent.
func ParseSequence(s string) (uint64, error) {
	if s == "" || len(s) > 20 {
		return 0, fmt.Errorf("%w: %s %q is not a number of at most 20 digits", ErrEvent, ExtSequence, s)
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%w: %s %q is not a number", ErrEvent, ExtSequence, s)
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %s %q is too large", ErrEvent, ExtSequence, s)
	}
	return n, nil
}
