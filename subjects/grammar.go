package subjects

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Any is the token that no label can be: as a node it is the pool, as a backend the
// runtime's default.
const Any = "_"

// Root is the first token of every subject of the contract.
const Root = "kranix"

// ErrSubject is matched by every error of a builder or a parser.
var ErrSubject = errors.New("invalid subject")

// Verb is what a command asks for.
type Verb string

// The verbs.
const (
	Deploy  Verb = "deploy"
	Destroy Verb = "destroy"
	Restart Verb = "restart"
)

// Verbs lists the known verbs.
func Verbs() []Verb { return []Verb{Deploy, Destroy, Restart} }

// Backends lists the backends a command may name, without Any. Commands for other
// names are not stored by any stream, so that a typo is refused at once.
func Backends() []string {
	return []string{"docker", "kubernetes", "podman", "compose", "remote", "edge", "sim"}
}

// Workload is the identity of a workload in a subject: the five tokens of it that
// messages share.
type Workload struct {
	// Backend is a known backend, or Any in a command.
	Backend string
	// Node is a label, or Any for the pool.
	Node      string
	Namespace string
	Name      string
}

// ID is the driver's workload ID, "<namespace>/<name>".
func (w Workload) ID() string { return w.Namespace + "/" + w.Name }

// String is "<backend>.<node>.<namespace>.<name>", which is also the bucket key.
func (w Workload) String() string {
	return w.Backend + "." + w.Node + "." + w.Namespace + "." + w.Name
}

// Key is the workload's key in a bucket.
func (w Workload) Key() string { return w.String() }

// Identity is the workload without its node: the key of its record, which is the same
// whoever runs it.
func (w Workload) Identity() Workload { w.Node = Any; return w }

// On is the workload on a node.
func (w Workload) On(node string) Workload { w.Node = node; return w }

// Source is the CloudEvents source of what a node says about a backend,
// "/kranix/<backend>/<node>".
func (w Workload) Source() string { return "/" + Root + "/" + w.Backend + "/" + w.Node }

// Validate checks every token. Errors: ErrSubject, naming the token.
func (w Workload) Validate() error {
	if w.Backend != Any && !isLabel(w.Backend) {
		return fmt.Errorf("%w: backend %q is not a DNS-1123 label or %q", ErrSubject, w.Backend, Any)
	}
	if w.Node != Any && !isLabel(w.Node) {
		return fmt.Errorf("%w: node %q is not a DNS-1123 label or %q", ErrSubject, w.Node, Any)
	}
	if !isLabel(w.Namespace) {
		return fmt.Errorf("%w: namespace %q is not a DNS-1123 label", ErrSubject, w.Namespace)
	}
	if !isLabel(w.Name) {
		return fmt.Errorf("%w: name %q is not a DNS-1123 label", ErrSubject, w.Name)
	}
	return nil
}

// Kind is the second token of a subject.
type Kind string

// The kinds of subject.
const (
	KindCommand    Kind = "cmd"
	KindAssignment Kind = "asg"
	KindEvent      Kind = "evt"
	KindResult     Kind = "res"
	KindLog        Kind = "log"
	KindMetric     Kind = "metric"
	KindNode       Kind = "node"
	KindDeadLetter Kind = "dlq"
)

// Subject is a parsed subject of a workload. Which of Last's meanings applies depends
// on Kind: verb (cmd), phase (evt), command token (res), ordinal (log); it is empty for
// asg, metric and dlq.
type Subject struct {
	Kind     Kind
	Workload Workload
	Last     string
}

// Command is the subject of a command.
func Command(w Workload, v Verb) (string, error) { return build(KindCommand, w, string(v)) }

// Assignment is the subject by which a placer hands a pool command to a node.
func Assignment(w Workload) (string, error) { return build(KindAssignment, w, "") }

// Event is the subject of an observation or of progress.
func Event(w Workload, phase string) (string, error) { return build(KindEvent, w, phase) }

// Result is the subject of a command's one result; command is a CommandID.
func Result(w Workload, command string) (string, error) { return build(KindResult, w, command) }

// Log is the subject of an instance's log lines.
func Log(w Workload, instance int) (string, error) {
	return build(KindLog, w, strconv.Itoa(instance))
}

// Metric is the subject of a workload's metrics.
func Metric(w Workload) (string, error) { return build(KindMetric, w, "") }

