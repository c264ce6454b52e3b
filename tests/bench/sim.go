package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/drivers/sim"
	"github.com/kranix-io/kranix-runtime/subjects"
)

const (
	// simConcurrency is how many commands are worked on at a time, on both sides.
	simConcurrency = 16
	// simBatch is how many commands a throughput measurement takes.
	simBatch = 400
	// simSingles is how many commands, one after the other, a latency measurement takes.
	simSingles = 60
)

// measureSim compares commands through the whole worker, on an engine that takes no
// time, with the same JetStream operations done by a bare loop.
func measureSim(ctx context.Context, o options) ([]row, error) {
	var throughput, latency []pair
	for i := range o.pairs {
		var p [2]pair
		// Who goes first alternates, and each side has a store of its own, so that
		// neither works on what the other left.
		sides := []func(context.Context, *pair, *pair) error{simWorker, simBare}
		if i%2 == 1 {
			sides[0], sides[1] = sides[1], sides[0]
		}
		for _, side := range sides {
			if err := side(ctx, &p[0], &p[1]); err != nil {
				return nil, err
			}
		}
		throughput, latency = append(throughput, p[0]), append(latency, p[1])
	}
	return []row{
		compare("sim commands/s, worker over bare JetStream", "1/s", throughput, ">= 0.8", atLeast(0.8)),
		compare("sim command to result p50, worker over bare JetStream", "ms", latency, "<= 1.5", atMost(1.5)),
	}, nil
}

func simSpec(name string) *drivers.WorkloadSpec {
	return &drivers.WorkloadSpec{Name: name, Namespace: namespace, Image: "web:1", Update: drivers.Update{Monitor: drivers.DurationPtr(0)}}
}

