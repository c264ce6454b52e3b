package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/kranix-io/kranix-runtime/subjects"
)

// logQuery selects lines.
type logQuery struct {
	target
	follow     bool
	tail       int
	since      string
	instance   int
	stream     string
	timestamps bool
	output     string
}

// logLine is a line or a gap; the output of logs -o json.
type logLine struct {
	Workload   string           `json:"workload"`
	Backend    string           `json:"backend"`
	Node       string           `json:"node"`
	Instance   int              `json:"instance"`
	InstanceID string           `json:"instanceId,omitempty"`
	Time       time.Time        `json:"time,omitzero"`
	Stream     string           `json:"stream,omitempty"`
	Line       *string          `json:"line,omitempty"`
	Base64     []byte           `json:"base64,omitempty"`
	Truncated  bool             `json:"truncated,omitempty"`
	Gap        *subjects.LogGap `json:"gap,omitempty"`
}

func (a *app) logsCommand() *cobra.Command {
	var q logQuery
	cmd := &cobra.Command{
		Use:   "logs NAMESPACE/NAME",
		Short: "Show the output of a workload",
		Long: `Logs prints the lines a workload wrote, from the stream that keeps them: those of instances that are
gone too. With several instances each line begins with its ordinal. Lines that were lost are declared
on standard error. -o json prints one object per line.`,
		Example:           "  kranix-runtime logs -f shop/web\n  kranix-runtime logs shop/web --tail 100 --since 1h --stream stderr",
		Args:              exactArgs("NAMESPACE/NAME"),
		ValidArgsFunction: a.completeWorkloads,
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := q.parse(args[0])
			if err != nil {
				return err
			}
			if !slices.Contains([]string{"", "stdout", "stderr"}, q.stream) {
				return exitf(exitUsage, "--stream %q is not stdout or stderr", q.stream)
			}
			var start time.Time
			if q.since != "" {
				if start, err = instant(q.since, time.Now()); err != nil {
					return err
				}
			}
			b, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer b.close()
			return a.logs(cmd.Context(), b, w, q, start)
		},
	}
	q.target.add(cmd)
	f := cmd.Flags()
	f.BoolVarP(&q.follow, "follow", "f", false, "go on with what is written")
	f.IntVar(&q.tail, "tail", -1, "start this many lines before the end of each instance (default: all)")
	f.StringVar(&q.since, "since", "", "start that long ago (\"10m\") or at that time (RFC 3339)")
	f.IntVar(&q.instance, "instance", -1, "only the instance with this ordinal (default: all)")
	f.StringVar(&q.stream, "stream", "", "only stdout or stderr")
	f.BoolVarP(&q.timestamps, "timestamps", "t", false, "begin each line with its time")
	_ = cmd.RegisterFlagCompletionFunc("stream", cobra.FixedCompletions([]string{"stdout", "stderr"}, cobra.ShellCompDirectiveNoFileComp)) // fails for unknown flags only
	outputFlag(cmd, &q.output, formatTable, formatJSON)
	return cmd
}

func (a *app) logs(ctx context.Context, b *bus, w subjects.Workload, q logQuery, start time.Time) error {
	filter, err := subjects.LogsFilter(q.backend, "", w.Namespace, w.Name, q.instance)
	if err != nil {
		return exitWith(exitUsage, err)
	}
	p := &logPrinter{app: a, query: q, start: start}
	p.multiple = p.severalInstances(ctx, b, w)
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: []string{filter}, DeliverPolicy: jetstream.DeliverAllPolicy}
	if q.tail >= 0 {
		last, err := p.tail(ctx, b, filter)
		if err != nil {
			return err
		}
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, last+1
	} else if !start.IsZero() {
		// A line is stored after it was written, so its batch is not older than it.
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &start
	}
	if q.tail < 0 || q.follow {
		r, err := b.openReplay(ctx, subjects.StreamLogs, cfg)
		if err != nil {
			return err
		}
		defer r.close()
		for {
			msg, err := r.next(ctx, q.follow)
			if err != nil && ctx.Err() != nil && q.follow {
				return nil // following ends when the user says so
			}
			if err != nil {
				return err
			}
			if msg == nil {
				break
			}
			lines, err := p.lines(msg)
			if err != nil {
				return err
			}
			if err := p.print(lines); err != nil {
				return err
			}
		}
	}
	if p.printed {
		return nil
	}
	return a.noLogs(ctx, b, w, q)
}

