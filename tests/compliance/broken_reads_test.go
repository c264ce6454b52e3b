package compliance_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/drivers/sim"
)

func brokenReads() []broken {
	read := func(name, caught string, change func(*drivers.WorkloadStatus)) broken {
		return broken{name, caught, func(_ *sim.Engine, d *sim.Driver) drivers.RuntimeDriver {
			return reads{d, func(st *drivers.WorkloadStatus, err error) (*drivers.WorkloadStatus, error) {
				if st != nil {
					change(st)
				}
				return st, err
			}}
		}}
	}
	return []broken{
		read("forgets the command", "StatusSaysWhatRuns", func(st *drivers.WorkloadStatus) { st.CommandID = "" }),
		read("forgets exit codes", "ExitCodeIsReported", func(st *drivers.WorkloadStatus) {
			for i := range st.Instances {
				st.Instances[i].ExitCode = nil
			}
		}),
		read("calls an OOM kill a crash", "OutOfMemoryIsTold", func(st *drivers.WorkloadStatus) {
			for i := range st.Instances {
				st.Instances[i].OOMKilled = false
			}
		}),
		read("does not count restarts", "CrashLoopIsCounted", func(st *drivers.WorkloadStatus) {
			for i := range st.Instances {
				st.Instances[i].Restarts = 0
			}
		}),
		read("shows no ports", "PortIsPublished", func(st *drivers.WorkloadStatus) {
			for i := range st.Instances {
				st.Instances[i].Ports = nil
			}
		}),
		read("forgets how many are wanted", "ScaleUpAndDown", func(st *drivers.WorkloadStatus) { st.Desired = 1 }),
		{"returns nil and nil for the unknown", "UnknownWorkloadIsNotFound", func(_ *sim.Engine, d *sim.Driver) drivers.RuntimeDriver {
			return reads{d, func(st *drivers.WorkloadStatus, err error) (*drivers.WorkloadStatus, error) {
				if errors.Is(err, drivers.ErrNotFound) {
					return nil, nil //nolint:nilnil // that is what is broken
				}
				return st, err
			}}
		}},
		{"ignores the namespace", "ListIsOursAlone", func(_ *sim.Engine, d *sim.Driver) drivers.RuntimeDriver {
			return lists{d, func(ctx context.Context, ns string) ([]*drivers.WorkloadStatus, error) {
				return d.ListWorkloads(ctx, ns[:max(len(ns)-2, 0)])
			}}
		}},
		{"lists one page", "ListManyWorkloads", func(_ *sim.Engine, d *sim.Driver) drivers.RuntimeDriver {
			return lists{d, func(ctx context.Context, ns string) ([]*drivers.WorkloadStatus, error) {
				all, err := d.ListWorkloads(ctx, ns)
				return all[:min(10, len(all))], err
			}}
		}},
		{"measures nothing", "StatsArePlausible", func(_ *sim.Engine, d *sim.Driver) drivers.RuntimeDriver {
			return statistics{d, func(ctx context.Context, id string) ([]drivers.InstanceStats, error) {
				all, err := d.ReadStats(ctx, id)
				for i := range all {
					all[i].CPUNanoseconds = 0
				}
				return all, err
			}}
		}},
		{"hides an interface it declared", "InterfacesAreDeclared", func(_ *sim.Engine, d *sim.Driver) drivers.RuntimeDriver { return plain{d} }},
	}
}

