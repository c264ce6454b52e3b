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
//   - A limit is only ever raised: where what exists keeps more, or longer, than s asks,
//     that stays. To shrink a stream, lower the setting and then edit the stream.
//   - Subjects are only ever added.
//   - What the contract says nothing about (placement, sources, republishing, metadata,
//     limits on messages) is left as an operator made it.
//   - What differs and cannot be changed without losing the stream (storage, retention,
//     persist mode, a mirror, a seal) is an error that says what to do; nothing is
//     ever deleted.
//
// A second call changes nothing, and processes may call it at the same time. It needs
// NATS 2.12 or later. Errors: ErrSettings, ErrStream, those of the server.
func Ensure(ctx context.Context, js jetstream.JetStream, s Settings) error {
	differences, err := Differences(ctx, js, s)
	if err != nil {
		return err
	}
	var faults []error
	for _, d := range differences {
		if d.Kind == Fixed {
			faults = append(faults, d.fault())
		}
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
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

// attempts bounds how often another process may change a stream between our reading
// and our writing of it.
const attempts = 5

func ensureStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) error {
	var err error
	for range attempts {
		var stream jetstream.Stream
		stream, err = js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			stream, err = js.CreateStream(ctx, want)
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
				continue // someone else was first, with other settings
			}
		}
		if err != nil {
			return fmt.Errorf("set up stream %s: %w", want.Name, err)
		}
		merged, differences := merge(stream.CachedInfo().Config, want)
		update := false
		for _, d := range differences {
			switch d.Kind {
			case Fixed:
				return d.fault()
			case Changed:
				update = true
			}
		}
		if !update {
			return nil
		}
		if _, err = js.UpdateStream(ctx, merged); err != nil {
			return fmt.Errorf("update stream %s (%s): %w", want.Name, changed(differences), err)
		}
	}
	if err == nil {
		err = errors.New("something else keeps changing it")
	}
	return fmt.Errorf("set up stream %s: %w", want.Name, err)
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
