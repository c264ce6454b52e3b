package subjects

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"
)

const testSubject = "kranix.cmd.docker._.shop.cart.deploy"

func testEvent(t testing.TB) event.Event {
	t.Helper()
	e, err := NewEvent("/kranix/core", TypeDeploy, "shop/cart", map[string]any{"name": "cart", "image": "busybox"}, map[string]string{ExtSequence: PadSequence(7)})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestEncodeFollowsTheBinding compares with the example of the binding's text (section
// 3.1.4).
func TestEncodeFollowsTheBinding(t *testing.T) {
	e := event.New()
	e.SetID("1234-1234-1234")
	e.SetType("com.example.someevent")
	e.SetSource("/mycontext/subcontext")
	e.SetTime(time.Date(2018, 4, 5, 3, 56, 24, 0, time.UTC))
	if err := e.SetData(event.ApplicationJSON, json.RawMessage(`{"a":1}`)); err != nil {
		t.Fatal(err)
	}
	msg, err := Encode("mySubject", e)
	if err != nil {
		t.Fatal(err)
	}
	want := nats.Header{
		"ce-specversion":     {"1.0"},
		"ce-type":            {"com.example.someevent"},
		"ce-time":            {"2018-04-05T03:56:24Z"},
		"ce-id":              {"1234-1234-1234"},
		"ce-source":          {"/mycontext/subcontext"},
		"ce-datacontenttype": {"application/json"},
		"Nats-Msg-Id":        {"/mycontext/subcontext|1234-1234-1234"},
	}
	if msg.Subject != "mySubject" || string(msg.Data) != `{"a":1}` || !reflect.DeepEqual(msg.Header, want) {
		t.Fatalf("got %s %q %s", msg.Subject, msg.Header, msg.Data)
	}
}

// TestHeaderValues holds the vectors of the binding's text (section 3.1.3.2) and those
// that follow from its rules.
func TestHeaderValues(t *testing.T) {
	for plain, encoded := range map[string]string{
		"Euro € 😀":      "Euro%20%E2%82%AC%20%F0%9F%98%80",
		"":              "",
		"~!#$&'()*+,/":  "~!#$&'()*+,/",
		`say "hi"`:      "say%20%22hi%22",
		"100%":          "100%25",
		"%20":           "%2520",
		"a\r\nb: c":     "a%0D%0Ab:%20c",
		"\x7f\u0080":    "%7F%C2%80",
		`back\slash`:    `back\slash`,
		" lead, trail ": "%20lead,%20trail%20",
	} {
		if got := encodeValue(plain); got != encoded {
			t.Errorf("encode %q: got %q, want %q", plain, got, encoded)
		}
		if got, err := decodeValue(encoded); err != nil || got != plain {
			t.Errorf("decode %q: got %q, %v, want %q", encoded, got, err, plain)
		}
	}
	for encoded, plain := range map[string]string{
		"%e2%82%ac":      "€",      // lower case
		"%41%42":         "AB",     // needlessly encoded
		`"quoted"`:       "quoted", // RFC 7230 quoted string
		`"a \"b\" c\\d"`: `a "b" c\d`,
		`"%20"`:          " ", // one round, after the quotes
		`""`:             "",
		`"open`:          `"open`, // no quoted string: taken as it is
		`"a" and "b"`:    `"a" and "b"`,
		`"a\"`:           `"a\"`,
		"raw € text":     "raw € text",
		"50% of it":      "50% of it",
		"%":              "%",
		"%2":             "%2",
		"%zz":            "%zz",
		"%25%32%30":      "%20",
	} {
		if got, err := decodeValue(encoded); err != nil || got != plain {
			t.Errorf("decode %q: got %q, %v, want %q", encoded, got, err, plain)
		}
	}
	for _, invalid := range []string{"%C0%A0", "%FF", "%ED%A0%80", "a\xff"} {
		if got, err := decodeValue(invalid); err == nil {
			t.Errorf("decode %q: got %q, want an error", invalid, got)
		}
	}
}

// anyText draws what may be in an attribute, and much that may not.
func anyText() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.StringMatching(`[ -~]{1,20}`),
		rapid.SampledFrom([]string{"%", "%%20", `"`, `"a"`, `\"`, "€ 😀", "a\r\nb", "\x00", "\u0085", " x ", "日本", "|", "%C0%A0"}),
	)
}

