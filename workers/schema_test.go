package workers

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

func TestSchemasCompileForEveryType(t *testing.T) {
	s, err := newSchemas()
	if err != nil {
		t.Fatal(err)
	}
	for _, eventType := range subjects.SchemaTypes() {
		if s.compiled[eventType] == nil {
			t.Errorf("no schema for %s", eventType)
		}
	}
}

// The library gives faults of propertyNames a location that it overwrites while it goes
// on: patternProperties says the same and is reported at the right place.
func TestSchemasUseNoPropertyNames(t *testing.T) {
	for _, eventType := range subjects.SchemaTypes() {
		if text, _ := subjects.Schema(eventType); bytes.Contains(text, []byte(`"propertyNames"`)) {
			t.Errorf("the schema of %s uses propertyNames", eventType)
		}
	}
}

func TestSchemaCheckNamesTheField(t *testing.T) {
	s, err := newSchemas()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, data string
		want       []string // "path: part of the message"
	}{
		{"good", `{"name":"cart","image":"nginx"}`, nil},
		{"number as quantity", `{"name":"a","image":"b","resources":{"cpu":0.5}}`, nil},
		{"not JSON", `{"name":`, []string{": the data is not one JSON value"}},
		{"trailing", `{"name":"a","image":"b"} {}`, []string{": the data is not one JSON value"}},
		{"list", `[]`, []string{": want an object, got a list"}},
		{"missing", `{}`, []string{"name: is required", "image: is required"}},
		{"wrong type", `{"name":"a","image":"b","ports":[{"containerPort":1},{"containerPort":"80"}]}`,
			[]string{"ports[1].containerPort: want a whole number, got a string"}},
		{"null", `{"name":"a","image":"b","env":null}`, []string{"env: want an object, got null"}},
		{"unknown", `{"name":"a","image":"b","resources":{"cpus":1},"x":1,"y z":1}`,
			[]string{"resources.cpus: is not a field", "x: is not a field", `["y z"]: is not a field`}},
		{"bounds", `{"name":"a","image":"b","replicas":1001,"ports":[{"containerPort":0,"hostPort":70000}]}`,
			[]string{"replicas: want at most 1000", "ports[0].containerPort: want at least 1", "ports[0].hostPort: want at most 65535"}},
		{"enum", `{"name":"a","image":"b","volumes":[{"type":"nfs","target":"/a"}]}`,
			[]string{"volumes[0].type: want one of volume, bind, tmpfs"}},
		{"pattern", `{"name":"A B","image":"b"}`, []string{"name: does not have the form"}},
		{"map key", `{"name":"a","image":"b","env":{"A B":"x"}}`, []string{`env["A B"]: is not a field, or not a name`}},
		{"map value", `{"name":"a","image":"b","labels":{"a.b":1}}`, []string{`labels["a.b"]: want a string, got a number`}},
		{"keys like indexes", `{"name":"a","image":"b","labels":{"0":1}}`, []string{`labels["0"]: want a string`}},
		{"huge number", `{"name":"a","image":"b","replicas":1e999999999}`, []string{"replicas: holds a number out of all proportion"}},
		{"huge negative exponent", `{"name":"a","image":"b","replicas":1e-999999999}`, []string{"replicas: holds a number out of all proportion"}},
		{"long number", `{"name":"a","image":"b","replicas":` + strings.Repeat("9", 100) + `}`, []string{"replicas: holds a number out of all proportion"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := s.check(subjects.TypeDeploy, []byte(tt.data))
			if len(tt.want) == 0 {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			fields := fieldsOf(t, err)
			if len(fields) != len(tt.want) {
				t.Errorf("got %d faults, want %d: %v", len(fields), len(tt.want), err)
			}
			for _, want := range tt.want {
				if !slices.ContainsFunc(fields, func(f drivers.FieldError) bool {
					return strings.HasPrefix(f.Path+": "+f.Message, want)
				}) {
					t.Errorf("no fault %q in %v", want, err)
				}
			}
		})
	}
}

func fieldsOf(t *testing.T, err error) []drivers.FieldError {
	t.Helper()
	if !errors.Is(err, drivers.ErrInvalidSpec) {
		t.Fatalf("got %v, want an error of class invalid spec", err)
	}
	f, ok := errors.AsType[*drivers.FieldErrors](err)
	if !ok {
		t.Fatalf("got %T, want *drivers.FieldErrors", err)
	}
	return f.Fields
}

func TestSchemaCheckRepeatsNoValue(t *testing.T) {
	s, err := newSchemas()
	if err != nil {
		t.Fatal(err)
	}
	const secret = "hunter2 hunter2"
	for _, data := range []string{
		`{"name":"` + secret + `","image":"b"}`,
		`{"name":"a","image":"https://me:` + secret + `@host/b"}`,
		`{"name":"a","image":"b","secrets":[{"ref":"` + secret + `"}]}`,
		`{"name":"a","image":"b","secrets":[{"ref":{"env":"` + secret + `"},"env":"A"}]}`,
		`{"name":"a","image":"b","pullPolicy":"` + secret + `"}`,
	} {
		err := s.check(subjects.TypeDeploy, []byte(data))
		if err == nil {
			t.Errorf("accepted %s", data)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error repeats the value: %v", err)
		}
	}
}

func TestSchemaReportIsBounded(t *testing.T) {
	s, err := newSchemas()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(`{"name":"a","image":"b","args":[0`)
	for range 900 {
		b.WriteString(",1")
	}
	b.WriteString("]}")
	fields := fieldsOf(t, s.check(subjects.TypeDeploy, []byte(b.String())))
	if len(fields) != maxSchemaFaults+1 || fields[maxSchemaFaults].Message != "801 more faults are not listed" {
		t.Errorf("got %d faults, the last %v", len(fields), fields[len(fields)-1])
	}
}

func TestSchemaCheckIsDeterministicAndConcurrent(t *testing.T) {
	s, err := newSchemas()
	if err != nil {
		t.Fatal(err)
	}
	data := []byte(`{"name":1,"image":2,"env":[],"args":{},"tty":0,"z":1,"y":2,"x":3}`)
	want := s.check(subjects.TypeDeploy, data).Error()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if got := s.check(subjects.TypeDeploy, data).Error(); got != want {
					t.Errorf("got %s\nthen %s", want, got)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestSchemaCheckPassesTypesWithoutSchema(t *testing.T) {
	s, err := newSchemas()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.check("com.example.other", []byte("no JSON")); err != nil {
		t.Error(err)
	}
}

func FuzzSchemaCheck(f *testing.F) {
	s, err := newSchemas()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"name":"a","image":"b","resources":{"cpu":1e400},"ports":[{"containerPort":-1e5}]}`))
	f.Add([]byte(`{"name":"a","image":"b","labels":{"":""},"env":{"\u0000":""}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := s.check(subjects.TypeDeploy, data); err != nil {
			fieldsOf(t, err)
		}
	})
}
