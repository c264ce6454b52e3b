package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/kranix-io/kranix-runtime/subjects"
)

// waitFlags say how long to wait for a result.
type waitFlags struct {
	noWait  bool
	timeout time.Duration
}

func (f *waitFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.noWait, "no-wait", false, "return once the command is stored; its result comes later")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 0, "wait at most this long for the result (default: until the command's deadline)")
}

// observation is an event of a workload.
type observation struct {
	subject subjects.Subject
	event   event.Event
	data    subjects.WorkloadEvent
}

// follower listens for what becomes of one command. It listens before the command is
// published and reads the result from its stream, so that neither a fast nor an old
// result is missed.
type follower struct {
	token  string
	events *nats.Subscription
	inbox  chan *nats.Msg
	result jetstream.MessagesContext
}

// eventBuffer is how many events may wait to be shown; what is over is not shown, which
// only makes progress coarser.
const eventBuffer = 512

// follow starts to listen for a command.
func (b *bus) follow(ctx context.Context, c command) (*follower, error) {
	f := &follower{token: c.token(), inbox: make(chan *nats.Msg, eventBuffer)}
	filter, err := subjects.EventsFilter("", "", c.workload.Namespace, c.workload.Name, "")
	if err != nil {
		return nil, exitWith(exitUsage, err)
	}
	consumer, err := b.js.OrderedConsumer(ctx, subjects.StreamResults, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subjects.ResultFilter(f.token)}, DeliverPolicy: jetstream.DeliverAllPolicy,
	})
	if err != nil {
		return nil, fmt.Errorf("listen for the result: %w", explain(err))
	}
	if f.result, err = consumer.Messages(jetstream.PullMaxMessages(1)); err != nil {
		return nil, fmt.Errorf("listen for the result: %w", explain(err))
	}
	if f.events, err = b.nc.ChanSubscribe(filter, f.inbox); err != nil {
		f.result.Stop()
		return nil, fmt.Errorf("listen for events: %w", explain(err))
	}
	return f, nil
}

func (f *follower) close() {
	_ = f.events.Unsubscribe() // fails only when the connection is gone
	f.result.Stop()
}

// wait reports the command's events until its result is there.
func (f *follower) wait(ctx context.Context, show func(observation)) (subjects.ResultData, error) {
	type answer struct {
		msg jetstream.Msg
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	answers := make(chan answer, 1)
	go func() {
		msg, err := f.result.Next(jetstream.NextContext(ctx))
		answers <- answer{msg, err}
	}()
	joined := false
	defer func() {
		cancel()
		if !joined {
			<-answers
		}
	}()
	for {
		select {
		case msg := <-f.inbox:
			if o, ok := f.read(msg); ok {
				show(o)
			}
		case a := <-answers:
			joined = true
			if a.err != nil {
				if ctx.Err() != nil {
					return subjects.ResultData{}, ctx.Err()
				}
				return subjects.ResultData{}, fmt.Errorf("read the result: %w", explain(a.err))
			}
			f.rest(show)
			return readResult(a.msg)
		}
	}
}

// rest shows what came before the result and was not looked at yet.
func (f *follower) rest(show func(observation)) {
	for {
		select {
		case msg := <-f.inbox:
			if o, ok := f.read(msg); ok {
				show(o)
			}
		default:
			return
		}
	}
}

// read takes the events that this command caused.
func (f *follower) read(msg *nats.Msg) (observation, bool) {
	e, err := subjects.Decode(msg.Header, msg.Data)
	if err != nil || subjects.Extension(e, subjects.ExtCommandID) != f.token {
		return observation{}, false
	}
	o, err := readObservation(msg.Subject, e)
	return o, err == nil
}

func readObservation(subject string, e event.Event) (observation, error) {
	s, err := subjects.Parse(subject)
	if err != nil {
		return observation{}, err
	}
	o := observation{subject: s, event: e}
	if err := json.Unmarshal(e.Data(), &o.data); err != nil {
		return observation{}, fmt.Errorf("decode event %s: %w", subject, err)
	}
	return o, nil
}

func readResult(msg jetstream.Msg) (subjects.ResultData, error) {
	var r subjects.ResultData
	e, err := subjects.Decode(msg.Headers(), msg.Data())
	if err != nil {
		return r, fmt.Errorf("decode result %s: %w", msg.Subject(), err)
	}
	if err := json.Unmarshal(e.Data(), &r); err != nil {
		return r, fmt.Errorf("decode result %s: %w", msg.Subject(), err)
	}
	return r, nil
}

// carryOut publishes commands in order and waits for the results of all. It prints each
// outcome and returns the exit code of the first that was not done.
func (a *app) carryOut(ctx context.Context, b *bus, commands []command, f *commandFlags) error {
	display := a.newDisplay(f.output, len(commands) > 1)
	defer display.close()
	var followers []*follower
	defer func() {
		for _, fo := range followers {
			fo.close()
		}
	}()
	var receipts []receipt
	for _, c := range commands {
		if !f.wait.noWait {
			fo, err := b.follow(ctx, c)
			if err != nil {
				return err
			}
			followers = append(followers, fo)
		}
		r, err := b.publish(ctx, c)
		if err != nil {
			return err
		}
		receipts = append(receipts, r)
		if f.wait.noWait {
			if err := display.stored(r); err != nil {
				return err
			}
		}
	}
	if f.wait.noWait {
		return nil
	}
	waiting := ctx
	if f.wait.timeout > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, f.wait.timeout)
		defer cancel()
	}
	return a.awaitAll(waiting, receipts, followers, display)
}

// awaitAll waits for all commands at once: they may be for different workloads, which
// do not wait for each other.
func (a *app) awaitAll(ctx context.Context, receipts []receipt, followers []*follower, d *display) error {
	errs := make([]error, len(receipts))
	var wg sync.WaitGroup
	for i, r := range receipts {
		wg.Go(func() { errs[i] = await(ctx, r, followers[i], d) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func await(ctx context.Context, r receipt, f *follower, d *display) error {
	progress := d.begin(r)
	result, err := f.wait(ctx, progress.show)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		progress.end()
		return exitf(exitTimeout, "no result of %s %s within --timeout; command %s goes on", r.Verb, r.Workload, r.CommandID)
	case errors.Is(err, context.Canceled):
		progress.end()
		return exitf(exitInterrupted, "interrupted; command %s (%s %s) goes on", r.CommandID, r.Verb, r.Workload)
	case err != nil:
		progress.end()
		return err
	}
	if err := progress.finish(result); err != nil {
		return err
	}
	return reported(outcomeCode(result))
}
