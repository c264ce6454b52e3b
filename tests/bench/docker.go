package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/drivers/docker"
	"github.com/kranix-io/kranix-runtime/subjects"
	"github.com/kranix-io/kranix-runtime/tests/rig"
)

const (
	benchLabel = "io.kranix.bench"
	// dockerAtOnce is the number of deploys in flight of the throughput rows, dockerBatch
	// how many each measurement takes.
	dockerAtOnce = 8
	dockerBatch  = 16
	// dockerSingles is how many single deploys each pair takes the median of.
	dockerSingles = 5
)

// dockerBench is an engine, a worker on it, and the same engine used directly.
type dockerBench struct {
	host  string
	image string
	cli   *client.Client
	bus   *bus
	// nc and js are of the publisher, which is connected as kranix-core is.
	nc *nats.Conn
	js jetstream.JetStream
	n  int
}

// measureDocker compares a deploy of one container, from its publication until
// "running" is received, with the engine calls it takes made directly, and with the
// engine's own command line.
func measureDocker(ctx context.Context, o options) (rows []row, err error) {
	host, stop, err := rig.Docker(ctx, io.Discard)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop(context.WithoutCancel(ctx))) }()
	d := &dockerBench{host: host, image: "kranix-bench/busybox:" + fmt.Sprint(time.Now().UnixNano())}
	if _, err := rig.BusyboxImage(ctx, host, d.image); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rig.RemoveImage(context.WithoutCancel(ctx), host, d.image)) }()
	if d.cli, err = rig.Client(host); err != nil {
		return nil, err
	}
	defer d.cli.Close()
	if d.bus, err = newBus(ctx); err != nil {
		return nil, err
	}
	defer d.bus.close()
	if d.nc, d.js, err = d.bus.connect(); err != nil {
		return nil, err
	}
	defer d.nc.Close()
	driver, err := docker.New(ctx, drivers.Environment{Node: node, Logger: slog.New(slog.DiscardHandler)}, docker.Config{Host: host})
	if err != nil {
		return nil, err
	}
	defer driver.Close()
	end, err := d.bus.work(ctx, "docker", driver, 32)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, end()) }()
	defer func() {
		_, cleanErr := rig.Cleanup(context.WithoutCancel(ctx), host, drivers.LabelNode+"="+node)
		_, benchErr := rig.Cleanup(context.WithoutCancel(ctx), host, benchLabel)
		err = errors.Join(err, cleanErr, benchErr)
	}()

	var single, cli, many []pair
	for i := range o.pairs + 1 {
		var s, c, m pair
		sides := []func() error{
			func() (err error) { s.value, err = d.singles(ctx, d.deploy); c.value = s.value; return err },
			func() (err error) { s.reference, err = d.singles(ctx, d.direct); return err },
			func() (err error) { c.reference, err = d.singles(ctx, d.commandLine); return err },
			func() (err error) { m.value, err = d.batch(ctx, d.deploy); return err },
			func() (err error) { m.reference, err = d.batch(ctx, d.direct); return err },
		}
		if i%2 == 1 {
			sides[0], sides[1], sides[3], sides[4] = sides[1], sides[0], sides[4], sides[3]
		}
		for _, side := range sides {
			if err := side(); err != nil {
				return nil, err
			}
		}
		if i == 0 {
			continue // the first of everything finds caches cold
		}
		single, cli, many = append(single, s), append(cli, c), append(many, m)
	}
	return []row{
		compare("docker deploy to running p50, over engine calls made directly", "ms", single, "<= 1.05", atMost(1.05)),
		compare("docker deploys/s to running, 8 at a time, over engine calls made directly", "1/s", many, ">= 0.95", atLeast(0.95)),
		compare("docker deploy to running p50, over docker run -d", "ms", cli, "", nil),
	}, nil
}

// start is one way to have a container running; it returns how to be rid of it.
type start func(ctx context.Context, name string) (remove func() error, err error)

