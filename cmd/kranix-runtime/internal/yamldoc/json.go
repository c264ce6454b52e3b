package yamldoc

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// JSON writes the node as JSON. Numbers keep their digits where JSON can write them.
func (n *Node) JSON() ([]byte, error) {
	var b bytes.Buffer
	if err := n.writeJSON(&b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func (n *Node) writeJSON(b *bytes.Buffer) error {
	switch n.Kind {
	case Null:
		b.WriteString("null")
	case Bool:
		b.WriteString(n.Text)
	case Number:
		return n.writeNumber(b)
	case Text:
		return writeText(b, n.Text)
	case List:
		b.WriteByte('[')
		for i, item := range n.Items {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := item.writeJSON(b); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case Map:
		b.WriteByte('{')
		for i, e := range n.Entries {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeText(b, e.Key); err != nil {
				return err
			}
			b.WriteByte(':')
			if err := e.Value.writeJSON(b); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	}
	return nil
}

// writeNumber writes decimal numbers as they are; YAML's other spellings (0x1f, 0o17,
// 1_000, a leading zero) would be read differently by different readers and are
// refused.
func (n *Node) writeNumber(b *bytes.Buffer) error {
	if !json.Valid([]byte(n.Text)) {
		return &Fault{Line: n.Line, Message: fmt.Sprintf("write the number %s in plain decimal, or quote it if it is a text", n.Text)}
	}
	b.WriteString(n.Text)
	return nil
}

func writeText(b *bytes.Buffer, s string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write %q as JSON: %w", s, err)
	}
	b.Write(text)
	return nil
}
