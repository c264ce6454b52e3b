package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/kranix-io/kranix-runtime/subjects"
)

// eventFilter says which events to show; empty means any.
type eventFilter struct {
	target
	name  string
	phase string
}

// streamLine is an event of a stream, the output of events -o json.
type streamLine struct {
	Stream   string      `json:"stream"`
	Sequence uint64      `json:"sequence"`
	Subject  string      `json:"subject"`
	Event    event.Event `json:"event"`
}

func (a *app) eventsCommand() *cobra.Command {
	var f eventFilter
	var follow bool
	var since, output string
	cmd := &cobra.Command{
		Use:   "events [NAMESPACE/NAME | NAMESPACE/]",
		Short: "Show events and results, from the past and as they come",
		Long: `Events prints what was observed of workloads, how far commands came and how they ended, in order of
time: without -f what happened in the last hour (or since --since), with -f what happens from now (or
since --since) until interrupted. -o json prints one object per line: stream, sequence, subject and
the CloudEvent.`,
		Example: "  kranix-runtime events -f\n  kranix-runtime events shop/web --since 24h\n  kranix-runtime events shop/ -f --phase crashed",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.parseArgs(args); err != nil {
				return err
			}
			now := time.Now()
			start := now
			if since != "" {
				var err error
				if start, err = instant(since, now); err != nil {
					return err
				}
			} else if !follow {
				start = now.Add(-time.Hour)
			}
			b, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer b.close()
			p := a.painter(a.stdout)
			return b.events(cmd.Context(), f, start, follow, func(l streamLine) error {
				if output == formatJSON {
					return writeLine(a.stdout, l)
				}
				_, err := fmt.Fprintln(a.stdout, eventText(p, l, time.Now()))
				return err
			})
		},
	}
	cmd.ValidArgsFunction = a.completeWorkloads
	f.target.add(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens")
	cmd.Flags().StringVar(&since, "since", "", "start that long ago (\"10m\") or at that time (RFC 3339)")
	cmd.Flags().StringVar(&f.phase, "phase", "", "only this phase or outcome")
	outputFlag(cmd, &output, formatTable, formatJSON)
	return cmd
}

func (f *eventFilter) parseArgs(args []string) error {
	if len(args) == 0 {
		return nil
	}
	if ns, ok := strings.CutSuffix(args[0], "/"); ok {
		if f.namespace != "" && f.namespace != ns {
			return exitf(exitUsage, "%q and --namespace %q name two namespaces", args[0], f.namespace)
		}
		f.namespace = ns
		return nil
	}
	w, err := f.parse(args[0])
	f.namespace, f.name = w.Namespace, w.Name
	return err
}

// events reads events and results since a time and passes them on in order of time.
func (b *bus) events(ctx context.Context, f eventFilter, start time.Time, follow bool, show func(streamLine) error) error {
	events, err := subjects.EventsFilter(f.backend, "", f.namespace, f.name, f.phase)
	if err != nil {
		return exitWith(exitUsage, err)
	}
	results, err := subjects.ResultsFilter(f.backend, "", f.namespace, f.name, "")
	if err != nil {
		return exitWith(exitUsage, err)
	}
	// Listening to what comes begins before the past is read: nothing falls between.
	cfg := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &start}
	var feeds []*feed
	for _, s := range []struct{ stream, filter string }{{subjects.StreamEvents, events}, {subjects.StreamResults, results}} {
		cfg.FilterSubjects = []string{s.filter}
		r, err := b.openReplay(ctx, s.stream, cfg)
		if err != nil {
			return err
		}
		defer r.close()
		feeds = append(feeds, &feed{stream: s.stream, replay: r})
	}
	pass := func(l *streamLine) error {
		if l == nil || (f.phase != "" && phaseOf(*l) != f.phase) {
			return nil
		}
		return show(*l)
	}
	if err := merge(ctx, feeds, pass); err != nil || !follow {
		return err
	}
	return followAll(ctx, feeds, pass)
}

// feed is one stream of events.
type feed struct {
	stream string
	replay *replay
	// head is the next stored event.
	head *streamLine
	at   time.Time
}

