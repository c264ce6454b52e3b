// Package subjects is the wire contract: the grammar of subjects, the streams,
// consumers and buckets, the event types with their data, and the mapping of
// CloudEvents to NATS messages.
//
// It is the only place with a subject, stream or bucket literal. kranix-core imports
// it, so it stays light: the standard library, nats.go and the CloudEvents SDK.
//
// It does not decide anything: what a command means, who may carry it out and when it
// is done is the business of package workers.
//
// # Use
//
// A publisher builds an event with NewEvent and a subject with Command, Event and the
// like, and turns both into a message with Encode. A reader gets the event back with
// Decode and the tokens with Parse. The runtime calls Ensure once at its start;
// everyone else may rely on the streams. A worker takes commands from PoolConsumer and
// NodeConsumer and settles each with PublishResult.
//
// # Invariants
//
//   - What a builder returns, Parse accepts and gives back; nothing else has a subject.
//   - What Encode accepts, Decode gives back, attribute for attribute and byte for byte;
//     no attribute can add a header or change another one.
//   - Decode never panics, and every error of it is an ErrEvent in one line.
//   - A command has at most one result, whoever settles it and however often.
//   - Ensure loses no message.
package subjects
