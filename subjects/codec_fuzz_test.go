package subjects

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
)

func FuzzDecode(f *testing.F) {
	f.Add("application/cloudevents+json", "ce-id", "1", []byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1}}`))
	f.Add("application/cloudevents+json", "", "", []byte(`{"data_base64":5,"specversion":"1.0","id":"1","source":"/s","type":"t"}`))
	f.Add("", "", "", []byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain","data":"x","ext":-1}`))
	f.Add("application/json", "ce-time", "2018-04-05T03:56:24Z", []byte(`{}`))
	f.Add("", "ce-x", "%E2%82%AC", []byte(nil))
	f.Fuzz(func(t *testing.T, ct, name, value string, data []byte) {
		header := nats.Header{contentType: {ct}}
		if name != "" {
			header["ce-specversion"] = []string{"1.0"}
			header["ce-id"] = []string{"1"}
			header["ce-source"] = []string{"/s"}
			header["ce-type"] = []string{"t"}
			header[name] = []string{value}
		}
		e, err := Decode(header, data)
		if err != nil {
			if !errors.Is(err, ErrEvent) {
				t.Fatalf("%v is not ErrEvent", err)
			}
			return
		}
		// What was accepted can be passed on, and reads the same again.
		msg, err := Encode("kranix.evt.docker.n1.shop.cart.running", e)
		if errors.Is(err, ErrTooLarge) {
			return
		}
		if err != nil {
			t.Fatalf("accepted %v, but encode: %v", e.Context, err)
		}
		again, err := Decode(msg.Header, msg.Data)
		if err != nil {
			t.Fatalf("decode what was encoded: %v", err)
		}
		if again.ID() != e.ID() || again.Source() != e.Source() || again.Type() != e.Type() || again.Subject() != e.Subject() || string(again.Data()) != string(e.Data()) {
			t.Fatalf("got %v, want %v", again.Context, e.Context)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	e := testEvent(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Encode(testSubject, e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	msg, err := Encode(testSubject, testEvent(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(msg.Header, msg.Data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeStructured(b *testing.B) {
	msg, err := EncodeStructured(testSubject, testEvent(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(msg.Header, msg.Data); err != nil {
			b.Fatal(err)
		}
	}
}
