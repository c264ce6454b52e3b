package drivers

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDecodeSpec(t *testing.T) {
	s, err := DecodeSpec([]byte(`{
		"name": "cart", "image": "nginx", "env": {"A": "b"}, "replicas": 0,
		"ports": [{"containerPort": 80, "publish": true}],
		"resources": {"cpu": 1.5, "memory": "256Mi"},
		"stop": {"grace": "0s"}, "ttl": "1h30m"
	}`))
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "cart" || s.Env["A"] != "b" || *s.Replicas != 0 || s.Ports[0] != (Port{ContainerPort: 80, Publish: true}) ||
		s.Resources.CPU.MilliValue() != 1500 || s.Resources.Memory.Value() != 256<<20 || *s.Stop.Grace != 0 || s.TTL.D() != 90*time.Minute {
		t.Errorf("got %+v", s)
	}
	if s.Namespace != "" || s.Update.Rollback != nil {
		t.Errorf("a default was filled in: %+v", s)
	}
}

func TestDecodeSpecReadsEscapes(t *testing.T) {
	s, err := DecodeSpec([]byte(`{"args":["\ud83d\ude00\u00e9","\\ud800","\uFFFD"]}`))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"😀é", `\ud800`, "\ufffd"}; !slices.Equal(s.Args, want) {
		t.Errorf("got %q, want %q", s.Args, want)
	}
}

func TestDecodeSpecRefuses(t *testing.T) {
	tests := []struct {
		name, data string
		want       []fault
	}{
		{"empty", " \n", one("", "the spec is empty")},
		{"null", "null", one("", "want an object, got null")},
		{"list", "[]", one("", "want an object, got a list")},
		{"cut off", `{"name": "a"`, one("", "not valid JSON at line 1, column 12: unexpected end")},
		{"bad byte", "{\n  \"name\": 'a'\n}", one("", "not valid JSON at line 2, column 11: invalid character '\\''")},
		{"trailing", `{} {}`, one("", "line 1, column 4: invalid character '{' after top-level value")},
		{"trailing comma", `{"name":"a",}`, one("", "line 1, column 13")},
		{"byte order mark", "\ufeff{}", one("", "not valid JSON at line 1")},
		{"not UTF-8", "{\"name\":\"\xff\"}", one("", "not valid UTF-8")},
		{"half a surrogate pair", `{"name":"\ud800"}`, one("", "half of a surrogate pair")},
		{"other half", `{"name":"\udc00\ud800"}`, one("", "half of a surrogate pair")},
		{"two first halves", `{"name":"\ud800\ud800"}`, one("", "half of a surrogate pair")},
		{"half before another escape", `{"name":"\ud800\n"}`, one("", "half of a surrogate pair")},
		{"too large", `"` + strings.Repeat("a", MaxSpecBytes) + `"`, one("", "at most 262144 are allowed")},
		{"deep", strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40), one("", "nested more than 32 deep")},
		{"very deep", strings.Repeat("[", 100_000), one("", "not valid JSON")},

		{"unknown", `{"resources":{"cpus":1},"port":[],"environment":{},"host_port":1,"zzz":1}`, []fault{
			{"resources.cpus", `is not a field; did you mean "cpu"?`}, {"port", `did you mean "ports"?`},
			{"environment", `did you mean "env"?`}, {"host_port", "is not a field"}, {"zzz", "is not a field"}}},
		{"unknown in a list", `{"ports":[{"containerPort":1},{"container_port":1}]}`, one("ports[1].container_port", `did you mean "containerPort"?`)},
		{"wrong case", `{"Name":"a"}`, one("Name", `did you mean "name"?`)},
		{"foreign", `{"entrypoint":[],"mem_limit":"1Gi"}`, []fault{{"entrypoint", `did you mean "command"?`}, {"mem_limit", "is not a field"}}},
		{"odd key", `{"a.b":1,"":2}`, []fault{{`["a.b"]`, "is not a field"}, {`[""]`, "is not a field"}}},
		{"twice", `{"name":"a","name":"b","env":{"A":"1","A":"2"},"labels":{},"labels":{}}`,
			[]fault{{"name", "is given twice"}, {"env.A", "is given twice"}, {"labels", "is given twice"}}},
		{"twice, escaped", `{"name":"a","n\u0061me":"b"}`, one("name", "is given twice")},

		{"types", `{"name":1,"tty":"yes","replicas":"3","ports":{},"env":[],"health":"x","args":[1,null]}`, []fault{
			{"name", "want a string, got a number"}, {"tty", "want a boolean, got a string"}, {"replicas", "want a whole number, got a string"},
			{"ports", "want a list, got an object"}, {"env", "want an object, got a list"}, {"health", "want an object, got a string"},
			{"args[0]", "want a string, got a number"}, {"args[1]", "want a string, got null"}}},
		{"null field", `{"env":null}`, one("env", "want an object, got null")},
		{"null in a map", `{"env":{"A":null}}`, one("env.A", "want a string, got null")},
		{"fraction", `{"replicas":1.5}`, one("replicas", `want a whole number of at most 64 bits, got "1.5"`)},
		{"exponent", `{"replicas":1e2}`, one("replicas", "want a whole number")},
		{"overflow", `{"resources":{"pids":9223372036854775808}}`, one("resources.pids", "at most 64 bits")},
		{"durations", `{"ttl":30,"stop":{"grace":"10"},"health":{"interval":"10 s"}}`, []fault{
			{"ttl", `want a duration with its unit, such as "30s" or "1m30s", got a number`}, {"stop.grace", `got "10"`}, {"health.interval", `got "10 s"`}}},
		{"quantities", `{"resources":{"cpu":"abc","memory":"256MB","shm":true,"gpu":{"count":1,"memory":"1e999999999"}},"logs":{"maxSize":""}}`, []fault{
			{"resources.cpu", `want a quantity such as "500m", "2" or "256Mi", got "abc"`}, {"resources.memory", `got "256MB"`},
			{"resources.shm", "got a boolean"}, {"resources.gpu.memory", `got "1e999999999"`}, {"logs.maxSize", `got ""`}}},
		{"quantity as a huge number", `{"resources":{"cpu":1e999999999}}`, one("resources.cpu", "want a quantity")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := DecodeSpec([]byte(tt.data))
			wantFaults(t, err, ErrInvalidSpec, tt.want...)
			if s != nil {
				t.Errorf("a spec comes with the error: %+v", s)
			}
		})
	}
}

