package subjects

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
)

// ErrTooLarge is matched, besides ErrEvent, by the error about a message that is over
// the limit of its stream.
var ErrTooLarge = errors.New("message too large")

// Encode makes the message of an event in binary mode: attributes as "ce-" headers,
// values percent-encoded, the data as the payload (CloudEvents NATS protocol binding,
// section 3.1). It sets Nats-Msg-Id, so that JetStream drops a repetition within its
// window. The payload is the event's data, not a copy. Errors: ErrEvent, ErrTooLarge.
func Encode(subject string, e event.Event) (*nats.Msg, error) {
	if err := checkEvent(e); err != nil {
		return nil, err
	}
	w := newWriter(subject, maxAttributes+len(extensions(e)))
	ctx := context.Background()
	if err := w.Start(ctx); err != nil {
		return nil, err
	}
	if err := binding.ToMessage(&e).ReadBinary(ctx, w); err != nil {
		return nil, invalid("encode in binary mode", err)
	}
	if err := w.End(ctx); err != nil {
		return nil, err
	}
	// The headers hold both values encoded already.
	h := w.msg.Header
	return w.finish(h[attributeHeaders[spec.Source]][0], h[attributeHeaders[spec.ID]][0])
}

// EncodeStructured makes the message of an event in structured mode: the whole event as
// JSON (section 3.2). Data that is not what its content type says, or not text, goes
// into data_base64. Errors: ErrEvent, ErrTooLarge.
func EncodeStructured(subject string, e event.Event) (*nats.Msg, error) {
	if err := checkEvent(e); err != nil {
		return nil, err
	}
	if err := checkText(e); err != nil {
		return nil, err
	}
	e.DataBase64 = e.DataBase64 || !inlineData(e)
	w := newWriter(subject, 1)
	if err := binding.ToMessage(&e).ReadStructured(context.Background(), w); err != nil {
		return nil, invalid("encode in structured mode", err)
	}
	return w.finish(encodeValue(e.Source()), encodeValue(e.ID()))
}

// MsgID is the Nats-Msg-Id of an event, "<source>|<id>". Both are percent-encoded like
// header values, and a '|' in the source too, so that no two events share one.
func MsgID(source, id string) string { return msgID(encodeValue(source), encodeValue(id)) }

// msgID joins encoded values.
func msgID(source, id string) string {
	if strings.IndexByte(source, '|') >= 0 {
		source = strings.ReplaceAll(source, "|", "%7C")
	}
	return source + "|" + id
}

// Decode reads an event from a message in either mode. A message is in structured mode
// when its Content-Type begins with application/cloudevents, and also when it has no
// attribute in its headers at all and its payload is a JSON object with a specversion:
// publishing a file by hand, the header is easily forgotten. Everything else is in
// binary mode. Header names are matched without regard to case.
//
// The event is valid CloudEvents 1.0. Its data may share memory with the payload.
// Errors: ErrEvent, ErrTooLarge.
func Decode(header nats.Header, data []byte) (event.Event, error) {
	if size := wireSize(header, data); size > MaxMessageBytes {
		return event.Event{}, fmt.Errorf("%w: %w: the message has %d bytes with its headers, want at most %d", ErrEvent, ErrTooLarge, size, MaxMessageBytes)
	}
	m, err := newMessage(header, data)
	if err != nil {
		return event.Event{}, err
	}
	e, err := binding.ToEvent(context.Background(), m)
	if err != nil {
		return event.Event{}, invalid("read "+m.ReadEncoding().String()+" mode", err)
	}
	if err := checkEvent(*e); err != nil {
		return event.Event{}, err
	}
	// Header values have been checked as they were decoded.
	if m.ReadEncoding() == binding.EncodingStructured {
		if err := checkText(*e); err != nil {
			return event.Event{}, err
		}
	}
	return *e, nil
}

// checkEvent accepts valid CloudEvents 1.0 only.
func checkEvent(e event.Event) error {
	if e.Context == nil {
		return fmt.Errorf("%w: it has no attributes", ErrEvent)
	}
	if v := e.SpecVersion(); v != event.CloudEventsVersionV1 {
		return fmt.Errorf("%w: specversion is %q, want %q", ErrEvent, v, event.CloudEventsVersionV1)
	}
	if err := e.Validate(); err != nil {
		return describe(err)
	}
	if _, ok := extensions(e)["data"]; ok {
		return fmt.Errorf("%w: an extension attribute must not be named \"data\"", ErrEvent)
	}
	return nil
}

// checkText refuses attributes that are not UTF-8, which JSON cannot hold.
func checkText(e event.Event) error {
	for _, a := range []struct{ name, value string }{
		{"id", e.ID()}, {"source", e.Source()}, {"type", e.Type()}, {"subject", e.Subject()}, {"datacontenttype", e.DataContentType()},
	} {
		if !utf8.ValidString(a.value) {
			return errNotUTF8(a.name)
		}
	}
	for name, value := range extensions(e) {
		if s, ok := value.(string); ok && !utf8.ValidString(s) {
			return errNotUTF8(name)
		}
	}
	return nil
}

// invalid says once that an error of the SDK is about the event.
func invalid(doing string, err error) error {
	if errors.Is(err, ErrEvent) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", ErrEvent, doing, err)
}

func errNotUTF8(attribute string) error {
	return fmt.Errorf("%w: attribute %s is not UTF-8", ErrEvent, attribute)
}

// extensions returns the extension attributes of a 1.0 event for reading. The SDK's own
// method copies them each time.
func extensions(e event.Event) map[string]any {
	if c, ok := e.Context.(*event.EventContextV1); ok {
		return c.Extensions
	}
	return e.Extensions()
}

// describe turns the SDK's report, a map, into one line in a stable order.
func describe(err error) error {
	var faults event.ValidationError
	if !errors.As(err, &faults) {
		return fmt.Errorf("%w: %w", ErrEvent, err)
	}
	names := make([]string, 0, len(faults))
	for name := range faults {
		names = append(names, name)
	}
	sort.Strings(names)
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = name + ": " + faults[name].Error()
		switch name {
		case "id", "source", "type":
			parts[i] = name + ": is required and must not be empty"
		}
	}
	return fmt.Errorf("%w: %s", ErrEvent, strings.Join(parts, "; "))
}

// limitOf is the largest message the stream of a subject takes.
func limitOf(subject string) int {
	switch {
	case strings.HasPrefix(subject, Root+"."+string(KindCommand)+"."):
		return MaxCommandBytes
	case strings.HasPrefix(subject, Root+"."+string(KindAssignment)+"."):
		return MaxAssignmentBytes
	}
	return MaxMessageBytes
}

// wireSize is what a server counts: the header block and the payload.
func wireSize(header nats.Header, data []byte) int {
	size := len(data)
	if len(header) == 0 {
		return size
	}
	size += len("NATS/1.0\r\n") + len("\r\n")
	for name, values := range header {
		for _, v := range values {
			size += len(name) + len(": ") + len(v) + len("\r\n")
		}
	}
	return size
}
