package subjects

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/format"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/nats-io/nats.go"
)

// headerPrefix is what the binding puts before an attribute's name.
const headerPrefix = "ce-"

// contentType tells structured from binary mode. In binary mode the binding maps
// datacontenttype to ce-datacontenttype like any attribute (section 3.1.3.1), so this
// header is not written then.
const contentType = "Content-Type"

// writer builds a NATS message from what the SDK reads off an event.
type writer struct{ msg *nats.Msg }

var (
	_ binding.BinaryWriter     = (*writer)(nil)
	_ binding.StructuredWriter = (*writer)(nil)
)

func newWriter(subject string, headers int) *writer {
	return &writer{msg: &nats.Msg{Subject: subject, Header: make(nats.Header, headers+1)}}
}

// Start implements binding.BinaryWriter.
func (w *writer) Start(context.Context) error { return nil }

// End implements binding.BinaryWriter.
func (w *writer) End(context.Context) error { return nil }

// SetAttribute implements binding.MessageMetadataWriter.
func (w *writer) SetAttribute(a spec.Attribute, value any) error { return w.set(a.Name(), value) }

// SetExtension implements binding.MessageMetadataWriter.
func (w *writer) SetExtension(name string, value any) error { return w.set(name, value) }

func (w *writer) set(name string, value any) error {
	if value == nil {
		delete(w.msg.Header, headerPrefix+name)
		return nil
	}
	s, ok := value.(string)
	if !ok {
		var err error
		if s, err = types.Format(value); err != nil {
			return err
		}
	}
	w.msg.Header[headerPrefix+name] = []string{encodeValue(s)}
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
	w.msg.Header[contentType] = []string{f.MediaType()}
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
