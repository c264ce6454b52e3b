// Package subjects is the wire contract: the grammar of subjects, the streams,
// consumers and buckets, the event types with their data, and the mapping of
// CloudEvents to NATS messages.
//
// It is the only place with a subject, stream or bucket literal. kranix-core imports
// it, so it stays light: the standard library, nats.go and the CloudEvents SDK.
//
// It does not decide anything: what a command means, who may carry it out and when it
// is done is the business of package workers.
package subjects
