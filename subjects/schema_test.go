package subjects

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func compile(t testing.TB, eventType string) *jsonschema.Schema {
	t.Helper()
	raw, ok := Schema(eventType)
	if !ok {
		t.Fatalf("no schema of %s", eventType)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("%s: %v", eventType, err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	c.AssertContent()
	if err := c.AddResource(eventType, doc); err != nil {
		t.Fatalf("%s: %v", eventType, err)
	}
	s, err := c.Compile(eventType)
	if err != nil {
		t.Fatalf("%s: %v", eventType, err)
	}
	return s
}

func TestEveryTypeHasASchema(t *testing.T) {
	types := SchemaTypes()
	for _, v := range Verbs() {
		if !slices.Contains(types, CommandType(v)) {
			t.Errorf("%s is not listed", CommandType(v))
		}
	}
	for _, typ := range types {
		compile(t, typ)
	}
	compile(t, WorkloadType("running"))
	for _, typ := range []string{"", "io.kranix.command.scale.v1", "io.kranix.workload..v1", "io.kranix.workload.a.b.v1", "io.kranix.workload.v1", "io.kranix.result.maybe.v1", "io.kranix.command.deploy.v2", "../doc", "io.kranix./../doc.v1"} {
		if _, ok := Schema(typ); ok {
			t.Errorf("%q has a schema", typ)
		}
	}
}

// dataTypes are the types whose schema is written by hand beside the Go type. That of
// deploy belongs to drivers.WorkloadSpec and is compared there.
func dataTypes() map[string]reflect.Type {
	return map[string]reflect.Type{
		TypeDestroy:             reflect.TypeFor[DestroyData](),
		TypeRestart:             reflect.TypeFor[RestartData](),
		TypeAssignment:          reflect.TypeFor[AssignmentData](),
		TypeLog:                 reflect.TypeFor[LogData](),
		TypeMetric:              reflect.TypeFor[MetricData](),
		TypeDeadLetter:          reflect.TypeFor[DeadLetterData](),
		WorkloadType("running"): reflect.TypeFor[WorkloadEvent](),
		ResultType(Done):        reflect.TypeFor[ResultData](),
	}
}

func TestSchemasAgreeWithTheGoTypes(t *testing.T) {
	for typ, goType := range dataTypes() {
		t.Run(typ, func(t *testing.T) {
			raw, ok := Schema(typ)
			if !ok {
				t.Fatal("no schema")
			}
			var doc map[string]any
			if err := json.Unmarshal(raw, &doc); err != nil {
				t.Fatal(err)
			}
			agree(t, doc, doc, goType, typ)
		})
	}
}

// agree compares the properties of an object schema with the fields of a struct, in
// both directions, and goes down into both.
func agree(t *testing.T, root, schema map[string]any, typ reflect.Type, at string) {
	t.Helper()
	if ref, ok := schema["$ref"].(string); ok {
		name, _ := strings.CutPrefix(ref, "#/$defs/")
		defs, _ := root["$defs"].(map[string]any)
		target, ok := defs[name].(map[string]any)
		if !ok {
			t.Errorf("%s: %s leads nowhere", at, ref)
			return
		}
		agree(t, root, target, typ, at)
		return
	}
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if want := jsonTypes(typ); len(want) > 0 && !overlap(schemaTypes(schema), want) {
		t.Errorf("%s: the schema says %v, the Go type %s is %v", at, schemaTypes(schema), typ, want)
	}
	switch {
	case typ == reflect.TypeFor[time.Time](), typ == reflect.TypeFor[json.RawMessage](), typ == reflect.TypeFor[[]byte]():
	case typ.Kind() == reflect.Slice:
		items, ok := schema["items"].(map[string]any)
		if !ok {
			t.Errorf("%s: no items", at)
			return
		}
		agree(t, root, items, typ.Elem(), at+"[]")
	case typ.Kind() == reflect.Struct:
		agreeFields(t, root, schema, typ, at)
	}
}

func agreeFields(t *testing.T, root, schema map[string]any, typ reflect.Type, at string) {
	t.Helper()
	properties, _ := schema["properties"].(map[string]any)
	required, _ := schema["required"].([]any)
	seen := map[string]bool{}
	for i := range typ.NumField() {
		name, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		seen[name] = true
		property, ok := properties[name].(map[string]any)
		if !ok {
			t.Errorf("%s: the schema has no %q", at, name)
			continue
		}
		if property["description"] == nil {
			t.Errorf("%s: %q has no description", at, name)
		}
		if always := !strings.Contains(options, "omit"); always != slices.Contains(required, any(name)) {
			t.Errorf("%s: %q is required: %v in the schema, %v in Go", at, name, !always, always)
		}
		agree(t, root, property, typ.Field(i).Type, at+"."+name)
	}
	for name := range maps.Keys(properties) {
		if !seen[name] {
			t.Errorf("%s: the Go type %s has no %q", at, typ, name)
		}
	}
}

func schemaTypes(schema map[string]any) []string {
	switch typ := schema["type"].(type) {
	case string:
		return []string{typ}
	case []any:
		var names []string
		for _, one := range typ {
			names = append(names, one.(string))
		}
		return names
	}
	if schema["enum"] != nil {
		return []string{"string"}
	}
	return nil
}

func jsonTypes(typ reflect.Type) []string {
	switch typ {
	case reflect.TypeFor[time.Time](), reflect.TypeFor[[]byte]():
		return []string{"string"}
	case reflect.TypeFor[json.RawMessage]():
		return nil // anything
	}
	switch typ.Kind() {
	case reflect.String:
		return []string{"string"}
	case reflect.Bool:
		return []string{"boolean"}
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return []string{"integer"}
	case reflect.Float64:
		return []string{"number"}
	case reflect.Slice:
		return []string{"array"}
	}
	return []string{"object"}
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

func examples() map[string][]any {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	id := CommandID("/core", "1")
	instance, exit, percent := 0, 137, 12.5
	raw := json.RawMessage(`{"phase":"running"}`)
	return map[string][]any{
		TypeDestroy:    {DestroyData{}, DestroyData{Deadline: "1h30m"}},
		TypeRestart:    {RestartData{}, RestartData{Deadline: "1.5h"}},
		TypeAssignment: {AssignmentData{Sequence: 1}, AssignmentData{Sequence: 1<<64 - 1}},
		TypeLog: {LogData{InstanceID: "abc"}, LogData{
			InstanceID: "abc",
			Lines:      []LogEntry{{Time: now, Stream: "stderr", Line: "x\ufffd", Base64: []byte{0xff}, Truncated: true}},
			Gap:        &LogGap{Lines: 3, From: now, To: now, Reason: "rotated"},
			Cursors:    []LogCursor{{InstanceID: "abc", Stream: "stdout", Time: now, Same: 2}},
		}},
		TypeMetric: {MetricData{At: now}, MetricData{At: now, Instances: []InstanceMetric{{InstanceID: "abc", CPUNanoseconds: 1 << 60, CPUPercent: &percent, MemoryBytes: 1, MemoryLimitBytes: 2, PIDs: 3}}}},
		TypeDeadLetter: {DeadLetterData{Subject: testSubject, Sequence: 1, Reason: "Malformed"}, DeadLetterData{
			Subject: testSubject, Sequence: 1, CommandID: id, Reason: "Failed", Message: "m", Command: raw, Raw: []byte("x"), Headers: map[string][]string{"a": {"b"}},
			Truncated: true, Attempts: []AttemptData{{Attempt: 1, At: now, Error: "e"}}, Evidence: raw, Status: raw,
		}},
		WorkloadType("oom-killed"): {WorkloadEvent{Phase: "oom-killed"}, WorkloadEvent{
			Phase: "oom-killed", Reason: "r", Message: "m", Instance: &instance, ExitCode: &exit, Attempt: 1, Progress: &ProgressData{Current: 1, Total: 2}, Status: raw,
		}},
		ResultType(Failed): {ResultData{Outcome: Failed, CommandID: id}, ResultData{
			Outcome: Rejected, CommandID: id, Source: "/core", ID: "1", Verb: Deploy, Sequence: 1<<64 - 1, Reason: "r", Message: "m", Fields: []FieldFault{{Path: "image", Message: "m"}},
			SupersededBy: 2, RolledBack: true, Attempts: 3, Evidence: raw, Status: raw, StartedAt: now, FinishedAt: now, Node: "n1",
		}},
	}
}

func TestExamplesAreValid(t *testing.T) {
	for typ, values := range examples() {
		schema := compile(t, typ)
		for _, value := range values {
			raw, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate(schema, raw); err != nil {
				t.Errorf("%s: %s: %v", typ, raw, err)
			}
		}
	}
}

func validate(schema *jsonschema.Schema, raw []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

func TestSchemasRefuse(t *testing.T) {
	id := CommandID("/core", "1")
	for _, tc := range []struct{ typ, data string }{
		{TypeDestroy, `{"deadline":5}`}, {TypeDestroy, `{"deadline":"5"}`}, {TypeDestroy, `{"deadline":"-5m"}`}, {TypeDestroy, `{"deadlin":"5m"}`}, {TypeDestroy, `[]`},
		{TypeRestart, `{"deadline":"5m "}`},
		{TypeAssignment, `{}`}, {TypeAssignment, `{"sequence":0}`}, {TypeAssignment, `{"sequence":"1"}`}, {TypeAssignment, `{"sequence":1,"node":"n1"}`},
		{TypeLog, `{"instance":0}`}, {TypeLog, `{"instance":-1,"instanceId":"a"}`}, {TypeLog, `{"instance":0,"instanceId":"a","lines":[{"time":"now","stream":"stdout","line":""}]}`},
		{TypeLog, `{"instance":0,"instanceId":"a","lines":[{"time":"2026-01-02T03:04:05Z","stream":"log","line":""}]}`},
		{TypeMetric, `{"at":"2026-01-02T03:04:05Z"}`},
		{TypeDeadLetter, `{"subject":"a","sequence":1}`}, {TypeDeadLetter, `{"subject":"a","sequence":1,"reason":"r","raw":"*"}`},
		{WorkloadType("running"), `{}`}, {WorkloadType("running"), `{"phase":"Running"}`},
		{ResultType(Done), `{"outcome":"won","commandId":"` + id + `","sequence":1}`}, {ResultType(Done), `{"outcome":"done","commandId":"x","sequence":1}`},
	} {
		if err := validate(compile(t, tc.typ), []byte(tc.data)); err == nil {
			t.Errorf("%s: %s was accepted", tc.typ, tc.data)
		}
	}
}
