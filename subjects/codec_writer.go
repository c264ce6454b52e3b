package subjects

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/format"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// headerPrefix is what the binding puts before an attribute's name.
const headerPrefix = "ce-"

// contentType tells structured from binary mode. In binary mode the binding maps
// datacontenttype to ce-datacontenttype like any attribute (section 3.1.3.1), so this
// header is not written then.
const contentType = "Content-Type"

// maxAttributes is how many attributes the specification knows.
const maxAttributes = 8

// attributeHeaders holds their headers by kind: most messages have most of them.
var attributeHeaders = [maxAttributes]string{
	spec.ID:              headerPrefix + "id",
	spec.Source:          headerPrefix + "source",
	spec.SpecVersion:     headerPrefix + "specversion",
	spec.Type:            headerPrefix + "type",
	spec.DataContentType: headerPrefix + "datacontenttype",
	spec.DataSchema:      headerPrefix + "dataschema",
	spec.Subject:         headerPrefix + "subject",
	spec.Time:            headerPrefix + "time",
}

// writer builds a NATS message from what the SDK reads off an event.
type writer struct {
	msg *nats.Msg
	// values backs the one-element slices of the headers.
	values []string
}

var (
	_ binding.BinaryWriter     = (*writer)(nil)
	_ binding.StructuredWriter = (*writer)(nil)
)

// newWriter makes a writer for about that many headers and the message ID.
func newWriter(subject string, headers int) *writer {
	return &writer{
		msg:    &nats.Msg{Subject: subject, Header: make(nats.Header, headers+1)},
		values: make([]string, 0, headers+1),
	}
}

func (w *writer) header(name, value string) {
	w.values = append(w.values, value)
	n := len(w.values)
	w.msg.Header[name] = w.values[n-1 : n : n]
}

// finish sets the message ID, from encoded values, and checks the size.
func (w *writer) finish(source, id string) (*nats.Msg, error) {
	w.header(jetstream.MsgIDHeader, msgID(source, id))
	if size, limit := wireSize(w.msg.Header, w.msg.Data), limitOf(w.msg.Subject); size > limit {
		return nil, fmt.Errorf("%w: %w: %s has %d bytes with its headers, want at most %d", ErrEvent, ErrTooLarge, w.msg.Subject, size, limit)
	}
	return w.msg, nil
}

// Start implements binding.BinaryWriter.
func (w *writer) Start(context.Context) error { return nil }

// End implements binding.BinaryWriter.
func (w *writer) End(context.Context) error { return nil }

// SetAttribute implements binding.MessageMetadataWriter.
func (w *writer) SetAttribute(a spec.Attribute, value any) error {
	return w.set(a.Name(), attributeHeaders[a.Kind()], value)
}

// SetExtension implements binding.MessageMetadataWriter.
func (w *writer) SetExtension(name string, value any) error {
	return w.set(name, headerPrefix+name, value)
}

func (w *writer) set(name, header string, value any) error {
	if value == nil {
		delete(w.msg.Header, header)
		return nil
	}
	s, ok := value.(string)
	if !ok {
		var err error
		if s, err = types.Format(value); err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	if !utf8.ValidString(s) {
		return errNotUTF8(name)
	}
	w.header(header, encodeValue(s))
	return nil
}

// SetData implements binding.BinaryWriter.
func (w *writer) SetData(r io.Reader) error {
	// The SDK hands over its own buffer: taking its bytes saves the copy.
	if b, ok := r.(*bytes.Buffer); ok {
		w.msg.Data = b.Bytes()
		return nil
	}
	data, err := io.ReadAll(r)
	w.msg.Data = data
	return err
}

// SetStructuredEvent implements binding.StructuredWriter.
func (w *writer) SetStructuredEvent(_ context.Context, f format.Format, r io.Reader) error {
	w.header(contentType, f.MediaType())
	data, err := io.ReadAll(r)
	w.msg.Data = data
	return err
}

// inlineData says whether the event's data can be written as it is into JSON: the SDK
// trusts the content type.
func inlineData(e event.Event) bool {
	if isJSONType(e.DataContentType()) {
		return json.Valid(e.Data()) || len(e.Data()) == 0
	}
	return utf8.Valid(e.Data())
}

// isJSONType says whether the SDK takes data of this content type as JSON. No content
// type means JSON (CloudEvents JSON format, section 3.1.1).
func isJSONType(ct string) bool {
	if i := strings.IndexByte(ct, ';'); i >= 0 {
		ct = ct[:i]
	}
	ct = strings.ToLower(strings.TrimSpace(ct))
	return ct == "" || ct == event.ApplicationJSON || ct == event.TextJSON || strings.HasSuffix(ct, "+json")
}
