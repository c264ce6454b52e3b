package subjects

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/format"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
)

// message is a NATS message as the SDK reads it. It is a value that is read once or
// often; finishing it means nothing, acknowledging is not its business.
type message struct {
	encoding binding.Encoding
	// attributes holds the decoded values by lower-case name without prefix; it is
	// empty in structured mode.
	attributes map[string]string
	data       []byte
}

var (
	_ binding.Message               = (*message)(nil)
	_ binding.MessageMetadataReader = (*message)(nil)
)

// newMessage tells the modes apart and decodes the headers. Errors: ErrEvent.
func newMessage(header nats.Header, data []byte) (*message, error) {
	var ct string
	names := 0
	for name, values := range header {
		switch {
		case strings.EqualFold(name, contentType) && len(values) > 0:
			ct = values[0]
		case hasHeaderPrefix(name):
			names++
		}
	}
	switch mediaType := mediaTypeOf(ct); {
	case mediaType == event.ApplicationCloudEventsBatchJSON || strings.HasPrefix(mediaType, "application/cloudevents-batch"):
		return nil, fmt.Errorf("%w: a batch; the NATS binding has none, publish one message per event", ErrEvent)
	case format.IsFormat(mediaType):
		if f := format.Lookup(mediaType); f == nil && mediaType != format.Prefix {
			return nil, fmt.Errorf("%w: event format %q is not known, use %q", ErrEvent, mediaType, event.ApplicationCloudEventsJSON)
		}
		return structured(data)
	case names == 0:
		if looksStructured(data) {
			return structured(data)
		}
		return nil, fmt.Errorf("%w: neither headers with the attributes (ce-specversion, ce-id, ce-source, ce-type) nor a JSON event as the payload", ErrEvent)
	}
	m := &message{encoding: binding.EncodingBinary, attributes: make(map[string]string, names+1), data: data}
	for name, values := range header {
		if !hasHeaderPrefix(name) {
			continue
		}
		if err := m.add(strings.ToLower(name[len(headerPrefix):]), values); err != nil {
			return nil, err
		}
	}
	// Other SDKs put the content type of the data where HTTP has it.
	if _, ok := m.attributes["datacontenttype"]; !ok && ct != "" {
		m.attributes["datacontenttype"] = ct
	}
	if v, ok := m.attributes["specversion"]; !ok {
		return nil, fmt.Errorf("%w: specversion: is required and must not be empty", ErrEvent)
	} else if v != event.CloudEventsVersionV1 {
		return nil, fmt.Errorf("%w: specversion is %q, want %q", ErrEvent, v, event.CloudEventsVersionV1)
	}
	return m, nil
}

func (m *message) add(name string, values []string) error {
	if _, twice := m.attributes[name]; twice || len(values) > 1 {
		return fmt.Errorf("%w: attribute %s is given more than once", ErrEvent, name)
	}
	if len(values) == 0 {
		return nil
	}
	v, err := decodeValue(values[0])
	if err != nil {
		return fmt.Errorf("%w: attribute %s: %w", ErrEvent, name, err)
	}
	m.attributes[name] = v
	return nil
}

func hasHeaderPrefix(name string) bool {
	return len(name) > len(headerPrefix) && strings.EqualFold(name[:len(headerPrefix)], headerPrefix)
}

func mediaTypeOf(ct string) string {
	if i := strings.IndexByte(ct, ';'); i >= 0 {
		ct = ct[:i]
	}
	return strings.ToLower(strings.TrimSpace(ct))
}

// looksStructured says whether a payload is a JSON object with a specversion.
func looksStructured(data []byte) bool {
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return false
	}
	var probe struct {
		SpecVersion json.RawMessage `json:"specversion"`
	}
	return json.Unmarshal(data, &probe) == nil && probe.SpecVersion != nil
}

// structured checks a payload and wraps it.
func structured(data []byte) (*message, error) {
	data, err := checkStructured(data)
	if err != nil {
		return nil, err
	}
	return &message{encoding: binding.EncodingStructured, data: data}, nil
}

// ReadEncoding implements binding.MessageReader.
func (m *message) ReadEncoding() binding.Encoding { return m.encoding }

// ReadStructured implements binding.MessageReader.
func (m *message) ReadStructured(ctx context.Context, w binding.StructuredWriter) error {
	if m.encoding != binding.EncodingStructured {
		return binding.ErrNotStructured
	}
	return w.SetStructuredEvent(ctx, format.JSON, bytes.NewReader(m.data))
}

// ReadBinary implements binding.MessageReader.
func (m *message) ReadBinary(_ context.Context, w binding.BinaryWriter) error {
	if m.encoding != binding.EncodingBinary {
		return binding.ErrNotBinary
	}
	for name, value := range m.attributes {
		var err error
		if a := spec.V1.Attribute(name); a != nil {
			err = w.SetAttribute(a, value)
		} else {
			err = w.SetExtension(name, value)
		}
		if err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	if len(m.data) > 0 {
		return w.SetData(bytes.NewBuffer(m.data))
	}
	return nil
}

// GetAttribute implements binding.MessageMetadataReader.
func (m *message) GetAttribute(k spec.Kind) (spec.Attribute, any) {
	a := spec.V1.AttributeFromKind(k)
	if a == nil {
		return nil, nil
	}
	if v, ok := m.attributes[a.Name()]; ok {
		return a, v
	}
	return a, nil
}

// GetExtension implements binding.MessageMetadataReader.
func (m *message) GetExtension(name string) any {
	if v, ok := m.attributes[name]; ok {
		return v
	}
	return nil
}

// Finish implements binding.Message.
func (m *message) Finish(error) error { return nil }
