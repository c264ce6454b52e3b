package subjects

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrStream is matched by the error about a stream that exists with something that
// cannot be changed. It needs an operator.
var ErrStream = errors.New("stream cannot be used as it is")

// Ensure creates the streams and buckets that are missing and brings those that exist
// up to date, without ever losing a message:
//
//   - A limit is only ever raised: where a stream keeps more, or longer, than s asks,
//     that stays (Differences reports it as Kept). To shrink a stream, lower the setting
//     and then edit the stream.
//   - Subjects are only ever added, and protections only ever switched on.
//   - What the contract does not set (placement, sources, republishing, metadata,
//     description, limits where it has none) is left as an operator made it.
//   - What cannot be changed without losing the stream (its storage, a work queue,
//     asynchronous writes, a mirror, a seal) is an error that names the stream, the
//     field and the way out. Then nothing at all is changed; nothing is ever deleted.
//
// A second call changes nothing, and processes with the same settings may call it at the
// same time. (The server has no compare-and-set for a stream's configuration: of two
// processes with different settings the later one's may stand until the next call.)
// Per-key TTLs need NATS 2.11, asynchronous writes 2.12. Errors: ErrSettings, ErrStream,
// those of the server.
func Ensure(ctx context.Context, js jetstream.JetStream, s Settings) error {
	differences, err := Differences(ctx, js, s)
	if err != nil {
		return err
	}
	// First all that cannot be mended, so that nothing is done by halves.
	if err := refuse(differences); err != nil {
		return err
	}
	for _, want := range configs(s) {
		if err := ensureStream(ctx, js, want); err != nil {
			return err
		}
	}
	return nil
}

// configs is every stream there shall be, those of the buckets included.
func configs(s Settings) []jetstream.StreamConfig {
	all := Streams(s)
	for _, b := range Buckets(s) {
		all = append(all, bucketStream(b))
	}
	return all
}

// ensureStream creates or updates one stream. Whoever creates it first wins; the other
// one then finds it and compares.
func ensureStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) error {
	stream, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			stream, err = js.Stream(ctx, want.Name)
		}
	}
	if err != nil {
		return fmt.Errorf("set up stream %s: %w", want.Name, err)
	}
	merged, differences := merge(stream.CachedInfo().Config, want)
	if err := refuse(differences); err != nil {
		return err
	}
	fields := changed(differences)
	if fields == "" {
		return nil
	}
	if stream, err = js.UpdateStream(ctx, merged); err != nil {
		return fmt.Errorf("update stream %s (%s): %w", want.Name, fields, err)
	}
	_, differences = merge(stream.CachedInfo().Config, want)
	if left := changed(differences); left != "" {
		return fmt.Errorf("%w: stream %s: the server did not take %s; it needs NATS 2.12 or later", ErrStream, want.Name, left)
	}
	return nil
}

// refuse joins the differences that no update can mend into one error.
func refuse(differences []Difference) error {
	var faults []error
	for _, d := range differences {
		if d.Kind == Fixed {
			faults = append(faults, d.fault())
		}
	}
	return errors.Join(faults...)
}

func changed(differences []Difference) string {
	var fields []string
	for _, d := range differences {
		if d.Kind == Changed {
			fields = append(fields, d.Field)
		}
	}
	return strings.Join(fields, ", ")
}

// Differences reports, without changing anything, how the streams that exist differ from
// what s asks for. A stream that does not exist is no difference. Errors: ErrSettings,
// those of the server.
func Differences(ctx context.Context, js jetstream.JetStream, s Settings) ([]Difference, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	var all []Difference
	for _, want := range configs(s) {
		stream, err := js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read stream %s: %w", want.Name, err)
		}
		_, differences := merge(stream.CachedInfo().Config, want)
		all = append(all, differences...)
	}
	return all, nil
}

// bucketStream is the stream of a bucket, as the client library makes it (NATS ADR-8),
// with the limit on consumers that every watcher counts against.
func bucketStream(b jetstream.KeyValueConfig) jetstream.StreamConfig {
	c := stream(bucketStreamPrefix+b.Bucket, b.Description, b.Replicas, "$KV."+b.Bucket+".>")
	c.MaxMsgsPerSubject = int64(b.History)
	c.MaxMsgSize = b.MaxValueSize
	c.MaxBytes = b.MaxBytes
	c.MaxAge = b.TTL
	c.Storage = b.Storage
	c.Discard = jetstream.DiscardNew
	c.AllowRollup = true
	c.DenyDelete = true
	c.AllowMsgTTL = b.LimitMarkerTTL > 0
	c.SubjectDeleteMarkerTTL = b.LimitMarkerTTL
	return c
}