// read returns the next event, nil at the end of what is stored. What is no CloudEvent
// is passed over: somebody published it by hand.
func (f *feed) read(ctx context.Context, follow bool) (*streamLine, time.Time, error) {
	for {
		msg, err := f.replay.next(ctx, follow)
		if err != nil || msg == nil {
			return nil, time.Time{}, err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("read event: %w", err)
		}
		e, err := subjects.Decode(msg.Headers(), msg.Data())
		if err != nil {
			continue
		}
		return &streamLine{Stream: f.stream, Sequence: meta.Sequence.Stream, Subject: msg.Subject(), Event: e}, meta.Timestamp, nil
	}
}

// merge passes on what is stored in order of the server's time.
func merge(ctx context.Context, feeds []*feed, pass func(*streamLine) error) error {
	for _, f := range feeds {
		var err error
		if f.head, f.at, err = f.read(ctx, false); err != nil {
			return err
		}
	}
	for {
		var next *feed
		for _, f := range feeds {
			if f.head != nil && (next == nil || f.at.Before(next.at)) {
				next = f
			}
		}
		if next == nil {
			return nil
		}
		if err := pass(next.head); err != nil {
			return err
		}
		var err error
		if next.head, next.at, err = next.read(ctx, false); err != nil {
			return err
		}
	}
}

// followAll passes on what comes until ctx ends, which is not an error.
func followAll(ctx context.Context, feeds []*feed, pass func(*streamLine) error) error {
	ctx, cancel := context.WithCancel(ctx)
	type item struct {
		line *streamLine
		err  error
	}
	items := make(chan item)
	done := make(chan struct{})
	for _, f := range feeds {
		go func() {
			defer func() { done <- struct{}{} }()
			for {
				line, _, err := f.read(ctx, true)
				select {
				case items <- item{line, err}:
				case <-ctx.Done():
					return
				}
				if err != nil {
					return
				}
			}
		}()
	}
	defer func() {
		cancel()
		for range feeds {
			<-done
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case i := <-items:
			if i.err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return i.err
			}
			if err := pass(i.line); err != nil {
				return err
			}
		}
	}
}

// phaseOf is the phase of an event, or the outcome of a result.
func phaseOf(l streamLine) string {
	if l.Stream == subjects.StreamResults {
		var r subjects.ResultData
		if json.Unmarshal(l.Event.Data(), &r) != nil {
			return ""
		}
		return string(r.Outcome)
	}
	if s, err := subjects.Parse(l.Subject); err == nil {
		return s.Last
	}
	return ""
}

// eventText is an event for people.
func eventText(p painter, l streamLine, now time.Time) string {
	s, err := subjects.Parse(l.Subject)
	if err != nil {
		return clock(l.Event.Time(), now) + "  " + oneLine(l.Subject) + "  " + oneLine(l.Event.Type())
	}
	what := ""
	if l.Stream == subjects.StreamResults {
		what = resultSummary(p, l.Event)
	} else if o, err := readObservation(l.Subject, l.Event); err == nil {
		phase, rest, _ := strings.Cut(describe(o.data), " ")
		what = strings.TrimSpace(p.paint(wordColour(o.data.Phase), phase) + " " + rest)
	}
	return fmt.Sprintf("%s  %s/%s  %s  %s", clock(l.Event.Time(), now), s.Workload.Backend, s.Workload.Node, s.Workload.ID(), what)
}

func resultSummary(p painter, e event.Event) string {
	var r subjects.ResultData
	if err := json.Unmarshal(e.Data(), &r); err != nil {
		return oneLine(e.Type())
	}
	out := fmt.Sprintf("= %s %s", r.Verb, p.paint(wordColour(string(r.Outcome)), string(r.Outcome)))
	if d := r.FinishedAt.Sub(r.StartedAt); !r.StartedAt.IsZero() && d >= 0 {
		out += " in " + seconds(d)
	}
	if r.Outcome != subjects.Done {
		if why := join(": ", r.Reason, r.Message); why != "" {
			out += ": " + oneLine(why)
		}
	}
	return out
}
