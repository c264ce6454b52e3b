// Command demo shows the whole product on real input: a deploy command published on
// NATS becomes a running, observed container, is updated, survives a broken version and
// is destroyed. `make demo` builds the runtime and runs it.
//
// It drives the built binary as a user would, on a Docker engine that answers or one it
// starts, with a workload image made from the fixture tests/fixtures/web. Whatever
// happens, and after an interrupt too, it leaves nothing behind: everything it makes is
// known by the name of its node, which no one else has.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/kranix-io/kranix-runtime/tests/rig"
)

const (
	// limit bounds the whole demo: what takes longer hangs.
	limit = 5 * time.Minute
	// cleanupLimit bounds the clean-up after it, an engine's stop included.
	cleanupLimit = 90 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	bin := flag.String("bin", filepath.Join("bin", "kranix-runtime"), "the runtime's `binary`")
	flag.Parse()
	os.Exit(run(ctx, stop, *bin, os.Stdout))
}

// run is main without the process: it returns the exit code. uncatch gives interrupts
// their usual meaning back, so that a second one ends a clean-up that hangs.
func run(ctx context.Context, uncatch func(), bin string, out io.Writer) int {
	d, err := newDemo(bin, out)
	if err != nil {
		fmt.Fprintf(out, "demo: %v\n", err)
		return 1
	}
	work, cancel := context.WithTimeout(ctx, limit)
	err = d.play(work)
	cancel()
	interrupted := ctx.Err() != nil
	if interrupted {
		uncatch()
		d.show.note("interrupted; cleaning up")
	} else if err != nil {
		d.show.fault(err)
		d.runtimeLog()
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
	defer cancel()
	cleanErr := d.cleanUp(after, err == nil)
	if cleanErr != nil {
		d.show.fault(cleanErr)
	}
	d.show.timeline()
	switch {
	case interrupted:
		return 130
	case err != nil || cleanErr != nil:
		return 1
	}
	d.show.good("Everything worked, and nothing is left behind.")
	return 0
}

// demo is one run.
type demo struct {
	bin  string
	show *screen
	rig  *rig.Rig

	// node and namespace have a random part: they tell this run's objects from anyone
	// else's.
	node, namespace string
	repository      string
	dir             string

	engine  *rig.Engine
	before  inventory
	images  []string
	runtime *rig.Runtime
	port    int
}

func newDemo(bin string, out io.Writer) (*demo, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, fmt.Errorf("find the runtime: %w", err)
	}
	if _, err := os.Stat(bin); err != nil {
		return nil, fmt.Errorf("find the runtime: %w; build it with: make build", err)
	}
	var random [3]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("choose a name: %w", err)
	}
	id := hex.EncodeToString(random[:])
	s := newScreen(out)
	return &demo{
		bin: bin, show: s, rig: rig.New(s.indented()),
		node: "demo-" + id, namespace: "demo-" + id, repository: "kranix-demo-" + id + "/web",
	}, nil
}

// play goes through the steps until one fails.
func (d *demo) play(ctx context.Context) error {
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"make sure of a Docker engine", d.findEngine},
		{"make the workload's images from our own binary", d.makeImages},
		{"start the runtime with embedded NATS", d.startRuntime},
		{"publish a deploy CloudEvent on NATS, follow it to healthy", d.publishDeploy},
		{"fetch the page over the published port", d.fetchFirst},
		{"read its logs", d.readLogs},
		{"restart it", d.restart},
		{"update it to v2 with the command-line client", d.update},
		{"try v3, which is broken: it is rolled back", d.breakIt},
		{"destroy it", d.destroy},
		{"stop the runtime", d.stopRuntime},
	}
	for i, s := range steps {
		d.show.step(i+1, len(steps), s.name)
		err := s.do(ctx)
		d.show.stepDone(err == nil)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// cleanUp removes whatever is there. After a run that succeeded only the images are
// left to remove; anything else the runtime should have removed itself.
func (d *demo) cleanUp(ctx context.Context, succeeded bool) error {
	d.show.step(0, 0, "clean up")
	var all []error
	if d.runtime != nil {
		all = append(all, d.runtime.Stop(ctx))
	}
	if d.engine != nil {
		left, err := rig.Cleanup(ctx, d.engine.Host, nodeLabel+"="+d.node)
		all = append(all, err)
		if left > 0 && succeeded {
			all = append(all, fmt.Errorf("the runtime left %d objects behind after destroy", left))
		}
		for _, ref := range d.images {
			all = append(all, rig.RemoveImage(ctx, d.engine.Host, ref))
		}
		all = append(all, d.compare(ctx))
		if d.engine.Started {
			all = append(all, d.rig.Down(ctx))
		}
	}
	if d.dir != "" {
		all = append(all, os.RemoveAll(d.dir))
	}
	err := errors.Join(all...)
	d.show.stepDone(err == nil)
	if err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}
