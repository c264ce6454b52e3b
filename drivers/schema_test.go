package drivers

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"

	"github.com/kranix-io/kranix-runtime/subjects"
)

// deploySchema is the schema of a deploy command, as a tree.
type deploySchema struct {
	t    *testing.T
	root map[string]any
}

func loadDeploySchema(t *testing.T) deploySchema {
	t.Helper()
	text, ok := subjects.Schema(subjects.TypeDeploy)
	if !ok {
		t.Fatal("there is no schema of a deploy command")
	}
	s := deploySchema{t: t}
	if err := json.Unmarshal(text, &s.root); err != nil {
		t.Fatal(err)
	}
	return s
}

// resolve follows a reference; what stands beside it wins.
func (s deploySchema) resolve(node any) map[string]any {
	s.t.Helper()
	m, ok := node.(map[string]any)
	if !ok {
		s.t.Fatalf("not a schema: %v", node)
	}
	ref, ok := m["$ref"].(string)
	if !ok {
		return m
	}
	defs, _ := s.root["$defs"].(map[string]any)
	target, ok := defs[strings.TrimPrefix(ref, "#/$defs/")]
	if !ok {
		s.t.Fatalf("%s leads nowhere", ref)
	}
	merged := map[string]any{}
	for k, v := range s.resolve(target) {
		merged[k] = v
	}
	for k, v := range m {
		if k != "$ref" {
			merged[k] = v
		}
	}
	return merged
}

// The schema and the Go types name the same fields with the same types, both ways.
func TestSchemaAgreesWithSpec(t *testing.T) {
	s := loadDeploySchema(t)
	s.compare("", s.root, reflect.TypeFor[WorkloadSpec]())
}

func (s deploySchema) compare(path string, node any, goType reflect.Type) {
	s.t.Helper()
	schema := s.resolve(node)
	if goType.Kind() == reflect.Pointer {
		goType = goType.Elem()
	}
	types := schemaTypes(schema)
	if want := goTypes(s.t, path, goType); !slices.Equal(types, want) {
		s.t.Errorf("%s: the schema has %v, the Go type is %v", path, types, want)
		return
	}
	switch goType.Kind() {
	case reflect.Slice:
		s.compare(path+"[]", schema["items"], goType.Elem())
	case reflect.Map:
		names, _ := schema["patternProperties"].(map[string]any)
		if len(names) != 1 || schema["additionalProperties"] != false {
			s.t.Errorf("%s: the schema does not say which names are allowed", path)
		}
		for _, name := range sortedKeys(names) {
			s.compare(path+"{}", names[name], goType.Elem())
		}
	case reflect.Struct:
		if goType != reflect.TypeFor[resource.Quantity]() {
			s.compareFields(path, schema, goType)
		}
	}
}

func (s deploySchema) compareFields(path string, schema map[string]any, goType reflect.Type) {
	s.t.Helper()
	if schema["additionalProperties"] != false {
		s.t.Errorf("%s: the schema allows unknown fields", path)
	}
	properties, _ := schema["properties"].(map[string]any)
	names, index := fieldNames(goType)
	for _, name := range sortedKeys(properties) {
		if !slices.Contains(names, name) {
			s.t.Errorf("%s: only the schema has it", joinPath(path, name))
		}
	}
	for _, name := range names {
		property, ok := properties[name]
		if !ok {
			s.t.Errorf("%s: only the Go type has it", joinPath(path, name))
			continue
		}
		s.compare(joinPath(path, name), property, goType.Field(index[name]).Type)
	}
}

// schemaTypes is the type of a schema; an enumeration here is one of strings.
func schemaTypes(schema map[string]any) []string {
	switch v := schema["type"].(type) {
	case string:
		return []string{v}
	case []any:
		var types []string
		for _, e := range v {
			types = append(types, e.(string))
		}
		return types
	}
	if _, ok := schema["enum"]; ok {
		return []string{"string"}
	}
	return nil
}

