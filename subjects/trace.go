package subjects

import (
	"context"
	"fmt"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
)

// Trace is a W3C trace context as events carry it (CloudEvents distributed tracing
// extension). The zero value is no trace.
type Trace struct {
	// Parent is the traceparent: "00-<trace id>-<parent id>-<flags>".
	Parent string
	// State is the tracestate; it means nothing without Parent.
	State string
}

type traceKey struct{}

// WithTrace returns a context that carries t to the events caused under it.
func WithTrace(ctx context.Context, t Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// TraceFrom returns the trace ctx carries, or the zero Trace.
func TraceFrom(ctx context.Context) Trace {
	t, _ := ctx.Value(traceKey{}).(Trace)
	return t
}

// TraceOf reads the trace of an event. A trace that is not valid is left behind, as
// the W3C recommendation says (section 3.2.2.1), and no reason to refuse the event.
func TraceOf(e event.Event) Trace {
	t := Trace{Parent: Extension(e, ExtTraceParent), State: Extension(e, ExtTraceState)}
	if t.Validate() != nil {
		return Trace{}
	}
	return t
}

// Apply puts the trace on an event. The zero Trace changes nothing.
func (t Trace) Apply(e *event.Event) {
	if t.Parent == "" {
		return
	}
	e.SetExtension(ExtTraceParent, t.Parent)
	if t.State != "" {
		e.SetExtension(ExtTraceState, t.State)
	}
}

// maxTraceState is the most a tracestate may have to carry (W3C Trace Context, section
// 3.3.1.5, asks for at least 512 characters; longer ones may be dropped).
const maxTraceState = 512

// Validate checks the format of a non-zero Trace (W3C Trace Context, sections 3.2 and
// 3.3). Errors: ErrEvent.
func (t Trace) Validate() error {
	if t.Parent == "" {
		if t.State != "" {
			return fmt.Errorf("%w: %s without %s", ErrEvent, ExtTraceState, ExtTraceParent)
		}
		return nil
	}
	parts := strings.Split(t.Parent, "-")
	valid := len(parts) >= 4 &&
		isHex(parts[0], 2) && parts[0] != "ff" &&
		isHex(parts[1], 32) && strings.Trim(parts[1], "0") != "" &&
		isHex(parts[2], 16) && strings.Trim(parts[2], "0") != "" &&
		isHex(parts[3], 2)
	// Version 00 has exactly these four fields; a later one may append more.
	if !valid || (parts[0] == "00" && len(parts) != 4) {
		return fmt.Errorf("%w: %s %q has not the form 00-<32 hex>-<16 hex>-<2 hex>", ErrEvent, ExtTraceParent, t.Parent)
	}
	if len(t.State) > maxTraceState {
		return fmt.Errorf("%w: %s has %d characters, want at most %d", ErrEvent, ExtTraceState, len(t.State), maxTraceState)
	}
	for _, c := range []byte(t.State) {
		if (c < ' ' || c > '~') && c != '\t' {
			return fmt.Errorf("%w: %s has a character outside printable ASCII", ErrEvent, ExtTraceState)
		}
	}
	return nil
}

func isHex(s string, length int) bool {
	if len(s) != length {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