// simWorker measures the worker: commands per second, and the median of one command
// from publish to result in milliseconds.
func simWorker(ctx context.Context, throughput, latency *pair) error {
	b, err := newBus(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	driver, err := sim.New(drivers.Environment{Node: node, Logger: slog.New(slog.DiscardHandler)}, sim.Config{Images: []string{"web:1"}})
	if err != nil {
		return err
	}
	defer driver.Close()
	stop, err := b.work(ctx, sim.Backend, driver, simConcurrency)
	if err != nil {
		return err
	}
	throughput.value, latency.value, err = simLoad(b)
	return errors.Join(err, stop())
}

// simBare measures the floor.
func simBare(ctx context.Context, throughput, latency *pair) error {
	b, err := newBus(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	ctx, cancel := context.WithCancel(ctx)
	g, gctx := errgroup.WithContext(ctx)
	if err := bareLoop(gctx, g, b); err != nil {
		cancel()
		return err
	}
	throughput.reference, latency.reference, err = simLoad(b)
	cancel()
	return errors.Join(err, g.Wait())
}

// simLoad publishes the same load for both sides and watches the results arrive.
func simLoad(b *bus) (perSecond, p50 float64, err error) {
	nc, js, err := b.connect()
	if err != nil {
		return 0, 0, err
	}
	defer nc.Close()
	results, err := await(nc, subjects.ResultFilter(""))
	if err != nil {
		return 0, 0, err
	}
	defer results.close()
	one := func(name string) error {
		msg, _, err := command(sim.Backend, name, subjects.Deploy, simSpec(name))
		if err != nil {
			return err
		}
		_, err = js.PublishMsg(context.Background(), msg)
		return err
	}
	// The first commands find everything cold; they are not counted.
	for i := range 10 {
		if err := errors.Join(one(fmt.Sprintf("warm-%d", i)), results.collect(1)); err != nil {
			return 0, 0, err
		}
	}
	var singles []float64
	for i := range simSingles {
		start := time.Now()
		if err := errors.Join(one(fmt.Sprintf("single-%d", i)), results.collect(1)); err != nil {
			return 0, 0, err
		}
		singles = append(singles, time.Since(start).Seconds()*1e3)
	}
	start := time.Now()
	for i := range simBatch {
		msg, _, err := command(sim.Backend, fmt.Sprintf("batch-%d", i), subjects.Deploy, simSpec(fmt.Sprintf("batch-%d", i)))
		if err != nil {
			return 0, 0, err
		}
		if _, err := js.PublishMsgAsync(msg); err != nil {
			return 0, 0, err
		}
	}
	if err := results.collect(simBatch); err != nil {
		return 0, 0, err
	}
	perSecond, p50 = simBatch/time.Since(start).Seconds(), median(singles)
	return perSecond, p50, checkSame(js)
}

// checkSame fails when a side did not write what one deploy on sim costs: the floor
// would not be one.
func checkSame(js jetstream.JetStream) error {
	const commands = 10 + simSingles + simBatch
	want := map[string]uint64{
		subjects.StreamResults: commands, subjects.StreamEvents: uint64(len(barePhases)) * commands,
		"KV_" + subjects.BucketWorkloads: 3 * commands, "KV_" + subjects.BucketStatus: commands,
	}
	var faults []error
	deadline := time.Now().Add(5 * time.Second)
	for name, n := range want {
		for {
			stream, err := js.Stream(context.Background(), name)
			if err != nil {
				return err
			}
			got := stream.CachedInfo().State.LastSeq
			if got == n {
				break
			}
			if got > n || time.Now().After(deadline) {
				faults = append(faults, fmt.Errorf("%s holds %d writes, want %d", name, got, n))
				break
			}
		}
	}
	return errors.Join(faults...)
}

// barePhases are the events the worker publishes for one deploy on sim.
var barePhases = []string{"accepted", "creating", "starting", "running"}

// bareLoop consumes commands and does to the bus what the worker does for each, in the
// same order, without deciding anything: look for a result, read and claim the record,
// prove the claim, the events and the status beside that, the result by
// compare-and-set, the record again, the ack. checkSame holds it to the worker's own
// count of writes.
func bareLoop(ctx context.Context, g *errgroup.Group, b *bus) error {
	nc, js, err := b.connect()
	if err != nil {
		return err
	}
	records, err := js.KeyValue(ctx, subjects.BucketWorkloads)
	if err != nil {
		return err
	}
	status, err := js.KeyValue(ctx, subjects.BucketStatus)
	if err != nil {
		return err
	}
	consumer, err := js.CreateOrUpdateConsumer(ctx, subjects.StreamCommands, subjects.PoolConsumer(sim.Backend, false, subjects.ConsumerOptions{}))
	if err != nil {
		return err
	}
	msgs, err := consumer.Messages(jetstream.PullMaxMessages(64))
	if err != nil {
		return err
	}
	queue := make(chan jetstream.Msg)
	g.Go(func() error {
		defer nc.Close()
		<-ctx.Done()
		msgs.Stop()
		return nil
	})
	g.Go(func() error {
		defer close(queue)
		for {
			msg, err := msgs.Next()
			if err != nil {
				return nil
			}
			select {
			case queue <- msg:
			case <-ctx.Done():
				return nil
			}
		}
	})
	for range simConcurrency {
		g.Go(func() error {
			for msg := range queue {
				if err := bareCommand(ctx, js, records, status, msg); err != nil && ctx.Err() == nil {
					return err
				}
			}
			return nil
		})
	}
	return nil
}

func bareCommand(ctx context.Context, js jetstream.JetStream, records, status jetstream.KeyValue, msg jetstream.Msg) error {
	e, err := subjects.Decode(msg.Headers(), msg.Data())
	if err != nil {
		return err
	}
	s, err := subjects.Parse(msg.Subject())
	if err != nil {
		return err
	}
	id, on := subjects.CommandIDOf(e), s.Workload.On(node)
	looked := make(chan error, 1)
	go func() {
		_, _, err := subjects.FindResultOf(ctx, js, on, id)
		looked <- err
	}()
	_, err = records.Get(ctx, on.Identity().Key())
	if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return err
	}
	if err := <-looked; !errors.Is(err, subjects.ErrNoResult) {
		return fmt.Errorf("look for a result: %w", err)
	}
	rev, err := records.Create(ctx, on.Identity().Key(), make([]byte, 250))
	if err != nil {
		return err
	}
	// The worker's events and status go out beside its work; so do these.
	said := make(chan error, 1)
	go func() {
		said <- func() error {
			for _, phase := range barePhases {
				if err := publish(ctx, js, on, phase, make([]byte, 400)); err != nil {
					return err
				}
			}
			_, err := status.Put(ctx, on.Key(), make([]byte, 500))
			return err
		}()
	}()
	if rev, err = records.Update(ctx, on.Identity().Key(), make([]byte, 250), rev); err != nil {
		return err
	}
	if err := <-said; err != nil {
		return err
	}
	result, err := subjects.NewEvent(on.Source(), subjects.ResultType(subjects.Done), on.ID(), subjects.ResultData{Outcome: subjects.Done, Message: string(make([]byte, 400))}, nil)
	if err != nil {
		return err
	}
	if won, _, err := subjects.PublishResult(ctx, js, on, id, result); err != nil || !won {
		return fmt.Errorf("publish result: won %v: %w", won, err)
	}
	if _, err := records.Update(ctx, on.Identity().Key(), make([]byte, 400), rev); err != nil {
		return err
	}
	return msg.Ack()
}

func publish(ctx context.Context, js jetstream.JetStream, on subjects.Workload, phase string, data []byte) error {
	subject, err := subjects.Event(on, phase)
	if err != nil {
		return err
	}
	_, err = js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data, Header: nats.Header{}})
	return err
}