func goTypes(t *testing.T, path string, goType reflect.Type) []string {
	t.Helper()
	switch {
	case goType == reflect.TypeFor[Duration]():
		return []string{"string"}
	case goType == reflect.TypeFor[resource.Quantity]():
		return []string{"string", "number"}
	}
	switch goType.Kind() {
	case reflect.String:
		return []string{"string"}
	case reflect.Bool:
		return []string{"boolean"}
	case reflect.Int, reflect.Int64:
		return []string{"integer"}
	case reflect.Slice:
		return []string{"array"}
	case reflect.Map, reflect.Struct:
		return []string{"object"}
	}
	t.Fatalf("%s: a spec holds a %s", path, goType)
	return nil
}

// Every default the schema names is the one WithDefaults fills in.
func TestSchemaAgreesWithDefaults(t *testing.T) {
	spec := (&WorkloadSpec{
		Name: "a", Image: "b",
		Ports: []Port{{ContainerPort: 1}}, Volumes: []Volume{{Source: "a", Target: "/a"}}, Networks: []Network{{Name: "a"}},
		Secrets:   []SecretUse{{Ref: SecretRef{Env: "A"}, File: "/b"}},
		Health:    &HealthCheck{HTTP: &HTTPProbe{Port: 1}},
		PreDeploy: &Hook{Command: []string{"a"}},
	}).WithDefaults()
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	var document map[string]any
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	s := loadDeploySchema(t)
	if n := s.compareDefaults("", s.root, document); n < 25 {
		t.Errorf("found only %d defaults", n)
	}
}

func (s deploySchema) compareDefaults(path string, node, value any) (found int) {
	s.t.Helper()
	schema := s.resolve(node)
	if want, ok := schema["default"]; ok {
		found++
		if value == nil {
			value = false // left out of the JSON
		}
		if !reflect.DeepEqual(normal(want), normal(value)) {
			s.t.Errorf("%s: the schema's default is %v, WithDefaults fills in %v", path, want, value)
		}
	}
	if items, ok := value.([]any); ok && len(items) > 0 {
		found += s.compareDefaults(path+"[]", schema["items"], items[0])
	}
	properties, _ := schema["properties"].(map[string]any)
	object, _ := value.(map[string]any)
	for _, name := range sortedKeys(properties) {
		found += s.compareDefaults(joinPath(path, name), properties[name], object[name])
	}
	return found
}

// normal makes "5m" and "5m0s" equal.
func normal(v any) any {
	if text, ok := v.(string); ok {
		if d, err := time.ParseDuration(text); err == nil {
			return d
		}
	}
	return v
}

// The schema refuses nothing that decoding and Validate accept: it is the weaker check
// of the two, and a producer that trusts it finds no surprises either way.
func TestSchemaAcceptsWhatIsValid(t *testing.T) {
	text, _ := subjects.Schema(subjects.TypeDeploy)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("kranix:///deploy", document); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("kranix:///deploy")
	if err != nil {
		t.Fatal(err)
	}
	accept := func(t interface{ Fatalf(string, ...any) }, text []byte) {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if err := schema.Validate(v); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := validSpec().Draw(t, "spec")
		for _, s := range []*WorkloadSpec{s, s.WithDefaults()} {
			text, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			accept(t, text)
		}
	})
	for _, text := range []string{
		`{"name":"a","image":"b","resources":{"cpu":0.5,"memory":1e9},"ttl":"1h0.5m","stop":{"signal":"SIGRTMAX-1","grace":"0"}}`,
		`{"name":"a","image":"[::1]:5000/a","namespace":"","user":"","workingDir":"","hostname":"","update":{"order":""},"volumes":[{"type":"","source":"v","target":"/a"}]}`,
		`{"name":"a","image":"b","labels":{"traefik.http.routers.r.tls.domains[0].main":"x"},"stop":{"signal":"9"},"user":"app$:0"}`,
	} {
		spec, err := DecodeSpec([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := spec.Validate(); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		accept(t, []byte(text))
	}
}
