package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// letter is a dead letter, the output of dead-letters -o json.
type letter struct {
	// Letter is its sequence in KRANIX_DEADLETTER.
	Letter  uint64                  `json:"letter"`
	Subject string                  `json:"subject"`
	Time    time.Time               `json:"time"`
	Data    subjects.DeadLetterData `json:"data"`
}

func (l letter) workload() string {
	if s, err := subjects.Parse(l.Subject); err == nil {
		return s.Workload.ID()
	}
	return l.Subject
}

func (a *app) deadLettersCommand() *cobra.Command {
	var t target
	var output string
	cmd := &cobra.Command{
		Use:     "dead-letters",
		Aliases: []string{"dlq"},
		Short:   "List the commands that were given up",
		Long: `Dead-letters lists commands that were given up, oldest first; "dead-letters show" prints one with its
evidence, "redrive" sends one again. -o json prints a list of letters.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer b.close()
			letters := []letter{}
			err = b.letters(cmd.Context(), t.backend, t.namespace, func(l letter) { letters = append(letters, l) })
			if err != nil {
				return err
			}
			if output != formatTable {
				return writeValue(a.stdout, output, letters)
			}
			if len(letters) == 0 {
				fmt.Fprintln(a.stderr, "no dead letters")
				return nil
			}
			now := time.Now()
			rows := make([][]cell, len(letters))
			for i, l := range letters {
				rows[i] = []cell{
					text(strconv.FormatUint(l.Letter, 10)), text(age(l.Time, now)), text(l.workload()), text(verbOf(l.Data.Subject)),
					text(first(l.Data.CommandID, "-")), text(l.Data.Reason), text(clip(l.Data.Message, 80)),
				}
			}
			return table(a.stdout, a.painter(a.stdout), []string{"LETTER", "AGE", "WORKLOAD", "VERB", "COMMAND", "REASON", "MESSAGE"}, rows)
		},
	}
	cmd.Flags().StringVarP(&t.namespace, "namespace", "n", "", "only this namespace")
	cmd.Flags().StringVar(&t.backend, "backend", "", "only this backend")
	outputFlag(cmd, &output, formatTable, formatJSON, formatYAML)
	cmd.AddCommand(a.showLetterCommand())
	return cmd
}

func (a *app) showLetterCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "show LETTER|COMMAND",
		Short:   "Show a dead letter with its evidence",
		Example: "  kranix-runtime dead-letters show 3",
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
			if output != formatTable {
				return writeValue(a.stdout, output, l)
			}
			_, err = a.stdout.Write([]byte(letterText(l)))
			return err
		},
	}
	outputFlag(cmd, &output, formatTable, formatJSON, formatYAML)
	return cmd
}

// letters reads all dead letters.
func (b *bus) letters(ctx context.Context, backend, namespace string, each func(letter)) error {
	filter, err := subjects.DeadLettersFilter(backend, "", namespace, "")
	if err != nil {
		return exitWith(exitUsage, err)
	}
	r, err := b.openReplay(ctx, subjects.StreamDeadLetter, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{filter}, DeliverPolicy: jetstream.DeliverAllPolicy,
	})
	if err != nil {
		return err
	}
	defer r.close()
	for {
		msg, err := r.next(ctx, false)
		if err != nil || msg == nil {
			return err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read dead letter: %w", err)
		}
		raw := jetstream.RawStreamMsg{
			Subject: msg.Subject(), Sequence: meta.Sequence.Stream, Time: meta.Timestamp, Header: msg.Headers(), Data: msg.Data(),
		}
		l, err := readLetter(&raw)
		if err != nil {
			return err
		}
		each(l)
	}
}

func readLetter(msg *jetstream.RawStreamMsg) (letter, error) {
	l := letter{Letter: msg.Sequence, Subject: msg.Subject, Time: msg.Time}
	e, err := subjects.Decode(msg.Header, msg.Data)
	if err != nil {
		return l, fmt.Errorf("decode dead letter %d: %w", msg.Sequence, err)
	}
	if err := json.Unmarshal(e.Data(), &l.Data); err != nil {
		return l, fmt.Errorf("decode dead letter %d: %w", msg.Sequence, err)
	}
	return l, nil
}

// findLetter finds a letter by its sequence, or the last one of a command.
func (b *bus) findLetter(ctx context.Context, which string) (letter, error) {
	if n, err := strconv.ParseUint(which, 10, 64); err == nil {
		stream, err := b.js.Stream(ctx, subjects.StreamDeadLetter)
		if err != nil {
			return letter{}, fmt.Errorf("read dead letter: %w", explain(err))
		}
		msg, err := stream.GetMsg(ctx, n)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return letter{}, exitf(exitNotFound, "there is no dead letter %d", n)
		}
		if err != nil {
			return letter{}, fmt.Errorf("read dead letter: %w", explain(err))
		}
		return readLetter(msg)
	}
	var found *letter
	err := b.letters(ctx, "", "", func(l letter) {
		if l.Data.CommandID == which {
			found = &l
		}
	})
	if err != nil {
		return letter{}, err
	}
	if found == nil {
		return letter{}, exitf(exitNotFound, "there is no dead letter of command %q; `kranix-runtime dead-letters` lists them", which)
	}
	return *found, nil
}

// letterText is a letter for people.
func letterText(l letter) string {
	var b strings.Builder
	d := l.Data
	fmt.Fprintf(&b, "letter %d of %s, %s\n", l.Letter, l.workload(), l.Time.UTC().Format(time.RFC3339))
	fmt.Fprintf(&b, "  command   %s, sequence %d, published to %s\n", first(d.CommandID, "(not readable)"), d.Sequence, oneLine(d.Subject))
	fmt.Fprintf(&b, "  reason    %s\n", oneLine(join(": ", d.Reason, d.Message)))
	for _, at := range d.Attempts {
		fmt.Fprintf(&b, "  attempt %d at %s: %s\n", at.Attempt, at.At.UTC().Format(time.RFC3339), oneLine(at.Error))
	}
	var status drivers.WorkloadStatus
	if len(d.Status) > 0 && json.Unmarshal(d.Status, &status) == nil {
		fmt.Fprintf(&b, "  status    %s, %d/%d ready\n", oneLine(join(": ", string(status.Phase), status.Reason, status.Message)), status.Ready, status.Desired)
	}
	writeEvidence(&b, d.Evidence)
	switch {
	case len(d.Command) > 0:
		b.WriteString("  the command:\n")
		indent(&b, strings.Split(pretty(d.Command), "\n"))
	case len(d.Raw) > 0:
		fmt.Fprintf(&b, "  the message (%s%s):\n", plural(len(d.Raw), "byte"), map[bool]string{true: ", cut"}[d.Truncated])
		indent(&b, strings.Split(clip(string(d.Raw), 4096), "\n"))
	default:
		fmt.Fprintf(&b, "  the command is too large for a letter; it has sequence %d in %s\n", d.Sequence, subjects.StreamCommands)
	}
	return b.String()
}

func pretty(raw json.RawMessage) string {
	text, err := json.MarshalIndent(raw, "", "  ")
	if err != nil {
		return string(raw)
	}
	return string(text)
}

func verbOf(subject string) string {
	if s, err := subjects.Parse(subject); err == nil && s.Last != "" {
		return s.Last
	}
	return "-"
}

// clip shortens s to n characters.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