// singles is the median time of one start after the other, in milliseconds.
func (d *dockerBench) singles(ctx context.Context, s start) (float64, error) {
	var times []float64
	for range dockerSingles {
		d.n++
		began := time.Now()
		remove, err := s(ctx, fmt.Sprintf("w%d", d.n))
		if err != nil {
			return 0, err
		}
		times = append(times, time.Since(began).Seconds()*1e3)
		if err := remove(); err != nil {
			return 0, err
		}
	}
	return median(times), nil
}

// batch is the throughput of starts, dockerAtOnce at a time, per second.
func (d *dockerBench) batch(ctx context.Context, s start) (float64, error) {
	var mu sync.Mutex
	var removes []func() error
	var g errgroup.Group
	g.SetLimit(dockerAtOnce)
	began := time.Now()
	for range dockerBatch {
		d.n++
		name := fmt.Sprintf("w%d", d.n)
		g.Go(func() error {
			remove, err := s(ctx, name)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			removes = append(removes, remove)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	rate := dockerBatch / time.Since(began).Seconds()
	for _, remove := range removes {
		if err := remove(); err != nil {
			return 0, err
		}
	}
	return rate, nil
}

var benchCommand = []string{"sleep", "3600"}

// deploy goes through the bus and the worker.
func (d *dockerBench) deploy(ctx context.Context, name string) (func() error, error) {
	send := func(verb subjects.Verb, spec *drivers.WorkloadSpec, until func(id string) (string, error)) error {
		msg, e, err := command("docker", name, verb, spec)
		if err != nil {
			return err
		}
		subject, err := until(subjects.CommandIDOf(e))
		if err != nil {
			return err
		}
		a, err := await(d.nc, subject)
		if err != nil {
			return err
		}
		defer a.close()
		if _, err := d.js.PublishMsg(ctx, msg); err != nil {
			return err
		}
		return a.collect(1)
	}
	grace := drivers.DurationPtr(0)
	spec := &drivers.WorkloadSpec{
		Name: name, Namespace: namespace, Image: d.image, Command: benchCommand,
		Update: drivers.Update{Monitor: drivers.DurationPtr(0)}, Stop: drivers.Stop{Grace: grace},
	}
	err := send(subjects.Deploy, spec, func(string) (string, error) { return subjects.EventsFilter("docker", node, namespace, name, "running") })
	return func() error {
		return send(subjects.Destroy, nil, func(id string) (string, error) { return subjects.ResultFilter(id), nil })
	}, err
}

// direct makes the engine calls a deploy takes: what is there, the image, create,
// start, and what came of it.
func (d *dockerBench) direct(ctx context.Context, name string) (func() error, error) {
	of := filters.NewArgs(filters.Arg("label", benchLabel+"="+name))
	if _, err := d.cli.ContainerList(ctx, container.ListOptions{All: true, Filters: of}); err != nil {
		return nil, err
	}
	image, err := d.cli.ImageInspect(ctx, d.image)
	if err != nil {
		return nil, err
	}
	stop := 0
	made, err := d.cli.ContainerCreate(ctx, &container.Config{
		Image: image.ID, Entrypoint: benchCommand, Labels: map[string]string{benchLabel: name}, StopTimeout: &stop,
	}, &container.HostConfig{
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyAlways},
		LogConfig:     container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "10m", "max-file": "3"}},
	}, nil, nil, "kranix-bench-"+name)
	if err != nil {
		return nil, err
	}
	if err := d.cli.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
		return nil, err
	}
	_, err = d.cli.ContainerInspect(ctx, made.ID)
	return func() error { return d.cli.ContainerRemove(ctx, made.ID, container.RemoveOptions{Force: true}) }, err
}

// commandLine is what a user would type.
func (d *dockerBench) commandLine(ctx context.Context, name string) (func() error, error) {
	args := append([]string{"-H", d.host, "run", "-d", "--restart", "always", "--label", benchLabel + "=" + name, d.image}, benchCommand...)
	out, err := exec.CommandContext(ctx, "docker", args...).Output()
	if err != nil {
		return nil, fmt.Errorf("docker run: %w", err)
	}
	id := strings.TrimSpace(string(out))
	return func() error { return d.cli.ContainerRemove(ctx, id, container.RemoveOptions{Force: true}) }, nil
}
