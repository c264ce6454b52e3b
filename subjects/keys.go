package subjects

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// ParseKey splits a bucket key "<backend>.<node>.<namespace>.<name>" and checks it.
// Errors: ErrSubject.
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

// HeartbeatKey is the key of a node's heartbeat in BucketNodes.
func HeartbeatKey(node string) string { return node + ".heartbeat" }

// UnservedConsumer is the consumer of StreamCommands of a worker that is alone on its
// bus: all commands, of which it refuses those for backends and nodes that are not there
// instead of leaving them until they are overdue.
func UnservedConsumer(node string, o ConsumerOptions) jetstream.ConsumerConfig {
	c := consumer("unserved-"+node, o)
	c.Description = "Commands for backends and nodes that are not there"
	c.FilterSubject = all(KindCommand)
	return c
}
