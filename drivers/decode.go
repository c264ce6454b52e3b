package drivers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// The bounds of what DecodeSpec reads.
const (
	// MaxSpecBytes is the largest spec: what a command's message can hold.
	MaxSpecBytes = 256 << 10
	// maxDepth bounds nesting; a spec itself is 5 deep.
	maxDepth = 32
)

// DecodeSpec reads a spec from JSON, strictly: unknown fields, keys given twice, values
// of the wrong type (null is one) and anything after the object are refused, and field names are
// compared with their case. Every such fault is reported at once with its path, as
// *FieldErrors (ErrInvalidSpec); text that is not JSON is reported with its line and
// column. Messages never repeat a value, which may be a secret in the wrong place,
// except where a quantity or a duration was wanted.
//
// It neither fills in defaults nor validates.
func DecodeSpec(data []byte) (*WorkloadSpec, error) {
	var d decoder
	spec := new(WorkloadSpec)
	if fault := unreadable(data); fault != "" {
		d.add("", "%s", fault)
		return nil, d.err(ErrInvalidSpec)
	}
	root, err := d.parse(data)
	if err != nil {
		d.add("", "%v", err)
		return nil, d.err(ErrInvalidSpec)
	}
	if root.kind != kindObject {
		d.add("", "want an object, got %s", root.kind)
	} else {
		d.into("", root, reflect.ValueOf(spec).Elem())
	}
	if err := d.err(ErrInvalidSpec); err != nil {
		return nil, err
	}
	return spec, nil
}

// unreadable says why data is not one JSON value, or is empty.
func unreadable(data []byte) string {
	switch {
	case len(data) > MaxSpecBytes:
		return fmt.Sprintf("the spec is %d bytes, at most %d are allowed", len(data), MaxSpecBytes)
	case len(bytes.TrimSpace(data)) == 0:
		return "the spec is empty, want a JSON object"
	case !utf8.Valid(data):
		return "the spec is not valid UTF-8"
	}
	// A RawMessage is checked and not built, so that nothing deep or large is made of
	// what turns out not to be JSON.
	var raw json.RawMessage
	err := json.Unmarshal(data, &raw)
	if err == nil {
		if hasLoneSurrogate(data) {
			return "a \\u escape is half of a surrogate pair, which is no character"
		}
		return ""
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		line, column := position(data, syntax.Offset)
		return fmt.Sprintf("not valid JSON at line %d, column %d: %v", line, column, err)
	}
	return fmt.Sprintf("not valid JSON: %v", err)
}

// position turns the offset just after the offending byte into a line and a column,
// both from 1.
func position(data []byte, offset int64) (line, column int) {
	before := data[:max(0, min(int(offset)-1, len(data)))]
	return 1 + bytes.Count(before, []byte("\n")), len(before) - bytes.LastIndexByte(before, '\n')
}

// hasLoneSurrogate finds what encoding/json would replace without a word. data is valid
// JSON.
func hasLoneSurrogate(data []byte) bool {
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		if i++; data[i] != 'u' {
			continue
		}
		switch unit := escaped(data[i:]); {
		case !utf16.IsSurrogate(unit):
		case data[i+5] == '\\' && data[i+6] == 'u' && utf16.DecodeRune(unit, escaped(data[i+6:])) != utf8.RuneError:
			i += 6
		default:
			return true
		}
	}
	return false
}

// escaped reads the code unit of an escape that begins with 'u'.
func escaped(data []byte) rune {
	unit, _ := strconv.ParseUint(string(data[1:5]), 16, 16)
	return rune(unit)
}

// kind is the type of a JSON value, as a message names it.
type kind string

const (
	kindObject kind = "an object"
	kindArray  kind = "a list"
	kindString kind = "a string"
	kindNumber kind = "a number"
	kindBool   kind = "a boolean"
	kindNull   kind = "null"
)

// node is a JSON value. encoding/json would not tell which keys were given twice.
type node struct {
	kind    kind
	text    string // of a string or a number
	truth   bool
	items   []node
	members []member
}

type member struct {
	key   string
	value node
}

// decoder fills a spec from nodes and collects what does not fit.
type decoder struct{ faults }

func (d *decoder) parse(data []byte) (node, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return parseNode(dec, 0)
}

func parseNode(dec *json.Decoder, depth int) (node, error) {
	if depth > maxDepth {
		return node{}, fmt.Errorf("the spec is nested more than %d deep", maxDepth)
	}
	token, err := dec.Token()
	if err != nil {
		return node{}, fmt.Errorf("not valid JSON: %w", err)
	}
	switch t := token.(type) {
	case string:
		return node{kind: kindString, text: t}, nil
	case json.Number:
		return node{kind: kindNumber, text: t.String()}, nil
	case bool:
		return node{kind: kindBool, truth: t}, nil
	case json.Delim:
		if t == '{' {
			return parseObject(dec, depth)
		}
		return parseArray(dec, depth)
	}
	return node{kind: kindNull}, nil
}

func parseObject(dec *json.Decoder, depth int) (node, error) {
	n := node{kind: kindObject}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return node{}, fmt.Errorf("not valid JSON: %w", err)
		}
		name, _ := token.(string)
		value, err := parseNode(dec, depth+1)
		if err != nil {
			return node{}, err
		}
		n.members = append(n.members, member{name, value})
	}
	_, err := dec.Token()
	return n, err
}

func parseArray(dec *json.Decoder, depth int) (node, error) {
	n := node{kind: kindArray}
	for dec.More() {
		item, err := parseNode(dec, depth+1)
		if err != nil {
			return node{}, err
		}
		n.items = append(n.items, item)
	}
	_, err := dec.Token()
	return n, err
}

// fieldNames lists the JSON names of a struct's fields with their index.
func fieldNames(t reflect.Type) (names []string, index map[string]int) {
	index = make(map[string]int, t.NumField())
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
		index[name] = i
	}
	return names, index
}

// foreignNames maps what other systems call a thing to our name for it, where the two
// are not alike.
func foreignNames() map[string]string {
	return map[string]string{
		"entrypoint": "command", "cmd": "args", "environment": "env", "scale": "replicas",
		"workdir": "workingDir", "cwd": "workingDir", "mounts": "volumes", "ulimit": "ulimits",
		"mem": "memory", "memlimit": "memory", "cpus": "cpu", "pidslimit": "pids",
		"readiness": "health", "livenessProbe": "health", "instances": "replicas",
		"gracePeriod": "grace", "limits": "resources", "shmSize": "shm",
	}
}

// suggestField proposes a field for an unknown one.
func suggestField(name string, known []string) string {
	for foreign, ours := range foreignNames() {
		for _, k := range known {
			if k == ours && fold(foreign) == fold(name) {
				return meaning(ours)
			}
		}
	}
	return didYouMean(name, known)
}
