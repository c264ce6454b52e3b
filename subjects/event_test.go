package subjects

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestNewEvent(t *testing.T) {
	before := time.Now()
	e, err := NewEvent("/kranix/docker/n1", WorkloadType("running"), "shop/cart", WorkloadEvent{Phase: "running"}, map[string]string{ExtCommandID: "abc", ExtTraceParent: ""})
	if err != nil {
		t.Fatal(err)
	}
	if e.Source() != "/kranix/docker/n1" || e.Type() != "io.kranix.workload.running.v1" || e.Subject() != "shop/cart" || e.DataContentType() != "application/json" || string(e.Data()) != `{"phase":"running"}` {
		t.Errorf("got %v with data %s", e.Context, e.Data())
	}
	if e.Time().Location() != time.UTC || e.Time().Before(before) {
		t.Errorf("time is %s", e.Time())
	}
	if len(e.Extensions()) != 1 || Extension(e, ExtCommandID) != "abc" || Extension(e, ExtTraceParent) != "" {
		t.Errorf("extensions %v", e.Extensions())
	}
	other, err := NewEvent("/s", TypeDestroy, "shop/cart", nil, nil)
	if err != nil || other.ID() == e.ID() || other.Data() != nil || other.DataContentType() != "" {
		t.Errorf("without data: %v, %v", other.Context, err)
	}
	for name, data := range map[string]any{"raw": json.RawMessage(`{"a":1}`), "bytes": []byte(`{"a":1}`)} {
		if e, err := NewEvent("/s", TypeDeploy, "shop/cart", data, nil); err != nil || string(e.Data()) != `{"a":1}` {
			t.Errorf("%s: %s, %v", name, e.Data(), err)
		}
	}
}

func TestNewEventRefuses(t *testing.T) {
	for name, make1 := range map[string]func() error{
		"no source":      func() error { _, err := NewEvent("", TypeDeploy, "a/b", nil, nil); return err },
		"no type":        func() error { _, err := NewEvent("/s", "", "a/b", nil, nil); return err },
		"no JSON":        func() error { _, err := NewEvent("/s", TypeDeploy, "a/b", []byte("{"), nil); return err },
		"not marshalled": func() error { _, err := NewEvent("/s", TypeDeploy, "a/b", math.NaN(), nil); return err },
		"extension name": func() error {
			_, err := NewEvent("/s", TypeDeploy, "a/b", nil, map[string]string{"a_b": "1"})
			return err
		},
	} {
		if err := make1(); !errors.Is(err, ErrEvent) {
			t.Errorf("%s: %v, want ErrEvent", name, err)
		}
	}
}

func TestSequencesSortAsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.SliceOf(rapid.Uint64()).Draw(t, "numbers")
		texts := make([]string, len(numbers))
		for i, n := range numbers {
			texts[i] = PadSequence(n)
		}
		slices.Sort(numbers)
		slices.Sort(texts)
		for i, text := range texts {
			if n, err := ParseSequence(text); err != nil || n != numbers[i] {
				t.Fatalf("%q at %d: %d, %v, want %d", text, i, n, err, numbers[i])
			}
		}
	})
	if n, err := ParseSequence("7"); err != nil || n != 7 {
		t.Errorf("without padding: %d, %v", n, err)
	}
	for _, s := range []string{"", "-1", "+1", "1 ", "0x1", "1e3", "99999999999999999999", "000000000000000000001"} {
		if n, err := ParseSequence(s); !errors.Is(err, ErrEvent) {
			t.Errorf("%q: %d, %v, want ErrEvent", s, n, err)
		}
	}
}

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestTraceTravels(t *testing.T) {
	command := testEvent(t)
	Trace{Parent: parent, State: "vendor=1"}.Apply(&command)
	ctx := WithTrace(t.Context(), TraceOf(command))
	caused := testEvent(t)
	TraceFrom(ctx).Apply(&caused)
	msg, err := Encode("kranix.evt.docker.n1.shop.cart.running", caused)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(msg.Header, msg.Data)
	if err != nil || TraceOf(got) != (Trace{Parent: parent, State: "vendor=1"}) {
		t.Errorf("got %+v, %v", TraceOf(got), err)
	}
	plain := testEvent(t)
	TraceFrom(t.Context()).Apply(&plain)
	if len(plain.Extensions()) != 1 || TraceOf(plain) != (Trace{}) {
		t.Errorf("no trace left %v", plain.Extensions())
	}
}

func TestTraceValidate(t *testing.T) {
	for name, trace := range map[string]Trace{
		"none": {}, "plain": {Parent: parent}, "state": {Parent: parent, State: "a=1, b=2"},
		"later version": {Parent: "01" + parent[2:] + "-more"},
	} {
		if err := trace.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, trace := range map[string]Trace{
		"text": {Parent: "hello"}, "version ff": {Parent: "ff" + parent[2:]}, "upper case": {Parent: strings.ToUpper(parent)},
		"no trace":  {Parent: "00-00000000000000000000000000000000-00f067aa0ba902b7-01"},
		"no parent": {Parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"},
		"too much":  {Parent: parent + "-00"}, "short": {Parent: parent[:len(parent)-1]},
		"state alone": {State: "a=1"}, "long state": {Parent: parent, State: strings.Repeat("a", 513)}, "line break": {Parent: parent, State: "a=1\r\nb"},
	} {
		if err := trace.Validate(); !errors.Is(err, ErrEvent) {
			t.Errorf("%s: %v, want ErrEvent", name, err)
		}
		e := testEvent(t)
		e.SetExtension(ExtTraceParent, trace.Parent)
		e.SetExtension(ExtTraceState, trace.State)
		if got := TraceOf(e); got != (Trace{}) {
			t.Errorf("%s: taken over as %+v", name, got)
		}
	}
}
