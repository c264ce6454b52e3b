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
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: []string{filter}, DeliverPolicy: jetstream.DeliverAllPolicy}
	if !start.IsZero() {
		// A line is stored after it was written, so its batch is not older than it.
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &start
	}
	r, err := b.openReplay(ctx, subjects.StreamLogs, cfg)
	if err != nil {
		return err
	}
	defer r.close()
	empty := r.stored == 0
	if empty && !q.follow {
		if err := a.noLogs(ctx, b, w, q); err != nil {
			return err
		}
	}
	p := &logPrinter{app: a, query: q, start: start, tails: map[string][]logLine{}}
	p.multiple = p.severalInstances(ctx, b, w)
	// The past, of which only the tail may be wanted, then the present.
	for {
		msg, err := r.next(ctx, false)
		if err != nil {
			return err
		}
		if msg == nil {
			break
		}
		if err := p.batch(msg, q.tail >= 0); err != nil {
			return err
		}
	}
	if err := p.flush(); err != nil || !q.follow {
		return err
	}
	for {
		msg, err := r.next(ctx, true)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := p.batch(msg, false); err != nil {
			return err
		}
	}
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
	// tails are the last lines of each instance, in the order they are stored.
	tails map[string][]logLine
	order []string
}

func (p *logPrinter) severalInstances(ctx context.Context, b *bus, w subjects.Workload) bool {
	if p.query.instance >= 0 {
		return false
	}
	statuses, err := b.statuses(ctx, p.query.backend, w.Namespace, w.Name)
	return err != nil || len(statuses) != 1 || statuses[0].Desired > 1
}

func (p *logPrinter) batch(msg jetstream.Msg, keep bool) error {
	s, err := subjects.Parse(msg.Subject())
	if err != nil {
		return fmt.Errorf("read logs: %w", err)
	}
	e, err := subjects.Decode(msg.Headers(), msg.Data())
	if err != nil {
		return fmt.Errorf("read logs: %w", err)
	}
	var data subjects.LogData
	if err := json.Unmarshal(e.Data(), &data); err != nil {
		return fmt.Errorf("read logs: %w", err)
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
	if keep {
		p.keep(msg.Subject(), lines)
		return nil
	}
	return p.print(lines)
}

// keep remembers the last lines of a subject.
func (p *logPrinter) keep(subject string, lines []logLine) {
	if _, ok := p.tails[subject]; !ok {
		p.order = append(p.order, subject)
	}
	tail := append(p.tails[subject], lines...)
	if over := len(tail) - p.query.tail; over > 0 {
		tail = slices.Clone(tail[over:])
	}
	p.tails[subject] = tail
}

// flush prints what was kept, in order of time.
func (p *logPrinter) flush() error {
	var all []logLine
	for _, subject := range p.order {
		all = append(all, p.tails[subject]...)
	}
	clear(p.tails)
	slices.SortStableFunc(all, func(a, b logLine) int { return a.when().Compare(b.when()) })
	return p.print(all)
}

func (l logLine) when() time.Time {
	if l.Gap != nil {
		return l.Gap.From
	}
	return l.Time
}

func (p *logPrinter) print(lines []logLine) error {
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
		if p.multiple {
			out.WriteString(strconv.Itoa(l.Instance) + " | ")
		}
		if p.query.timestamps {
			out.WriteString(l.Time.UTC().Format("2006-01-02T15:04:05.000000000Z") + " ")
		}
		if len(l.Base64) > 0 {
			out.Write(l.Base64)
		} else {
			out.WriteString(*l.Line)
		}
		if !l.Truncated {
			out.WriteByte('\n')
		}
	}
	_, err := out.WriteTo(p.app.stdout)
	return err
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
