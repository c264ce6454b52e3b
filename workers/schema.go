package workers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// maxSchemaFaults bounds a report, which travels in a result event.
const maxSchemaFaults = 100

// schemas checks the data of events against the JSON Schemas that ship in the binary.
// It is safe for concurrent use.
type schemas struct {
	compiled map[string]*jsonschema.Schema
}

// newSchemas compiles all schemas.
func newSchemas() (*schemas, error) {
	s := &schemas{compiled: make(map[string]*jsonschema.Schema)}
	for _, eventType := range subjects.SchemaTypes() {
		text, ok := subjects.Schema(eventType)
		if !ok {
			return nil, fmt.Errorf("compile schema of %s: %w", eventType, drivers.ErrNotFound)
		}
		compiled, err := compileSchema(eventType, text)
		if err != nil {
			return nil, fmt.Errorf("compile schema of %s: %w", eventType, err)
		}
		s.compiled[eventType] = compiled
	}
	return s, nil
}

func compileSchema(name string, text []byte) (*jsonschema.Schema, error) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	// A schema refers to itself only; nothing is ever loaded from a file or the network.
	c.UseLoader(jsonschema.SchemeURLLoader{})
	url := "kranix:///" + name
	if err := c.AddResource(url, document); err != nil {
		return nil, err
	}
	return c.Compile(url)
}

// check says what is wrong with the data of an event, as *drivers.FieldErrors
// (ErrInvalidSpec) with every fault's path, or returns nil. A type without a schema
// passes. Messages do not repeat values, which may be secrets in the wrong place.
func (s *schemas) check(eventType string, data []byte) error {
	schema := s.compiled[eventType]
	if schema == nil {
		return nil
	}
	f := &drivers.FieldErrors{Class: drivers.ErrInvalidSpec}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		f.Add("", "the data is not one JSON value: %v", err)
		return f
	}
	if path, ok := findHugeNumber("", document); ok {
		f.Add(path, "holds a number out of all proportion")
		return f
	}
	err = schema.Validate(document)
	if err == nil {
		return nil
	}
	fault, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return fmt.Errorf("check data of %s: %w", eventType, err)
	}
	r := schemaReport{document: document, seen: map[drivers.FieldError]bool{}}
	r.collect(fault)
	// The library walks objects in the random order of Go's maps.
	slices.SortFunc(r.fields, func(a, b drivers.FieldError) int {
		return strings.Compare(a.Path+"\x00"+a.Message, b.Path+"\x00"+b.Message)
	})
	if more := len(r.fields) - maxSchemaFaults; more > 0 {
		r.fields = append(r.fields[:maxSchemaFaults], drivers.FieldError{Message: fmt.Sprintf("%d more faults are not listed", more)})
	}
	f.Fields = r.fields
	return f
}

// findHugeNumber looks for numbers that the library, which computes with exact
// fractions, could not hold.
func findHugeNumber(path string, v any) (string, bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if p, ok := findHugeNumber(drivers.FieldPath(path, k), e); ok {
				return p, true
			}
		}
	case []any:
		for i, e := range v {
			if p, ok := findHugeNumber(drivers.IndexPath(path, i), e); ok {
				return p, true
			}
		}
	case json.Number:
		mantissa, exponent, _ := strings.Cut(strings.ToLower(v.String()), "e")
		n, err := strconv.Atoi(exponent)
		return path, len(mantissa) > 64 || exponent != "" && (err != nil || n > 400 || n < -400)
	}
	return "", false
}

// schemaReport turns a tree of validation errors into faults of fields.
type schemaReport struct {
	document any
	fields   []drivers.FieldError
	seen     map[drivers.FieldError]bool
}

func (r *schemaReport) add(path, message string) {
	if fault := (drivers.FieldError{Path: path, Message: message}); !r.seen[fault] {
		r.seen[fault] = true
		r.fields = append(r.fields, fault)
	}
}

// collect reports the leaves: what is above them only says that something below is
// wrong.
func (r *schemaReport) collect(e *jsonschema.ValidationError) {
	path := r.path(e.InstanceLocation)
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, field := range k.Missing {
			r.add(drivers.FieldPath(path, field), "is required")
		}
	case *kind.AdditionalProperties:
		for _, field := range k.Properties {
			r.add(drivers.FieldPath(path, field), "is not a field, or not a name that is allowed here")
		}
	default:
		if len(e.Causes) == 0 {
			r.add(path, describe(e.ErrorKind))
		}
		for _, cause := range e.Causes {
			r.collect(cause)
		}
	}
}

// path writes a location in the notation of drivers.FieldErrors; whether a step is an
// index or a key only the document tells.
func (r *schemaReport) path(location []string) string {
	path, at := "", r.document
	for _, step := range location {
		switch v := at.(type) {
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(v) {
				return path
			}
			path, at = drivers.IndexPath(path, i), v[i]
		case map[string]any:
			path, at = drivers.FieldPath(path, step), v[step]
		}
	}
	return path
}

// describe says what is wrong in the words Validate uses.
func describe(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return "want " + article(k.Want) + ", got " + article([]string{k.Got})
	case *kind.Enum:
		words := make([]string, 0, len(k.Want))
		for _, w := range k.Want {
			if w != "" {
				words = append(words, fmt.Sprint(w))
			}
		}
		return "want one of " + strings.Join(words, ", ")
	case *kind.Pattern:
		return "does not have the form " + k.Want
	case *kind.MinLength:
		return fmt.Sprintf("want at least %d characters, got %d", k.Want, k.Got)
	case *kind.MaxLength:
		return fmt.Sprintf("want at most %d characters, got %d", k.Want, k.Got)
	case *kind.MinItems:
		return fmt.Sprintf("want at least %d elements, got %d", k.Want, k.Got)
	case *kind.MaxItems:
		return fmt.Sprintf("want at most %d elements, got %d", k.Want, k.Got)
	case *kind.MinProperties:
		return fmt.Sprintf("want at least %d fields, got %d", k.Want, k.Got)
	case *kind.MaxProperties:
		return fmt.Sprintf("want at most %d fields, got %d", k.Want, k.Got)
	case *kind.Minimum:
		return "want at least " + number(k.Want)
	case *kind.Maximum:
		return "want at most " + number(k.Want)
	}
	return "is not allowed here (" + strings.Join(k.KeywordPath(), ".") + ")"
}

func number(r *big.Rat) string {
	return strings.TrimSuffix(strings.TrimRight(r.FloatString(6), "0"), ".")
}

// article names JSON types as DecodeSpec does.
func article(types []string) string {
	names := make([]string, 0, len(types))
	for _, t := range types {
		switch t {
		case "null":
			names = append(names, t)
		case "array":
			names = append(names, "a list")
		case "integer":
			names = append(names, "a whole number")
		case "object":
			names = append(names, "an object")
		default:
			names = append(names, "a "+t)
		}
	}
	return strings.Join(names, " or ")
}
