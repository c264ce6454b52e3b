package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

func (a *app) statusCommand() *cobra.Command {
	var t target
	var output string
	cmd := &cobra.Command{
		Use:   "status NAMESPACE/NAME",
		Short: "Show the last observed state of a workload",
		Long: `Status shows what the runtime last observed of a workload, on every backend and node that has it.
-o json prints a drivers.WorkloadStatus per workload in a list. Exit code 9 when there is none.`,
		Example:           "  kranix-runtime status shop/web\n  kranix-runtime status shop/web -o json | jq -r '.[0].phase'",
		Args:              exactArgs("NAMESPACE/NAME"),
		ValidArgsFunction: a.completeWorkloads,
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := t.parse(args[0])
			if err != nil {
				return err
			}
			b, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer b.close()
			statuses, err := b.statuses(cmd.Context(), t.backend, w.Namespace, w.Name)
			if err != nil {
				return err
			}
			if len(statuses) == 0 {
				return a.absent(cmd.Context(), b, w)
			}
			if output != formatTable {
				return writeValue(a.stdout, output, statuses)
			}
			now := time.Now()
			for i, s := range statuses {
				if i > 0 {
					fmt.Fprintln(a.stdout)
				}
				last, err := b.lastEvent(cmd.Context(), s)
				if err != nil {
					return err
				}
				if err := writeStatus(a.stdout, a.painter(a.stdout), s, last, now); err != nil {
					return err
				}
			}
			return nil
		},
	}
	t.add(cmd)
	outputFlag(cmd, &output, formatTable, formatJSON, formatYAML)
	return cmd
}

// absent says what is known about a workload that is not there.
func (a *app) absent(ctx context.Context, b *bus, w subjects.Workload) error {
	hint := ""
	if o, err := b.lastObservation(ctx, subjects.Workload{Namespace: w.Namespace, Name: w.Name}); err == nil && o != nil {
		hint = fmt.Sprintf("; last heard of it %s ago: %s", age(o.event.Time(), time.Now()), describe(o.data))
	}
	return exitf(exitNotFound, "there is no workload %s%s", w.ID(), hint)
}

func (b *bus) lastEvent(ctx context.Context, s drivers.WorkloadStatus) (*observation, error) {
	return b.lastObservation(ctx, subjects.Workload{Backend: s.Backend, Node: s.Node, Namespace: s.Namespace, Name: s.Name})
}

// lastObservation is the newest event of a workload, nil when none is kept.
func (b *bus) lastObservation(ctx context.Context, w subjects.Workload) (*observation, error) {
	filter, err := subjects.EventsFilter(w.Backend, w.Node, w.Namespace, w.Name, "")
	if err != nil {
		return nil, err
	}
	stream, err := b.js.Stream(ctx, subjects.StreamEvents)
	if err != nil {
		return nil, fmt.Errorf("read last event: %w", explain(err))
	}
	msg, err := stream.GetLastMsgForSubject(ctx, filter)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read last event: %w", explain(err))
	}
	e, err := subjects.Decode(msg.Header, msg.Data)
	if err != nil {
		return nil, fmt.Errorf("read last event: %w", err)
	}
	o, err := readObservation(msg.Subject, e)
	if err != nil {
		return nil, fmt.Errorf("read last event: %w", err)
	}
	return &o, nil
}

func writeStatus(w io.Writer, p painter, s drivers.WorkloadStatus, last *observation, now time.Time) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s  %d/%d ready  on %s/%s\n", oneLine(s.ID), p.paint(wordColour(string(s.Phase)), oneLine(string(s.Phase))),
		s.Ready, s.Desired, oneLine(s.Backend), oneLine(s.Node))
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-9s %s\n", name, oneLine(value))
		}
	}
	field("reason", join(": ", s.Reason, s.Message))
	image := s.Image
	if s.ImageID != "" {
		image += " (" + short(s.ImageID) + ")"
	}
	field("image", image)
	if s.Sequence > 0 {
		field("command", fmt.Sprintf("%s, sequence %d", first(s.CommandID, "-"), s.Sequence))
	}
	field("revision", s.Revision)
	field("observed", age(s.ObservedAt, now)+" ago")
	if last != nil {
		field("last", age(last.event.Time(), now)+" ago: "+describe(last.data))
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	if len(s.Instances) == 0 {
		return nil
	}
	rows := make([][]cell, len(s.Instances))
	for i, in := range s.Instances {
		rows[i] = []cell{
			text(strconv.Itoa(in.Instance)), word(string(in.Phase)), text(strconv.Itoa(in.Restarts)), text(uptime(in, now)),
			text(exitText(in)), text(first(portsText(in.Ports), "-")), text(short(in.ID)), text(join(": ", in.Reason, in.Message)),
		}
	}
	return table(w, p, []string{"INSTANCE", "PHASE", "RESTARTS", "UP", "EXIT", "PORTS", "ID", "WHY"}, rows)
}

// uptime is how long an instance has been running. One that ended is not up, however
// long ago it was started.
func uptime(i drivers.InstanceStatus, now time.Time) string {
	t, err := time.Parse(time.RFC3339Nano, i.StartedAt)
	if err != nil || i.FinishedAt != "" {
		return "-"
	}
	return age(t, now)
}

func exitText(i drivers.InstanceStatus) string {
	switch {
	case i.ExitCode == nil:
		return "-"
	case i.OOMKilled:
		return strconv.Itoa(*i.ExitCode) + " (out of memory)"
	default:
		return strconv.Itoa(*i.ExitCode)
	}
}

// join joins what is not empty.
func join(separator string, parts ...string) string {
	var out []string
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return strings.Join(out, separator)
}
