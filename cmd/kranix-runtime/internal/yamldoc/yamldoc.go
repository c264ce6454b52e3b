// Package yamldoc reads YAML into a small tree that knows its lines, so that a fault
// found later, by whoever gives the values a meaning, can name the line it is on.
//
// Anchors, aliases and merge keys are resolved here; tags and keys that are not plain
// texts are refused. Nothing is decoded into Go types.
package yamldoc

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Kind says what a node is.
type Kind int

// The kinds of node.
const (
	Null Kind = iota
	Text
	Number
	Bool
	List
	Map
)

// String names the kind as a user would.
func (k Kind) String() string {
	return [...]string{"nothing", "a text", "a number", "true or false", "a list", "a mapping"}[k]
}

// Node is a value.
type Node struct {
	Kind Kind
	// Line is where the value starts, from 1.
	Line int
	// Text is a scalar's text as written, without quotes.
	Text string
	// Items are the values of a list, Entries those of a mapping, in order.
	Items   []*Node
	Entries []Entry
}

// Entry is one key of a mapping.
type Entry struct {
	Key   string
	Line  int
	Value *Node
}

// Fault is something wrong on a line.
type Fault struct {
	Line    int
	Message string
}

func (f *Fault) Error() string { return fmt.Sprintf("line %d: %s", f.Line, f.Message) }

// maxNodes bounds what aliases can blow a document up to.
const maxNodes = 100_000

