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
// starts from have: what the contract does not set stays as an operator made it.
func merge(have, want jetstream.StreamConfig) (jetstream.StreamConfig, []Difference) {
	m := merger{stream: want.Name}
	out := have
	again := replace(want.Name)

	m.fixed("mirror", have.Mirror != nil, "set", "none", "a mirror takes no messages of its own; remove the mirror from its configuration, or connect to the domain of its origin")
	m.fixed("sealed", have.Sealed, true, false, again)
	m.fixed("no_ack", have.NoAck, true, false, again)
	m.fixed("storage", have.Storage != want.Storage, have.Storage, want.Storage, again)
	m.fixed("retention", have.Retention == jetstream.WorkQueuePolicy, have.Retention, want.Retention, again)
	m.fixed("persist_mode", have.PersistMode == jetstream.AsyncPersistMode && want.PersistMode != have.PersistMode,
		have.PersistMode, want.PersistMode, "what it acknowledged can be lost with the machine, and it cannot be replicated; "+again)
	if want.PersistMode == jetstream.AsyncPersistMode && have.PersistMode != want.PersistMode {
		m.add(Kept, "persist_mode", have.PersistMode, want.PersistMode, "it is safer and slower than asked for; to change it, "+again)
	}

	out.Retention = set(&m, "retention", have.Retention, want.Retention, have.Retention == jetstream.InterestPolicy)
	out.Subjects = m.subjects(have.Subjects, want.Subjects)

	out.MaxAge = keepMore(&m, "max_age", have.MaxAge, want.MaxAge)
	out.Duplicates = set(&m, "duplicate_window", have.Duplicates, want.Duplicates, have.Duplicates < want.Duplicates)
	out.SubjectDeleteMarkerTTL = set(&m, "subject_delete_marker_ttl", have.SubjectDeleteMarkerTTL, want.SubjectDeleteMarkerTTL, have.SubjectDeleteMarkerTTL < want.SubjectDeleteMarkerTTL)
	out.MaxBytes = keepMore(&m, "max_bytes", have.MaxBytes, want.MaxBytes)
	out.MaxMsgs = keepMore(&m, "max_msgs", have.MaxMsgs, want.MaxMsgs)
	out.MaxMsgsPerSubject = keepMore(&m, "max_msgs_per_subject", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject)
	out.Replicas = keepMore(&m, "num_replicas", have.Replicas, want.Replicas)
	// Lowering this one loses nothing, so a stream without it gets it.
	out.MaxMsgSize = set(&m, "max_msg_size", have.MaxMsgSize, want.MaxMsgSize, have.MaxMsgSize <= 0 || have.MaxMsgSize < want.MaxMsgSize)
	// No limit of the stream's own means the server's default, which may be smaller.
	out.MaxConsumers = set(&m, "max_consumers", have.MaxConsumers, want.MaxConsumers, have.MaxConsumers < want.MaxConsumers)

	// These protect something and are only ever switched on.
	out.DenyDelete = m.on("deny_delete", have.DenyDelete, want.DenyDelete)
	out.DenyPurge = m.on("deny_purge", have.DenyPurge, want.DenyPurge)
	out.AllowRollup = m.on("allow_rollup_hdrs", have.AllowRollup, want.AllowRollup)
	out.AllowMsgTTL = m.on("allow_msg_ttl", have.AllowMsgTTL, want.AllowMsgTTL)
	out.Discard = set(&m, "discard", have.Discard, want.Discard, want.Discard == jetstream.DiscardNew && have.Discard != want.Discard)
	// It needs the limit per subject that an operator may have lifted.
	out.DiscardNewPerSubject = m.on("discard_new_per_subject", have.DiscardNewPerSubject, want.DiscardNewPerSubject && out.MaxMsgsPerSubject > 0)
	out.Compression = set(&m, "compression", have.Compression, want.Compression, have.Compression == jetstream.NoCompression && want.Compression != have.Compression)
	out.AllowDirect = set(&m, "allow_direct", have.AllowDirect, want.AllowDirect, have.AllowDirect != want.AllowDirect)

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

// set takes want where it has to, and notes it.
func set[T comparable](m *merger, field string, have, want T, change bool) T {
	if !change {
		return have
	}
	m.add(Changed, field, have, want, "")
	return want
}

func (m *merger) on(field string, have, want bool) bool {
	return set(m, field, have, have || want, want && !have)
}

// keepMore takes the larger of two limits; 0 and below is without limit. An operator may
// have set a limit where the contract has none, and lifted one the contract has.
func keepMore[T ~int | ~int32 | ~int64](m *merger, field string, have, want T) T {
	switch {
	case have == want || want <= 0:
		return have
	case have <= 0 || have > want:
		m.add(Kept, field, have, want, "it keeps more than asked for; to shrink it, use `nats stream edit "+m.stream+"`")
		return have
	}
	m.add(Changed, field, have, want, "")
	return want
}
