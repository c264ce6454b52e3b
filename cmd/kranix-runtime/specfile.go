package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kranix-io/kranix-runtime/cmd/kranix-runtime/internal/yamldoc"
	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// specDoc is one spec of a file.
type specDoc struct {
	// json is the spec as the user wrote it, which is what is published: defaults are the
	// runtime's to fill in.
	json []byte
	// spec is the same with defaults.
	spec *drivers.WorkloadSpec
	// namespace is where it goes.
	namespace string
}

// maxSpecFile bounds a spec file, in bytes: room for dozens of the largest specs.
const maxSpecFile = 16 << 20

// readSpecs reads and checks every spec of a file ("-" is standard input). The error
// lists every fault with its line.
func (a *app) readSpecs(file, namespace string) ([]specDoc, error) {
	text, name, err := a.readInput(file)
	if err != nil {
		return nil, err
	}
	docs, err := yamldoc.Parse(text)
	if err != nil {
		return nil, exitWith(exitUsage, locate(name, err))
	}
	if len(docs) == 0 {
		return nil, exitf(exitUsage, "%s holds no spec", name)
	}
	var specs []specDoc
	var faults []string
	seen := map[string]int{}
	for _, doc := range docs {
		s, err := readSpec(doc, namespace)
		if err != nil {
			faults = append(faults, describeFaults(name, doc, err)...)
			continue
		}
		id := s.backendOf() + " " + s.spec.ID()
		if line, ok := seen[id]; ok {
			faults = append(faults, fmt.Sprintf("%s:%d: %s is in this file already, on line %d", name, doc.Line, s.spec.ID(), line))
		}
		seen[id] = doc.Line
		specs = append(specs, s)
	}
	if len(faults) > 0 {
		return nil, exitf(exitUsage, "nothing was deployed:\n%s", strings.Join(faults, "\n"))
	}
	return specs, nil
}

func (a *app) readInput(file string) (text []byte, name string, err error) {
	in, name := a.stdin, "standard input"
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, "", exitf(exitUsage, "read spec: %w", err)
		}
		defer func() { _ = f.Close() }()
		in, name = f, file
	}
	text, err = io.ReadAll(io.LimitReader(in, maxSpecFile+1))
	if err != nil {
		return nil, "", exitf(exitUsage, "read spec: %w", err)
	}
	if len(text) > maxSpecFile {
		return nil, "", exitf(exitUsage, "read spec: %s is larger than %s", name, byteCount(maxSpecFile))
	}
	return text, name, nil
}

// readSpec turns a document into a checked spec. namespace, when set, is for specs that
// name none.
func readSpec(doc *yamldoc.Node, namespace string) (specDoc, error) {
	text, err := doc.JSON()
	if err != nil {
		return specDoc{}, err
	}
	spec, err := drivers.DecodeSpec(text)
	if err != nil {
		return specDoc{}, err
	}
	if namespace != "" {
		if spec.Namespace != "" && spec.Namespace != namespace {
			f := &drivers.FieldErrors{Class: drivers.ErrInvalidSpec}
			f.Add("namespace", "is %q, but --namespace is %q", spec.Namespace, namespace)
			return specDoc{}, f
		}
		spec.Namespace = namespace
	}
	spec = spec.WithDefaults()
	if err := spec.Validate(); err != nil {
		return specDoc{}, err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return specDoc{}, fmt.Errorf("write spec as JSON: %w", err)
	}
	if compact.Len() > subjects.MaxCommandBytes {
		return specDoc{}, fmt.Errorf("the spec has %d bytes as JSON, a command at most %d", compact.Len(), subjects.MaxCommandBytes)
	}
	return specDoc{json: compact.Bytes(), spec: spec, namespace: spec.Namespace}, nil
}

// describeFaults writes each fault with the file's line.
func describeFaults(name string, doc *yamldoc.Node, err error) []string {
	var fields *drivers.FieldErrors
	if errors.As(err, &fields) {
		out := make([]string, len(fields.Fields))
		for i, f := range fields.Fields {
			path := f.Path
			if path != "" {
				path += ": "
			}
			out[i] = fmt.Sprintf("%s:%d: %s%s", name, doc.LineOf(f.Path), path, f.Message)
		}
		return out
	}
	if faults := yamldoc.Faults(err); len(faults) > 0 {
		return strings.Split(locate(name, err).Error(), "\n")
	}
	return []string{fmt.Sprintf("%s:%d: %v", name, doc.Line, err)}
}

// locate puts the file's name before each fault of a document.
func locate(name string, err error) error {
	var lines []string
	for _, f := range yamldoc.Faults(err) {
		lines = append(lines, fmt.Sprintf("%s:%d: %s", name, f.Line, f.Message))
	}
	return errors.New(strings.Join(lines, "\n"))
}

// backendOf is the backend of a spec as the user wrote it: without one the runtime's
// default is meant, which only the runtime knows.
func (s specDoc) backendOf() string { return first(s.spec.Backend, subjects.Any) }
