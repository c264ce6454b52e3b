package subjects

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseKey splits a key of a bucket of workloads. Errors: ErrSubject.
func ParseKey(key string) (Workload, error) {
	t := strings.Split(key, ".")
	if len(t) != 4 {
		return Workload{}, fmt.Errorf("%w: key %q has not the form <backend>.<node>.<namespace>.<name>", ErrSubject, key)
	}
	w := Workload{Backend: t[0], Node: t[1], Namespace: t[2], Name: t[3]}
	return w, w.Validate()
}

// InstanceKey is the key of an instance in a bucket. Errors: ErrSubject.
func InstanceKey(w Workload, instance int) (string, error) {
	if err := w.Validate(); err != nil {
		return "", err
	}
	ordinal := strconv.Itoa(instance)
	if !isOrdinal(ordinal) {
		return "", fmt.Errorf("%w: instance %q is not an ordinal", ErrSubject, ordinal)
	}
	return w.Key() + "." + ordinal, nil
}

// NodeKey is the key of what a node says about itself for a backend, for example its
// kind "inventory", "heartbeat" or "ledger": each has one writer. Errors: ErrSubject.
func NodeKey(backend, node, kind string) (string, error) {
	for _, t := range []struct{ name, value string }{{"backend", backend}, {"node", node}, {"kind", kind}} {
		if !isLabel(t.value) {
			return "", fmt.Errorf("%w: %s %q is not a DNS-1123 label", ErrSubject, t.name, t.value)
		}
	}
	return backend + "." + node + "." + kind, nil
}