// A secret that was put where a reference or another type belongs is not repeated.
func TestDecodeSpecRepeatsNoValue(t *testing.T) {
	for _, data := range []string{
		`{"secrets":[{"ref":"hunter2"}]}`, `{"registry":{"password":"hunter2"}}`, `{"password":"hunter2"}`,
		`{"replicas":"hunter2"}`, `{"tty":"hunter2"}`, `{"env":"hunter2"}`, `{"env":["A=hunter2"]}`,
	} {
		_, err := DecodeSpec([]byte(data))
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", data, err)
		}
	}
}

func TestDecodeSpecReportIsBounded(t *testing.T) {
	unknown := `{"` + strings.Repeat(`x":1,"`, 20_000) + `y":1}`
	start := time.Now()
	_, err := DecodeSpec([]byte(unknown))
	fields := err.(*FieldErrors).Fields
	if len(fields) != maxFaults+1 || fields[maxFaults].Message != "19901 more faults are not listed" {
		t.Errorf("got %d faults, the last %+v", len(fields), fields[len(fields)-1])
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
}

// Every field of a spec is read back, those added later included.
func TestDecodeSpecReadsEveryField(t *testing.T) {
	want := fullSpec(t)
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeSpec(data)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(got); err != nil || string(again) != string(data) {
		t.Errorf("got  %s\nwant %s (%v)", again, data, err)
	}
	// Nothing that encoding/json reads is read differently.
	plain := new(WorkloadSpec)
	if err := json.Unmarshal(data, plain); err != nil || !reflect.DeepEqual(plain, got) {
		t.Errorf("got %+v, encoding/json reads %+v (%v)", got, plain, err)
	}
}

func TestDecodeSpecRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := validSpec().Draw(t, "spec").WithDefaults()
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeSpec(data)
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if again, err := json.Marshal(got); err != nil || string(again) != string(data) {
			t.Fatalf("got  %s\nwant %s (%v)", again, data, err)
		}
		if want.Revision("id") != got.Revision("id") {
			t.Fatal("the round trip changed the revision")
		}
	})
}

func FuzzDecodeSpec(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"name":"a","image":"b"}`, `{"name":"a","image":"b","resources":{"cpu":"1e3","memory":1E-3,"shm":".5Gi"}}`,
		`{"ports":[{"containerPort":80,"hostPort":80}],"volumes":[{"target":"/a","size":"1n"}],"secrets":[{"ref":{"file":"a"}}]}`,
		`{"health":{"http":{"port":1,"headers":{"a":"b"}}},"ttl":"1h","env":{"A":"\ud800"}}`, `[[[[`, `{"a":{"a":{"a":{}}}}`, "\"\xff\"",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := DecodeSpec(data)
		if err != nil {
			if _, ok := errors.AsType[*FieldErrors](err); !ok || !errors.Is(err, ErrInvalidSpec) || s != nil {
				t.Fatalf("got %+v, %v", s, err)
			}
			return
		}
		// What is read strictly, encoding/json reads too, and as the same.
		plain := new(WorkloadSpec)
		if err := json.Unmarshal(data, plain); err != nil {
			t.Fatalf("encoding/json refuses it: %v", err)
		}
		if !reflect.DeepEqual(plain, s) {
			t.Fatalf("got %+v\nencoding/json reads %+v", s, plain)
		}
		d := s.WithDefaults()
		if err := d.Validate(); err != nil {
			return
		}
		if (Policy{}).Check(d); d.Revision("x") != s.Revision("x") {
			t.Fatal("defaults change the revision")
		}
		out, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeSpec(out)
		if err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if err := back.Validate(); err != nil || back.Revision("x") != d.Revision("x") {
			t.Fatalf("the round trip changed it: %s (%v)", out, err)
		}
	})
}
