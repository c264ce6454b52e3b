package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/spf13/cobra"

	"github.com/kranix-io/kranix-runtime/subjects"
)

// command is a command to publish.
type command struct {
	workload subjects.Workload
	verb     subjects.Verb
	// source and id are the CloudEvent attributes that identify it.
	source, id string
	data       any
	extensions map[string]string
}

// token is the command's CommandID.
func (c command) token() string { return subjects.CommandID(c.source, c.id) }

// repeat says how to send the command again without its being carried out twice.
func (c command) repeat() string {
	return fmt.Sprintf("; to be sure, repeat it with --source %s --id %s", c.source, c.id)
}

// receipt is a command that is stored: from now on it ends in exactly one result.
type receipt struct {
	command command
	// Subject, Sequence and Duplicate are the server's answer; the rest repeats what was
	// sent. It is the output of --no-wait.
	CommandID string        `json:"commandId"`
	Source    string        `json:"source"`
	ID        string        `json:"id"`
	Verb      subjects.Verb `json:"verb"`
	Workload  string        `json:"workload"`
	Subject   string        `json:"subject"`
	Sequence  uint64        `json:"sequence"`
	Duplicate bool          `json:"duplicate,omitempty"`
}

// publish stores the command.
func (b *bus) publish(ctx context.Context, c command) (receipt, error) {
	subject, err := subjects.Command(c.workload, c.verb)
	if err != nil {
		return receipt{}, exitWith(exitUsage, err)
	}
	e, err := subjects.NewEvent(c.source, subjects.CommandType(c.verb), c.workload.ID(), c.data, c.extensions)
	if err != nil {
		return receipt{}, exitWith(exitUsage, err)
	}
	e.SetID(c.id)
	msg, err := subjects.Encode(subject, e)
	if err != nil {
		return receipt{}, exitWith(exitUsage, err)
	}
	ack, err := b.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(subjects.StreamCommands))
	if errors.Is(err, nats.ErrMaxPayload) {
		return receipt{}, exitf(exitUsage, "publish %s of %s: %w", c.verb, c.workload.ID(), err)
	}
	if errors.Is(ctx.Err(), context.Canceled) && err != nil {
		return receipt{}, exitf(exitInterrupted, "interrupted while %s of %s was published: it may be stored%s", c.verb, c.workload.ID(), c.repeat())
	}
	if errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) {
		return receipt{}, exitf(exitUnreachable, "publish %s of %s: NATS did not answer: it may be stored%s", c.verb, c.workload.ID(), c.repeat())
	}
	if err != nil {
		return receipt{}, fmt.Errorf("publish %s of %s: %w", c.verb, c.workload.ID(), explain(err))
	}
	return receipt{
		command: c, CommandID: c.token(), Source: c.source, ID: c.id, Verb: c.verb, Workload: c.workload.ID(),
		Subject: subject, Sequence: ack.Sequence, Duplicate: ack.Duplicate,
	}, nil
}

// commandFlags are the flags of every command that publishes one.
type commandFlags struct {
	source, id, node string
	wait             waitFlags
	output           string
}

func (f *commandFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.source, "source", "", "CloudEvent source (default $KRANIX_SOURCE, else /kranix/cli/<user>@<host>)")
	flags.StringVar(&f.id, "id", "", "CloudEvent id: a command with the same source and id is carried out once, and its result is the answer each time")
	flags.StringVar(&f.node, "node", "", "node that is to carry it out (default: any of the backend's)")
	f.wait.add(cmd)
	outputFlag(cmd, &f.output, formatTable, formatJSON, formatYAML)
}

// command fills in who asks.
func (f *commandFlags) command(a *app, w subjects.Workload, v subjects.Verb, data any) command {
	if f.node != "" {
		w.Node = f.node
	}
	return command{
		workload: w, verb: v, data: data,
		source: first(f.source, a.host.Getenv("KRANIX_SOURCE"), defaultSource(a.host.Name)),
		id:     first(f.id, nuid.Next()),
	}
}

// defaultSource tells people where a command came from.
func defaultSource(host string) string {
	name := ""
	if u, err := user.Current(); err == nil {
		name = subjects.NodeLabel(u.Username)
	}
	if name == "" {
		name = fmt.Sprintf("uid-%d", os.Geteuid())
	}
	return "/" + subjects.Root + "/cli/" + name + "@" + first(subjects.NodeLabel(host), "localhost")
}
