package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/kranix-io/kranix-runtime/subjects"
)

func (a *app) redriveCommand() *cobra.Command {
	var f commandFlags
	var force bool
	cmd := &cobra.Command{
		Use:   "redrive LETTER|COMMAND",
		Short: "Send a command that was given up again",
		Long: `Redrive publishes the command of a dead letter as a new command and waits for its result. It is refused
when a newer deploy or destroy exists for the workload (exit code 5), because it would undo that;
--force does it all the same.`,
		Example: "  kranix-runtime redrive 3",
		Args:    exactArgs("LETTER|COMMAND"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer b.close()
			l, err := b.findLetter(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			s, e, err := b.letterCommand(cmd.Context(), l)
			if err != nil {
				return err
			}
			if !force {
				if err := b.checkNewer(cmd.Context(), l, s.Workload); err != nil {
					return err
				}
			}
			var data any
			if len(e.Data()) > 0 {
				data = json.RawMessage(e.Data())
			}
			c := f.command(a, s.Workload, subjects.Verb(s.Last), data)
			c.extensions = map[string]string{subjects.ExtRedriveOf: l.Data.CommandID}
			if force {
				c.extensions[subjects.ExtForce] = "true"
			}
			return a.carryOut(cmd.Context(), b, []command{c}, &f)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "even though a newer deploy or destroy exists")
	return cmd
}

// letterCommand is the command of a letter: its own copy or, where that was too large,
// the original in the stream.
func (b *bus) letterCommand(ctx context.Context, l letter) (subjects.Subject, event.Event, error) {
	d := l.Data
	s, err := subjects.Parse(d.Subject)
	if err != nil || d.CommandID == "" || (len(d.Command) == 0 && len(d.Raw) > 0) {
		return s, event.Event{}, exitf(exitRejected, "letter %d holds a message that is no command; correct it and publish it anew", l.Letter)
	}
	if len(d.Command) > 0 && !d.Truncated {
		var e event.Event
		if err := json.Unmarshal(d.Command, &e); err != nil {
			return s, e, fmt.Errorf("decode command of letter %d: %w", l.Letter, err)
		}
		return s, e, nil
	}
	stream, err := b.js.Stream(ctx, subjects.StreamCommands)
	if err != nil {
		return s, event.Event{}, fmt.Errorf("read command of letter %d: %w", l.Letter, explain(err))
	}
	msg, err := stream.GetMsg(ctx, d.Sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return s, event.Event{}, exitf(exitNotFound, "the command of letter %d was too large for the letter and is no longer in %s", l.Letter, subjects.StreamCommands)
	}
	if err != nil {
		return s, event.Event{}, fmt.Errorf("read command of letter %d: %w", l.Letter, explain(err))
	}
	e, err := subjects.Decode(msg.Header, msg.Data)
	if err != nil {
		return s, e, fmt.Errorf("read command of letter %d: %w", l.Letter, err)
	}
	return s, e, nil
}

// checkNewer refuses what would undo a newer deploy or destroy. The worker checks the
// same; asking first saves the user a rejected command.
func (b *bus) checkNewer(ctx context.Context, l letter, w subjects.Workload) error {
	filter, err := subjects.WorkloadKeyFilter(backendFilter(w.Backend), w.Namespace, w.Name)
	if err != nil {
		return exitWith(exitUsage, err)
	}
	entries, err := b.entries(ctx, subjects.BucketWorkloads, filter)
	if err != nil {
		return fmt.Errorf("look for newer commands: %w", err)
	}
	for _, e := range entries {
		var record struct {
			SpecSeq uint64        `json:"specSeq"`
			Verb    subjects.Verb `json:"verb"`
		}
		if err := json.Unmarshal(e.Value(), &record); err != nil {
			return fmt.Errorf("decode record %s: %w", e.Key(), err)
		}
		if record.SpecSeq > l.Data.Sequence {
			return exitf(exitSuperseded, "a newer %s of %s exists (sequence %d, this one is %d): redriving would undo it; use --force to do it all the same",
				first(string(record.Verb), "command"), w.ID(), record.SpecSeq, l.Data.Sequence)
		}
	}
	return nil
}

// backendFilter matches any backend for a command that named none.
func backendFilter(backend string) string {
	if backend == subjects.Any {
		return ""
	}
	return backend
}