func drawEvent(t *rapid.T) event.Event {
	text := anyText().Filter(func(s string) bool { return strings.TrimSpace(s) != "" })
	e := event.New()
	e.SetID(text.Draw(t, "id"))
	e.SetType(text.Draw(t, "type"))
	e.SetSource(rapid.SampledFrom([]string{"/kranix/core", "urn:x:y", "https://example.com/a%20b?c=d|e", "a|b", "/ü"}).Draw(t, "source"))
	if rapid.Bool().Draw(t, "has subject") {
		e.SetSubject(text.Draw(t, "subject"))
	}
	if rapid.Bool().Draw(t, "has time") {
		e.SetTime(time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC())
	}
	for name, value := range rapid.MapOfN(rapid.StringMatching(`ext[a-z0-9]{1,8}`), anyText(), 0, 4).Draw(t, "extensions") {
		e.SetExtension(name, value)
	}
	switch rapid.IntRange(0, 3).Draw(t, "kind of data") {
	case 1:
		e.SetDataContentType(event.ApplicationJSON)
		e.DataEncoded = []byte(`{"text":"<€>"}`)
	case 2:
		e.SetDataContentType("application/octet-stream")
		e.DataEncoded = rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "bytes")
	case 3: // says JSON and is not
		e.SetDataContentType(event.ApplicationJSON)
		e.DataEncoded = rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "no JSON")
	}
	return e
}

// sameEvent compares what a receiver can tell apart.
func sameEvent(t interface{ Fatalf(string, ...any) }, got, want event.Event, sameData bool) {
	if got.ID() != want.ID() || got.Type() != want.Type() || got.Source() != want.Source() || got.Subject() != want.Subject() ||
		!got.Time().Equal(want.Time()) || got.DataContentType() != want.DataContentType() || got.SpecVersion() != want.SpecVersion() {
		t.Fatalf("attributes differ:\ngot  %v\nwant %v", got.Context, want.Context)
	}
	if !maps.EqualFunc(got.Extensions(), want.Extensions(), func(a, b any) bool { return reflect.DeepEqual(a, b) }) {
		t.Fatalf("extensions differ: got %q, want %q", got.Extensions(), want.Extensions())
	}
	if sameData && string(got.Data()) != string(want.Data()) {
		t.Fatalf("data differs: got %q, want %q", got.Data(), want.Data())
	}
}

func TestCodecRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawEvent(t)
		msg, err := Encode(testSubject, want)
		if err != nil {
			t.Fatalf("encode: %v", err)
		}
		for name, values := range msg.Header {
			for _, c := range []byte(name + values[0]) {
				if c < '!' || c > '~' {
					t.Fatalf("header %q: %q has byte %#x", name, values, c)
				}
			}
		}
		// The wire in between: what the client library writes and reads.
		wire, err := nats.DecodeHeadersMsg(headerBlock(msg.Header))
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(wire, msg.Data)
		if err != nil {
			t.Fatalf("decode %q: %v", msg.Header, err)
		}
		sameEvent(t, got, want, true)
	})
}

func headerBlock(h nats.Header) []byte {
	var b strings.Builder
	b.WriteString("NATS/1.0\r\n")
	for name, values := range h {
		for _, v := range values {
			b.WriteString(name + ": " + v + "\r\n")
		}
	}
	b.WriteString("\r\n")
	return []byte(b.String())
}

func TestStructuredRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawEvent(t)
		msg, err := EncodeStructured(testSubject, want)
		if err != nil {
			t.Fatalf("encode: %v", err)
		}
		if !json.Valid(msg.Data) {
			t.Fatalf("no JSON: %q", msg.Data)
		}
		got, err := Decode(msg.Header, msg.Data)
		if err != nil {
			t.Fatalf("decode %q: %v", msg.Data, err)
		}
		inline := isJSONType(want.DataContentType()) && inlineData(want)
		sameEvent(t, got, want, !inline)
		if inline && len(want.Data()) > 0 && !sameJSON(got.Data(), want.Data()) {
			t.Fatalf("data differs: got %q, want %q", got.Data(), want.Data())
		}
	})
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

func TestDecodeIsLenient(t *testing.T) {
	const body = `{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"application/json","sequence":"007","data":{"a":1}}`
	binary := nats.Header{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"/s"}, "ce-type": {"t"}, "ce-datacontenttype": {"application/json"}, "ce-sequence": {"007"}}
	with := func(h nats.Header, extra ...string) nats.Header {
		h = maps.Clone(h)
		for i := 0; i < len(extra); i += 2 {
			h[extra[i]] = []string{extra[i+1]}
		}
		return h
	}
	upper := nats.Header{}
	for name, v := range binary {
		upper[strings.ToUpper(name)] = v
	}
	noType := maps.Clone(binary)
	delete(noType, "ce-datacontenttype")
	for _, tc := range []struct {
		name   string
		header nats.Header
		data   string
	}{
		{"binary", binary, `{"a":1}`},
		{"upper-case header names", upper, `{"a":1}`},
		{"content type where HTTP has it", with(noType, "Content-Type", "application/json"), `{"a":1}`},
		{"binary attributes before a content type of data", with(binary, "Content-Type", "text/plain"), `{"a":1}`},
		{"foreign headers", with(binary, "Nats-Msg-Id", "x", "X-Ce-Id", "2", "ce-", "3"), `{"a":1}`},
		{"structured", nats.Header{"Content-Type": {"application/cloudevents+json"}}, body},
		{"structured with charset", nats.Header{"content-type": {"Application/CloudEvents+JSON; charset=utf-8"}}, body},
		{"structured without a format", nats.Header{"Content-Type": {"application/cloudevents"}}, body},
		{"structured with no header at all", nil, body},
		{"structured with white space around", nil, "\n\t " + body + "\n"},
		{"structured under a plain content type", nats.Header{"Content-Type": {"application/json"}}, body},
		{"the content type decides", with(nats.Header{"ce-id": {"2"}}, "content-type", "application/cloudevents+json"), body},
		{"structured with nulls", nil, strings.Replace(body, `"data":`, `"subject":null,"time":null,"dataschema":null,"myext":null,"data":`, 1)},
		{"structured with base64", nil, strings.Replace(body, `"data":{"a":1}`, `"data_base64":"eyJhIjoxfQ=="`, 1)},
		{"structured with escapes in base64", nil, `{"specversion":"1.0","data_base64":"eyJhIjoxfQ\u003d\u003d",` + strings.NewReplacer(`{"specversion":"1.0",`, "", `,"data":{"a":1}`, "").Replace(body)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, err := Decode(tc.header, []byte(tc.data))
			if err != nil {
				t.Fatal(err)
			}
			if e.ID() != "1" || e.Source() != "/s" || e.Type() != "t" || e.DataContentType() != "application/json" || Extension(e, ExtSequence) != "007" || string(e.Data()) != `{"a":1}` {
				t.Errorf("got %v with data %q", e.Context, e.Data())
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	structured := nats.Header{"Content-Type": {"application/cloudevents+json"}}
	binary := func(drop string, extra ...string) nats.Header {
		h := nats.Header{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"/s"}, "ce-type": {"t"}}
		delete(h, drop)
		for i := 0; i < len(extra); i += 2 {
			h[extra[i]] = append(h[extra[i]], extra[i+1])
		}
		return h
	}
	for _, tc := range []struct {
		name   string
		header nats.Header
		data   string
		says   string
	}{
		{"nothing", nil, "", "ce-specversion"},
		{"no event", nil, `{"name":"cart"}`, "ce-specversion"},
		{"not JSON", nil, `specversion`, "ce-specversion"},
		{"batch", nats.Header{"Content-Type": {"application/cloudevents-batch+json"}}, "[]", "batch"},
		{"unknown format", nats.Header{"Content-Type": {"application/cloudevents+avro"}}, "x", "avro"},
		{"no specversion", binary("ce-specversion"), "", "specversion"},
		{"no id", binary("ce-id"), "", "id"},
		{"no source", binary("ce-source"), "", "source"},
		{"no type", binary("ce-type"), "", "type"},
		{"blank type", binary("ce-type", "ce-type", "%20"), "", "type"},
		{"old version", binary("ce-specversion", "ce-specversion", "0.3"), "", `"0.3"`},
		{"bad time", binary("", "ce-time", "yesterday"), "", "time"},
		{"bad content type", binary("", "ce-datacontenttype", "a b c"), "", "datacontenttype"},
		{"overlong UTF-8", binary("", "ce-subject", "%C0%A0"), "", "subject"},
		{"twice in one header", binary("", "ce-id", "2"), "", "id"},
		{"twice by case", binary("", "Ce-Id", "2"), "", "id"},
		{"bad extension name", binary("", "ce-my_ext", "2"), "", "my_ext"},
		{"extension named data", binary("", "ce-data", "2"), "", "data"},
		{"structured: no JSON", structured, "{", "JSON"},
		{"structured: an array", structured, "[]", "JSON"},
		{"structured: missing", structured, `{"specversion":"1.0"}`, "id, source, type"},
		{"structured: null id", structured, `{"specversion":"1.0","id":null,"source":"/s","type":"t"}`, "id"},
		{"structured: empty id", structured, `{"specversion":"1.0","id":"","source":"/s","type":"t"}`, "id"},
		{"structured: numeric id", structured, `{"specversion":"1.0","id":1,"source":"/s","type":"t"}`, "id must be a string"},
		{"structured: old version", structured, `{"specversion":"0.3","id":"1","source":"/s","type":"t"}`, `"0.3"`},
		{"structured: numeric base64", structured, `{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":5}`, "data_base64"},
		{"structured: bad base64", structured, `{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"*"}`, "data_base64"},
		{"structured: both data", structured, `{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"","data":1}`, "exclude"},
		{"structured: fraction", structured, `{"specversion":"1.0","id":"1","source":"/s","type":"t","sequence":1.5}`, "sequence"},
		{"structured: large integer", structured, `{"specversion":"1.0","id":"1","source":"/s","type":"t","sequence":4294967296}`, "sequence"},
		{"structured: object as extension", structured, `{"specversion":"1.0","id":"1","source":"/s","type":"t","ext":{}}`, "ext"},
		{"structured: empty name", structured, `{"specversion":"1.0","id":"1","source":"/s","type":"t","":1}`, "name"},
		{"structured: upper-case name", structured, `{"specversion":"1.0","id":"1","source":"/s","type":"t","myExt":"1"}`, "myExt"},
		{"structured: twice", structured, `{"specversion":"1.0","id":"1","source":"/s","type":"t","id":"2"}`, "more than once"},
		{"structured: twice, one of them no string", structured, `{"datacontenttype":"a/b","data_base64":5,"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"eA=="}`, "more than once"},
		{"structured: bad time", structured, `{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"x"}`, "time"},
		{"structured: text that is no string", structured, `{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain","data":{}}`, "text/plain"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, err := Decode(tc.header, []byte(tc.data))
			if !errors.Is(err, ErrEvent) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("got %v, %v, want ErrEvent saying %q", e.Context, err, tc.says)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	change := func(f func(*event.Event)) event.Event { e := testEvent(t); f(&e); return e }
	for _, tc := range []struct {
		name string
		e    event.Event
		says string
	}{
		{"no context", event.Event{}, "attributes"},
		{"no id", change(func(e *event.Event) { e.SetID("") }), "id"},
		{"no source", change(func(e *event.Event) { e.SetSource("") }), "source"},
		{"version 0.3", change(func(e *event.Event) { e.SetSpecVersion("0.3") }), "0.3"},
		{"no UTF-8", change(func(e *event.Event) { e.SetSubject("a\xff") }), "subject"},
		{"no UTF-8 in an extension", change(func(e *event.Event) { e.SetExtension("ext", "a\xff") }), "ext"},
		{"extension named data", change(func(e *event.Event) { e.SetExtension("data", "1") }), "data"},
		{"too large", change(func(e *event.Event) { e.DataEncoded = make([]byte, MaxCommandBytes) }), "262144"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for mode, encode := range map[string]func(string, event.Event) (*nats.Msg, error){"binary": Encode, "structured": EncodeStructured} {
				if _, err := encode(testSubject, tc.e); !errors.Is(err, ErrEvent) || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("%s: got %v, want ErrEvent saying %q", mode, err, tc.says)
				}
			}
		})
	}
	e := testEvent(t)
	e.DataEncoded = make([]byte, MaxCommandBytes)
	if _, err := Encode(testSubject, e); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a large command: %v, want ErrTooLarge", err)
	}
	if _, err := Encode("kranix.evt.docker.n1.shop.cart.running", e); err != nil {
		t.Errorf("the same size as an event: %v", err)
	}
	if _, err := Decode(nil, make([]byte, MaxMessageBytes+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a large message: %v, want ErrTooLarge", err)
	}
}

func TestMsgID(t *testing.T) {
	seen := map[string][2]string{}
	for _, pair := range [][2]string{{"a|b", "c"}, {"a", "b|c"}, {"a%7Cb", "c"}, {"a", "b c"}, {"a", "b%20c"}, {"a\r\n", "x"}} {
		id := MsgID(pair[0], pair[1])
		if other, taken := seen[id]; taken {
			t.Errorf("%q and %q share %q", pair, other, id)
		}
		seen[id] = pair
		if strings.ContainsAny(id, "\r\n ") {
			t.Errorf("%q breaks a header", id)
		}
	}
	if got := MsgID("/kranix/core", "01"); got != "/kranix/core|01" {
		t.Errorf("got %q", got)
	}
}

// TestMessageMetadata checks the reader on its own: the SDK's transformers use it.
func TestMessageMetadata(t *testing.T) {
	msg, err := Encode(testSubject, testEvent(t))
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMessage(msg.Header, msg.Data)
	if err != nil {
		t.Fatal(err)
	}
	if a, v := m.GetAttribute(spec.Type); a == nil || v != TypeDeploy {
		t.Errorf("type: %v, %v", a, v)
	}
	if a, v := m.GetAttribute(spec.DataSchema); a == nil || v != nil {
		t.Errorf("an absent attribute: %v, %v", a, v)
	}
	if v := m.GetExtension(ExtSequence); v != PadSequence(7) {
		t.Errorf("extension: %v", v)
	}
	if v := m.GetExtension("none"); v != nil {
		t.Errorf("an absent extension: %v", v)
	}
	if err := m.ReadStructured(t.Context(), nil); !errors.Is(err, binding.ErrNotStructured) {
		t.Errorf("ReadStructured: %v", err)
	}
	s, err := structured([]byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t"}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ReadBinary(t.Context(), nil); !errors.Is(err, binding.ErrNotBinary) {
		t.Errorf("ReadBinary: %v", err)
	}
	if err := errors.Join(m.Finish(nil), s.Finish(nil)); err != nil {
		t.Error(err)
	}
}
