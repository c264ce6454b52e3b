package subjects

import (
	"fmt"
	"strconv"
)

// all matches every subject of a kind.
func all(k Kind) string { return Root + "." + string(k) + ".>" }

// pattern is the subject of a kind with '*' for every empty token of w; last "" leaves
// the last token out.
func pattern(k Kind, w Workload, last string) string {
	p := Root + "." + string(k) + "." + keyPattern(w)
	if last != "" {
		p += "." + last
	}
	return p
}

func keyPattern(w Workload) string {
	return star(w.Backend) + "." + star(w.Node) + "." + star(w.Namespace) + "." + star(w.Name)
}

func star(token string) string {
	if token == "" {
		return "*"
	}
	return token
}

// checkPattern refuses a token that is neither empty nor a token of the grammar, which
// would silently match something else.
func checkPattern(w Workload) error {
	for _, t := range []struct {
		name, value string
		any         bool
	}{{"backend", w.Backend, true}, {"node", w.Node, true}, {"namespace", w.Namespace, false}, {"name", w.Name, false}} {
		if t.value == "" || isLabel(t.value) || (t.any && t.value == Any) {
			continue
		}
		return fmt.Errorf("%w: %s %q is not a DNS-1123 label", ErrSubject, t.name, t.value)
	}
	return nil
}

// ResultFilter matches the result of a command, whichever workload it is of and node
// wrote it. The server has to look at every workload's results for it: who knows the
// workload uses ResultFilterOf.
func ResultFilter(commandID string) string {
	return pattern(KindResult, Workload{}, star(commandID))
}

// ResultFilterOf matches the result of a command of a workload, on any node and of any
// backend (a command to the default backend may be settled under either). It is what the
// result's publisher expects to be empty; all publishers have to use this very filter,
// because a replicated stream tells those under way apart by its text.
func ResultFilterOf(w Workload, commandID string) string {
	return pattern(KindResult, Workload{Namespace: w.Namespace, Name: w.Name}, star(commandID))
}

// ResultsOf matches the results of a workload on any node.
func ResultsOf(w Workload) string { return pattern(KindResult, anyNode(w), "*") }

// CommandsOf matches all commands for a workload of a backend, for any node and the
// pool: the hint that something newer is there. Commands to the default backend are a
// different identity, with Any as the backend.
func CommandsOf(w Workload) string { return pattern(KindCommand, anyNode(w), "*") }

// EventsOf matches all events of a workload on any node.
func EventsOf(w Workload) string { return pattern(KindEvent, anyNode(w), "*") }

// LogsOf matches the log lines of all instances of a workload on any node.
func LogsOf(w Workload) string { return pattern(KindLog, anyNode(w), "*") }

func anyNode(w Workload) Workload { w.Node = ""; return w }

// CommandsFilter matches commands; an empty argument matches any. Errors: ErrSubject.
func CommandsFilter(backend, node, namespace, name string, verb Verb) (string, error) {
	return filter(KindCommand, Workload{backend, node, namespace, name}, string(verb))
}

// EventsFilter matches events; an empty argument matches any. Errors: ErrSubject.
func EventsFilter(backend, node, namespace, name, phase string) (string, error) {
	return filter(KindEvent, Workload{backend, node, namespace, name}, phase)
}

// ResultsFilter matches results; an empty argument matches any. Errors: ErrSubject.
func ResultsFilter(backend, node, namespace, name, commandID string) (string, error) {
	return filter(KindResult, Workload{backend, node, namespace, name}, commandID)
}

// LogsFilter matches log lines; an empty argument, or an instance below 0, matches any.
// Errors: ErrSubject.
func LogsFilter(backend, node, namespace, name string, instance int) (string, error) {
	last := ""
	if instance >= 0 {
		last = strconv.Itoa(instance)
	}
	return filter(KindLog, Workload{backend, node, namespace, name}, last)
}

// MetricsFilter matches metrics; an empty argument matches any. Errors: ErrSubject.
func MetricsFilter(backend, node, namespace, name string) (string, error) {
	return filter(KindMetric, Workload{backend, node, namespace, name}, "")
}

// DeadLettersFilter matches dead letters; an empty argument matches any. Errors:
// ErrSubject.
func DeadLettersFilter(backend, node, namespace, name string) (string, error) {
	return filter(KindDeadLetter, Workload{backend, node, namespace, name}, "")
}

// AssignmentsFilter matches assignments; an empty argument matches any. Errors:
// ErrSubject.
func AssignmentsFilter(backend, node, namespace, name string) (string, error) {
	return filter(KindAssignment, Workload{backend, node, namespace, name}, "")
}

// filter checks the tokens and makes the pattern of a kind.
func filter(k Kind, w Workload, last string) (string, error) {
	if err := checkPattern(w); err != nil {
		return "", err
	}
	switch k {
	case KindAssignment, KindMetric, KindDeadLetter:
		return pattern(k, w, ""), nil
	}
	if last != "" {
		// The other tokens have been checked: any valid ones stand in for them.
		if err := (Subject{Kind: k, Workload: Workload{Any, Any, "a", "a"}, Last: last}).Validate(); err != nil {
			return "", err
		}
	}
	return pattern(k, w, star(last)), nil
}

// StatusKeyFilter matches keys of BucketStatus; an empty argument matches any. Errors:
// ErrSubject.
func StatusKeyFilter(backend, node, namespace, name string) (string, error) {
	return keyFilter(Workload{backend, node, namespace, name})
}

// WorkloadKeyFilter matches keys of BucketWorkloads; an empty argument matches any.
// Errors: ErrSubject.
func WorkloadKeyFilter(backend, namespace, name string) (string, error) {
	return keyFilter(Workload{backend, Any, namespace, name})
}

func keyFilter(w Workload) (string, error) {
	if err := checkPattern(w); err != nil {
		return "", err
	}
	return keyPattern(w), nil
}