// DeadLetter is the subject of a workload's dead letters.
func DeadLetter(w Workload) (string, error) { return build(KindDeadLetter, w, "") }

// Node is the subject of what a node says about itself.
func Node(node, kind string) (string, error) {
	if !isLabel(node) || !isLabel(kind) {
		return "", fmt.Errorf("%w: node %q and kind %q must be DNS-1123 labels", ErrSubject, node, kind)
	}
	return Root + "." + string(KindNode) + "." + node + "." + kind, nil
}

func build(k Kind, w Workload, last string) (string, error) {
	s := Subject{Kind: k, Workload: w, Last: last}
	if err := s.Validate(); err != nil {
		return "", err
	}
	return s.String(), nil
}

// String joins the tokens; it is a valid subject when Validate says so.
func (s Subject) String() string {
	out := Root + "." + string(s.Kind) + "." + s.Workload.String()
	if s.Last != "" {
		out += "." + s.Last
	}
	return out
}

// Validate checks every token. Errors: ErrSubject, naming the token.
func (s Subject) Validate() error {
	if err := s.Workload.Validate(); err != nil {
		return err
	}
	switch s.Kind {
	case KindCommand:
		switch Verb(s.Last) {
		case Deploy, Destroy, Restart:
		default:
			return fmt.Errorf("%w: verb %q is not deploy, destroy or restart", ErrSubject, s.Last)
		}
	case KindEvent:
		if !isLabel(s.Last) {
			return fmt.Errorf("%w: phase %q is not a DNS-1123 label", ErrSubject, s.Last)
		}
	case KindResult:
		if !isCommandID(s.Last) {
			return fmt.Errorf("%w: command %q is not a command token", ErrSubject, s.Last)
		}
	case KindLog:
		if !isOrdinal(s.Last) {
			return fmt.Errorf("%w: instance %q is not an ordinal", ErrSubject, s.Last)
		}
	case KindAssignment, KindMetric, KindDeadLetter:
		if s.Last != "" {
			return fmt.Errorf("%w: %s takes no token after the name, got %q", ErrSubject, s.Kind, s.Last)
		}
	default:
		return fmt.Errorf("%w: kind %q is not of a workload", ErrSubject, s.Kind)
	}
	return nil
}

// Parse splits and checks a subject of a workload. Errors: ErrSubject.
func Parse(subject string) (Subject, error) {
	t := strings.Split(subject, ".")
	if len(t) < 6 || len(t) > 7 || t[0] != Root {
		return Subject{}, fmt.Errorf("%w: %q has not the form %s.<kind>.<backend>.<node>.<namespace>.<name>[.<last>]", ErrSubject, subject, Root)
	}
	s := Subject{Kind: Kind(t[1]), Workload: Workload{Backend: t[2], Node: t[3], Namespace: t[4], Name: t[5]}}
	if len(t) == 7 {
		if t[6] == "" {
			return Subject{}, fmt.Errorf("%w: %q ends in an empty token", ErrSubject, subject)
		}
		s.Last = t[6]
	}
	if err := s.Validate(); err != nil {
		return Subject{}, err
	}
	return s, nil
}

// CommandID is the token of a command in subjects, labels and events: a hash of its
// CloudEvent source and id, which together identify an event (CloudEvents 1.0, "id").
// It is 26 characters of a-z and 2-7.
func CommandID(source, id string) string {
	h := sha256.New()
	// The length keeps ("a","bc") and ("ab","c") apart.
	fmt.Fprintf(h, "%d|%s|%s", len(source), source, id)
	return commandEncoding.EncodeToString(h.Sum(nil)[:16])
}

var commandEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func isCommandID(s string) bool {
	if len(s) != 26 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

func isOrdinal(s string) bool {
	if s == "" || len(s) > 5 || (len(s) > 1 && s[0] == '0') {
		return false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// isLabel is drivers.IsLabel; the two packages are leaves that do not import each
// other, and tests/imports checks that they agree.
func isLabel(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// NodeLabel makes a label of a host name: lower case, other characters as '-', cut to
// 63. It is empty when nothing is left.
func NodeLabel(host string) string {
	b := make([]byte, 0, len(host))
	for _, c := range []byte(strings.ToLower(host)) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			c = '-'
		}
		b = append(b, c)
	}
	s := strings.Trim(string(b), "-")
	if len(s) > 63 {
		s = strings.TrimRight(s[:63], "-")
	}
	return s
}