func brokenLogs() []broken {
	return []broken{
		onLogs("drops every tenth line", "LogsAreInOrder", func(d *sim.Driver, ctx context.Context, id string, o *drivers.LogOptions, fn func(drivers.LogLine) error) error {
			n := 0
			return d.ReadLogs(ctx, id, o, func(l drivers.LogLine) error {
				if n++; n%10 == 0 {
					return nil
				}
				return fn(l)
			})
		}),
		onLogs("repeats a line after a restart", "LogsFollowRestart", func(d *sim.Driver, ctx context.Context, id string, o *drivers.LogOptions, fn func(drivers.LogLine) error) error {
			return d.ReadLogs(ctx, id, o, func(l drivers.LogLine) error {
				if string(l.Line) == "tick 5" {
					if err := fn(l); err != nil {
						return err
					}
				}
				return fn(l)
			})
		}),
		onLogs("stops following at a restart", "LogsFollowRestart", func(d *sim.Driver, ctx context.Context, id string, o *drivers.LogOptions, fn func(drivers.LogLine) error) error {
			first := ""
			err := d.ReadLogs(ctx, id, o, func(l drivers.LogLine) error {
				if string(l.Line) == first && options(o).Follow {
					return io.EOF
				}
				if first == "" {
					first = string(l.Line)
				}
				return fn(l)
			})
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}),
		onLogs("takes all for stdout", "LogsTellStreams", func(d *sim.Driver, ctx context.Context, id string, o *drivers.LogOptions, fn func(drivers.LogLine) error) error {
			return d.ReadLogs(ctx, id, o, func(l drivers.LogLine) error {
				l.Stream = "stdout"
				return fn(l)
			})
		}),
		onLogs("rounds since to seconds", "LogsSinceUntil", func(d *sim.Driver, ctx context.Context, id string, o *drivers.LogOptions, fn func(drivers.LogLine) error) error {
			rounded := options(o)
			rounded.Since = rounded.Since.Truncate(time.Second)
			return d.ReadLogs(ctx, id, &rounded, fn)
		}),
		onLogs("splits long lines", "LongLinesAreWhole", func(d *sim.Driver, ctx context.Context, id string, o *drivers.LogOptions, fn func(drivers.LogLine) error) error {
			return d.ReadLogs(ctx, id, o, func(l drivers.LogLine) error {
				for piece := range slices.Chunk(l.Line, 16<<10) {
					l.Line = piece
					if err := fn(l); err != nil {
						return err
					}
				}
				return nil
			})
		}),
		onLogs("does not say that a line was cut", "LongestLinesAreCut", func(d *sim.Driver, ctx context.Context, id string, o *drivers.LogOptions, fn func(drivers.LogLine) error) error {
			return d.ReadLogs(ctx, id, o, func(l drivers.LogLine) error {
				l.Truncated = false
				return fn(l)
			})
		}),
		onLogs("follows for ever", "LogsFollowEndsWithRemoval", func(d *sim.Driver, ctx context.Context, id string, o *drivers.LogOptions, fn func(drivers.LogLine) error) error {
			err := d.ReadLogs(ctx, id, o, fn)
			if err == nil && options(o).Follow {
				<-ctx.Done()
				err = ctx.Err()
			}
			return err
		}),
		{"ignores tail", "LogsTail", func(_ *sim.Engine, d *sim.Driver) drivers.RuntimeDriver {
			return streams{d, func(ctx context.Context, id string, o *drivers.LogOptions) (<-chan string, error) {
				all := options(o)
				all.Tail = 0
				return d.StreamLogs(ctx, id, &all)
			}}
		}},
		{"takes any options", "LogOptionsAreChecked", func(_ *sim.Engine, d *sim.Driver) drivers.RuntimeDriver {
			return streams{d, func(ctx context.Context, id string, _ *drivers.LogOptions) (<-chan string, error) {
				return d.StreamLogs(ctx, strings.TrimSuffix(id, "/first"), nil)
			}}
		}},
	}
}

func brokenWatches() []broken {
	relay := func(name, caught string, f func(ctx context.Context, in <-chan drivers.Change, out chan<- drivers.Change)) broken {
		return broken{name, caught, func(_ *sim.Engine, d *sim.Driver) drivers.RuntimeDriver {
			return watches{d, func(ctx context.Context) (<-chan drivers.Change, error) {
				in, err := d.Watch(ctx)
				if err != nil {
					return nil, err
				}
				out := make(chan drivers.Change)
				go func() {
					defer close(out)
					f(ctx, in, out)
				}()
				return out, nil
			}}
		}}
	}
	send := func(ctx context.Context, out chan<- drivers.Change, c drivers.Change) {
		select {
		case out <- c:
		case <-ctx.Done():
		}
	}
	return []broken{
		relay("does not begin with a resync", "WatchBeginsWithResync", func(ctx context.Context, in <-chan drivers.Change, out chan<- drivers.Change) {
			for c := range in {
				if !c.Resync {
					send(ctx, out, c)
				}
			}
		}),
		relay("tells of a crash late", "CrashIsSeenAtOnce", func(ctx context.Context, in <-chan drivers.Change, out chan<- drivers.Change) {
			for c := range in {
				if c.Kind == drivers.ChangeExited {
					select {
					case <-time.After(400 * time.Millisecond):
					case <-ctx.Done():
					}
				}
				send(ctx, out, c)
			}
		}),
		relay("does not tell of removal", "WatchSeesStartAndRemoval", func(ctx context.Context, in <-chan drivers.Change, out chan<- drivers.Change) {
			for c := range in {
				if c.Kind != drivers.ChangeRemoved {
					send(ctx, out, c)
				}
			}
		}),
	}
}
