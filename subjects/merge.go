package subjects

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// DifferenceKind says what Ensure does about a difference.
type DifferenceKind string

// The kinds of difference.
const (
	// Changed: the stream is updated.
	Changed DifferenceKind = "changed"
	// Kept: the stream keeps more than the settings ask for, and that is left so.
	Kept DifferenceKind = "kept"
	// Fixed: the stream cannot be used and cannot be updated.
	Fixed DifferenceKind = "fixed"
)

// Difference is one field of a stream that is not what the settings ask for.
type Difference struct {
	Kind   DifferenceKind
	Stream string
	// Field is the name in the stream's configuration, as the nats CLI prints it.
	Field string
	// Have and Want are the two values as text.
	Have, Want string
	// Hint says what to do about a Fixed or a Kept one.
	Hint string
}

// String is one line for an operator.
func (d Difference) String() string {
	s := fmt.Sprintf("stream %s: %s is %s, want %s", d.Stream, d.Field, d.Have, d.Want)
	if d.Hint != "" {
		s += ": " + d.Hint
	}
	return s
}

func (d Difference) fault() error { return fmt.Errorf("%w: %s", ErrStream, d) }

// merge returns what have has to become to be good for want, and every difference. It
// starts from have, so that what want says nothing about stays.
func merge(have, want jetstream.StreamConfig) (jetstream.StreamConfig, []Difference) {
	m := merger{stream: want.Name}
	out := have

	m.fixed("mirror", have.Mirror != nil, "a mirror", "a stream of its own", "it cannot take commands; remove its mirror configuration or connect to the domain of its origin")
	m.fixed("sealed", have.Sealed, "true", "false", "a sealed stream cannot be opened again; "+replace(want.Name))
	m.fixed("storage", have.Storage != want.Storage, have.Storage, want.Storage, replace(want.Name))
	m.fixed("retention", have.Retention != want.Retention, have.Retention, want.Retention, replace(want.Name))
	m.fixed("persist_mode", have.PersistMode != want.PersistMode, have.PersistMode, want.PersistMode,
		"it is chosen when a stream is made and follows from the number of replicas; set the log replicas to match, or "+replace(want.Name)+" (NATS 2.12 or later is needed)")
	m.fixed("no_ack", have.NoAck, "true", "false", replace(want.Name))
	m.fixed("deny_delete", have.DenyDelete && !want.DenyDelete, "true", "false", replace(want.Name))
	m.fixed("deny_purge", have.DenyPurge && !want.DenyPurge, "true", "false", replace(want.Name))

	out.Subjects = m.subjects(have.Subjects, want.Subjects)
	out.MaxAge = keepMore(&m, "max_age", have.MaxAge, want.MaxAge, 0)
	out.MaxBytes = keepMore(&m, "max_bytes", have.MaxBytes, want.MaxBytes, -1)
	out.MaxMsgs = keepMore(&m, "max_msgs", have.MaxMsgs, want.MaxMsgs, -1)
	out.MaxConsumers = keepMore(&m, "max_consumers", have.MaxConsumers, want.MaxConsumers, -1)
	out.MaxMsgSize = keepMore(&m, "max_msg_size", have.MaxMsgSize, want.MaxMsgSize, -1)
	out.Replicas = keepMore(&m, "num_replicas", have.Replicas, want.Replicas, 0)
	out.SubjectDeleteMarkerTTL = keepMore(&m, "subject_delete_marker_ttl", have.SubjectDeleteMarkerTTL, want.SubjectDeleteMarkerTTL, -1)

	return out, m.differences
}

// replace is the way out when a stream has to be made anew.
func replace(name string) string {
	return fmt.Sprintf("save it with `nats stream backup %s DIR`, remove it, start again, and restore what is needed", name)
}

type merger struct {
	stream      string
	differences []Difference
}

func (m *merger) add(k DifferenceKind, field string, have, want any, hint string) {
	m.differences = append(m.differences, Difference{Kind: k, Stream: m.stream, Field: field, Have: fmt.Sprint(have), Want: fmt.Sprint(want), Hint: hint})
}

func (m *merger) fixed(field string, differs bool, have, want any, hint string) {
	if differs {
		m.add(Fixed, field, have, want, hint)
	}
}

// subjects is the union: an older or newer runtime, or an operator, may have added some.
func (m *merger) subjects(have, want []string) []string {
	union := slices.Clone(have)
	for _, s := range want {
		if !slices.Contains(union, s) {
			union = append(union, s)
		}
	}
	if len(union) > len(have) {
		m.add(Changed, "subjects", strings.Join(have, " "), strings.Join(union, " "), "")
	}
	return union
}

// keepMore takes the larger of two limits; unlimited is the largest of all. A limit of 0
// means unlimited everywhere but where the server writes -1 for it.
func keepMore[T ~int | ~int32 | ~int64](m *merger, field string, have, want, unlimited T) T {
	isUnlimited := func(v T) bool { return v == unlimited || v < 0 }
	switch {
	case have == want || (isUnlimited(have) && isUnlimited(want)):
		return have
	case isUnlimited(have) || (!isUnlimited(want) && have > want):
		m.add(Kept, field, have, want, "it keeps more than asked for; to shrink it, use `nats stream edit "+m.stream+"`")
		return have
	}
	m.add(Changed, field, have, want, "")
	return want
}
