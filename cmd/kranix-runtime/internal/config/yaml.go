package config

import (
	"errors"
	"reflect"

	"github.com/kranix-io/kranix-runtime/cmd/kranix-runtime/internal/yamldoc"
)

// readYAML sets what the file sets. It stops at nothing: every fault is returned.
func (l *Loaded) readYAML(text []byte) []Fault {
	docs, err := yamldoc.Parse(text)
	if err != nil {
		var faults []Fault
		for _, f := range yamldoc.Faults(err) {
			faults = append(faults, l.fault("", f.Line, f.Message))
		}
		return faults
	}
	if len(docs) == 0 {
		return nil
	}
	if len(docs) > 1 {
		return []Fault{l.fault("", docs[1].Line, "the file holds a second document; a configuration is one")}
	}
	root := docs[0]
	if root.Kind != yamldoc.Map {
		return []Fault{l.fault("", root.Line, "want sections such as \"docker:\", got "+root.Kind.String())}
	}
	r := &reader{Loaded: l, sections: map[string]section{}}
	for _, s := range sections(l.Config) {
		r.sections[s.name] = s
		r.names = append(r.names, s.name)
	}
	for _, e := range root.Entries {
		r.section(e)
	}
	return r.faults
}

func (l *Loaded) fault(key string, line int, message string) Fault {
	return Fault{Key: key, Source: Source{Kind: FromFile, Name: l.File, Line: line}, Message: message}
}

// reader carries the walk over the file.
type reader struct {
	*Loaded
	sections map[string]section
	names    []string
	faults   []Fault
}

func (r *reader) add(key string, line int, message string) {
	r.faults = append(r.faults, r.fault(key, line, message))
}

func (r *reader) section(e yamldoc.Entry) {
	s, ok := r.sections[e.Key]
	if !ok {
		r.add(e.Key, entryLine(e), "unknown section"+suggestion(e.Key, r.names)+r.homeOf(e.Key))
		return
	}
	switch e.Value.Kind {
	case yamldoc.Null:
		return
	case yamldoc.Map:
	default:
		r.add(e.Key, entryLine(e), "want a mapping of settings, got "+e.Value.Kind.String())
		return
	}
	var known []string
	keys := map[string]key{}
	for _, k := range s.keys {
		name := k.path[len(s.name)+1:]
		known = append(known, name)
		keys[name] = k
	}
	for _, entry := range e.Value.Entries {
		k, ok := keys[entry.Key]
		if !ok {
			r.add(s.name+"."+entry.Key, entryLine(entry), "unknown key"+suggestion(entry.Key, known))
			continue
		}
		r.set(k, entry)
	}
}

// homeOf helps who wrote a key without its section.
func (r *reader) homeOf(name string) string {
	for _, section := range r.names {
		for _, k := range r.sections[section].keys {
			if k.path == section+"."+name {
				return "; the key " + name + " belongs under " + section
			}
		}
	}
	return ""
}

// set decodes one value. A key with no value keeps its default.
func (r *reader) set(k key, e yamldoc.Entry) {
	line := entryLine(e)
	if e.Value.Kind == yamldoc.Null {
		return
	}
	r.sources[k.path] = Source{Kind: FromFile, Name: r.File, Line: line}
	switch k.value.Kind() {
	case reflect.Slice:
		if e.Value.Kind != yamldoc.List {
			r.add(k.path, line, "want a list, got "+e.Value.Kind.String())
			return
		}
		list := make([]string, 0, len(e.Value.Items))
		for i, item := range e.Value.Items {
			if !scalar(item) {
				r.add(index(k.path, i), item.Line, "want a text, got "+item.Kind.String())
				continue
			}
			list = append(list, item.Text)
		}
		k.value.Set(reflect.ValueOf(list))
	case reflect.Map:
		if e.Value.Kind != yamldoc.Map {
			r.add(k.path, line, "want a mapping, got "+e.Value.Kind.String())
			return
		}
		m := reflect.MakeMap(k.value.Type())
		for _, entry := range e.Value.Entries {
			err := errors.New("want a single value, got " + entry.Value.Kind.String())
			if scalar(entry.Value) {
				err = setEntry(m, entry.Key, entry.Value.Text)
			}
			if err != nil {
				r.add(k.path+"."+entry.Key, entryLine(entry), err.Error())
			}
		}
		k.value.Set(m)
	default:
		if !scalar(e.Value) {
			r.add(k.path, line, "want "+shape(k.value)+", got "+e.Value.Kind.String())
			return
		}
		if err := setText(k.value, e.Value.Text); err != nil {
			r.add(k.path, line, err.Error())
		}
	}
}

func scalar(n *yamldoc.Node) bool {
	return n.Kind == yamldoc.Text || n.Kind == yamldoc.Number || n.Kind == yamldoc.Bool
}

// entryLine is the line of the key, or of the value of a key that was merged in.
func entryLine(e yamldoc.Entry) int {
	if e.Line > 0 {
		return e.Line
	}
	return e.Value.Line
}