// noLogs tells a workload that wrote nothing from one that is not there.
func (a *app) noLogs(ctx context.Context, b *bus, w subjects.Workload, q logQuery) error {
	statuses, err := b.statuses(ctx, q.backend, w.Namespace, w.Name)
	if err != nil {
		return err
	}
	if len(statuses) == 0 {
		return a.absent(ctx, b, w)
	}
	return nil
}

// logPrinter turns batches into lines.
type logPrinter struct {
	app      *app
	query    logQuery
	start    time.Time
	multiple bool
	// kept are lines of several instances that are to be sorted.
	kept    []logLine
	printed bool
	// unfinished is the copy of an instance whose line was cut and goes on.
	unfinished string
}

func (p *logPrinter) severalInstances(ctx context.Context, b *bus, w subjects.Workload) bool {
	if p.query.instance >= 0 {
		return false
	}
	statuses, err := b.statuses(ctx, p.query.backend, w.Namespace, w.Name)
	return err != nil || len(statuses) != 1 || statuses[0].Desired > 1
}

// lines are the wanted lines of a message.
func (p *logPrinter) lines(msg jetstream.Msg) ([]logLine, error) {
	s, err := subjects.Parse(msg.Subject())
	if err != nil {
		return nil, fmt.Errorf("read logs: %w", err)
	}
	e, err := subjects.Decode(msg.Headers(), msg.Data())
	if err != nil {
		return nil, fmt.Errorf("read logs: %w", err)
	}
	var data subjects.LogData
	if err := json.Unmarshal(e.Data(), &data); err != nil {
		return nil, fmt.Errorf("read logs: %w", err)
	}
	base := logLine{
		Workload: s.Workload.ID(), Backend: s.Workload.Backend, Node: s.Workload.Node, Instance: data.Instance, InstanceID: data.InstanceID,
	}
	var lines []logLine
	if data.Gap != nil {
		gap := base
		gap.Gap = data.Gap
		lines = append(lines, gap)
	}
	for _, entry := range data.Lines {
		if (p.query.stream != "" && entry.Stream != p.query.stream) || entry.Time.Before(p.start) {
			continue
		}
		l := base
		l.Time, l.Stream, l.Line, l.Base64, l.Truncated = entry.Time, entry.Stream, &entry.Line, entry.Base64, entry.Truncated
		lines = append(lines, l)
	}
	return lines, nil
}

// copy names the engine's copy of an instance and the output a line is of.
func (l logLine) copy() string { return l.Node + "/" + l.InstanceID + "/" + l.Stream }

// when is where a line belongs among those of other instances.
func (l logLine) when() time.Time {
	if l.Gap != nil {
		return l.Gap.From
	}
	return l.Time
}

func (p *logPrinter) print(lines []logLine) error {
	p.printed = p.printed || len(lines) > 0
	if p.query.output == formatJSON {
		for _, l := range lines {
			if err := writeLine(p.app.stdout, l); err != nil {
				return err
			}
		}
		return nil
	}
	var out bytes.Buffer
	for _, l := range lines {
		if l.Gap != nil {
			// What came before must be seen before.
			if _, err := out.WriteTo(p.app.stdout); err != nil {
				return err
			}
			if err := p.declare(l); err != nil {
				return err
			}
			continue
		}
		if p.unfinished != l.copy() {
			if p.unfinished != "" {
				out.WriteByte('\n')
			}
			p.prefix(&out, l)
		}
		p.unfinished = ""
		if len(l.Base64) > 0 {
			out.Write(l.Base64)
		} else {
			out.WriteString(*l.Line)
		}
		if l.Truncated {
			p.unfinished = l.copy() // the next line of this copy goes on here
			continue
		}
		out.WriteByte('\n')
	}
	_, err := out.WriteTo(p.app.stdout)
	return err
}

func (p *logPrinter) prefix(out *bytes.Buffer, l logLine) {
	if p.multiple {
		out.WriteString(strconv.Itoa(l.Instance) + " | ")
	}
	if p.query.timestamps {
		out.WriteString(l.Time.UTC().Format("2006-01-02T15:04:05.000000000Z") + " ")
	}
}

func (p *logPrinter) declare(l logLine) error {
	count := "an unknown number of lines"
	if l.Gap.Lines > 0 {
		count = plural(int(l.Gap.Lines), "line")
	}
	when := ""
	if !l.Gap.From.IsZero() {
		when = fmt.Sprintf(" between %s and %s", l.Gap.From.UTC().Format(time.RFC3339), l.Gap.To.UTC().Format(time.RFC3339))
	}
	_, err := io.WriteString(p.app.stderr, fmt.Sprintf("-- instance %d: %s lost%s (%s) --\n", l.Instance, count, when, oneLine(l.Gap.Reason)))
	return err
}