// Parse reads all documents. Empty ones are left out. The error joins *Fault values,
// which Faults takes apart.
func Parse(text []byte) ([]*Node, error) {
	var docs []*Node
	var faults []error
	for _, part := range split(string(text)) {
		file, err := parser.ParseBytes([]byte(part.text), 0, parser.AllowDuplicateMapKey())
		if err != nil {
			faults = append(faults, syntaxFault(err, part.before))
			continue
		}
		for _, d := range file.Docs {
			if d.Body == nil {
				continue
			}
			b := &builder{before: part.before, anchors: map[string]*Node{}, left: maxNodes}
			n := b.node(d.Body)
			faults = append(faults, b.faults...)
			if n.Kind != Null {
				docs = append(docs, n)
			}
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return docs, nil
}

// part is the text of one document and the number of lines before it.
type part struct {
	text   string
	before int
}

// split cuts the text at the document markers, which YAML allows nowhere else at the
// start of a line. The parser is not left to do it because it drops everything after an
// empty document.
func split(text string) []part {
	var parts []part
	var b strings.Builder
	start, n := 0, 0
	for line := range strings.Lines(text) {
		rest, marker := strings.CutPrefix(line, "---")
		end := strings.TrimRight(line, " \t\r\n") == "..."
		switch {
		case end, marker && (rest == "" || strings.ContainsRune(" \t\r\n", rune(rest[0]))):
			parts = append(parts, part{b.String(), start})
			b.Reset()
			start = n
			if end {
				rest = "\n"
			}
			b.WriteString(rest)
		default:
			b.WriteString(line)
		}
		n++
	}
	return append(parts, part{b.String(), start})
}

// Faults lists the faults of an error of Parse.
func Faults(err error) []*Fault {
	var one *Fault
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []*Fault
		for _, e := range joined.Unwrap() {
			out = append(out, Faults(e)...)
		}
		return out
	}
	if errors.As(err, &one) {
		return []*Fault{one}
	}
	return nil
}

func syntaxFault(err error, before int) error {
	var e yaml.Error
	if !errors.As(err, &e) {
		return &Fault{Line: before + 1, Message: "not valid YAML: " + err.Error()}
	}
	line := 1
	if t := e.GetToken(); t != nil && t.Position != nil {
		line = t.Position.Line
	}
	return &Fault{Line: before + line, Message: "not valid YAML: " + e.GetMessage()}
}

// builder turns one document's syntax tree into nodes.
type builder struct {
	// before is the number of lines before the document.
	before  int
	anchors map[string]*Node
	left    int
	faults  []error
}

func (b *builder) fault(n ast.Node, format string, args ...any) {
	b.faults = append(b.faults, &Fault{Line: b.before + lineOf(n), Message: fmt.Sprintf(format, args...)})
}

func lineOf(n ast.Node) int {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 {
		return lineOf(m.Values[0])
	}
	if v, ok := n.(*ast.MappingValueNode); ok {
		return lineOf(v.Key)
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

func (b *builder) node(n ast.Node) *Node {
	out := &Node{Line: b.before + lineOf(n)}
	if b.left--; b.left < 0 {
		if b.left == -1 {
			b.fault(n, "the document has more than %d values", maxNodes)
		}
		return out
	}
	switch x := n.(type) {
	case *ast.NullNode:
	case *ast.StringNode:
		out.Kind, out.Text = Text, x.Value
	case *ast.LiteralNode:
		out.Kind, out.Text = Text, x.Value.Value
	case *ast.IntegerNode, *ast.FloatNode:
		out.Kind, out.Text = Number, n.GetToken().Value
	case *ast.BoolNode:
		out.Kind, out.Text = Bool, strconv.FormatBool(x.Value)
	case *ast.InfinityNode, *ast.NanNode:
		b.fault(n, "%s is not a usable number", n.GetToken().Value)
	case *ast.MappingNode:
		out.Kind = Map
		for _, v := range x.Values {
			b.entry(out, v)
		}
	case *ast.MappingValueNode:
		out.Kind = Map
		b.entry(out, x)
	case *ast.SequenceNode:
		out.Kind = List
		for _, v := range x.Values {
			out.Items = append(out.Items, b.node(v))
		}
	case *ast.AnchorNode:
		out = b.node(x.Value)
		b.anchors[x.Name.GetToken().Value] = out
	case *ast.AliasNode:
		name := x.Value.GetToken().Value
		target, ok := b.anchors[name]
		if !ok {
			b.fault(n, "alias *%s names no anchor before it", name)
			return out
		}
		if b.left -= target.size(); b.left < 0 {
			b.left = 0
		}
		return target
	case *ast.TagNode:
		b.fault(n, "tags such as %s are not used here", x.Start.Value)
	default:
		b.fault(n, "%s is not used here", n.Type())
	}
	return out
}

func (b *builder) entry(m *Node, v *ast.MappingValueNode) {
	line := b.before + lineOf(v.Key)
	if _, ok := v.Key.(*ast.MergeKeyNode); ok {
		b.merge(m, v)
		return
	}
	var key string
	switch k := v.Key.(type) {
	case *ast.StringNode:
		key = k.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		key = v.Key.GetToken().Value
	default:
		b.fault(v, "a key must be a plain text")
		return
	}
	if had := m.at(key); had != nil && had.Line > 0 {
		b.fault(v, "key %q is already on line %d", key, had.Line)
		return
	}
	m.put(Entry{Key: key, Line: line, Value: b.node(v.Value)})
}

// merge copies the entries of << into m, marked with line 0 so that a key of m's own
// overrides them.
func (b *builder) merge(m *Node, v *ast.MappingValueNode) {
	from := b.node(v.Value)
	sources := []*Node{from}
	if from.Kind == List {
		sources = from.Items
	}
	for _, s := range sources {
		if s.Kind != Map {
			b.fault(v, "<< takes a mapping or a list of them, not %s", s.Kind)
			return
		}
		for _, e := range s.Entries {
			if m.at(e.Key) == nil {
				m.put(Entry{Key: e.Key, Value: e.Value})
			}
		}
	}
}

func (n *Node) size() int {
	size := 1
	for _, i := range n.Items {
		size += i.size()
	}
	for _, e := range n.Entries {
		size += e.Value.size()
	}
	return size
}

func (n *Node) at(key string) *Entry {
	for i := range n.Entries {
		if n.Entries[i].Key == key {
			return &n.Entries[i]
		}
	}
	return nil
}

func (n *Node) put(e Entry) {
	if had := n.at(e.Key); had != nil {
		*had = e
		return
	}
	n.Entries = append(n.Entries, e)
}

// LineOf returns the line of the value at path ("ports[0].hostPort"), or of the deepest
// part of the path that exists.
func (n *Node) LineOf(path string) int {
	line := n.Line
	for _, step := range steps(path) {
		switch {
		case n.Kind == Map:
			e := n.at(step)
			if e == nil {
				return line
			}
			n = e.Value
			if e.Line > 0 {
				line = e.Line
			}
		case n.Kind == List:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(n.Items) {
				return line
			}
			n = n.Items[i]
			if n.Line > 0 {
				line = n.Line
			}
		default:
			return line
		}
	}
	return line
}

// steps splits "ports[0].hostPort" into "ports", "0", "hostPort".
func steps(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
}
