package compliance_test

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/drivers/sim"
)

// broken is a driver that breaks one promise.
type broken struct {
	// name says what it does, after "a driver that".
	name string
	// caught is the case that must fail on it.
	caught string
	wrap   func(*sim.Engine, *sim.Driver) drivers.RuntimeDriver
}

// Over the simulated driver, each of these changes one method.
type (
	deploys struct {
		*sim.Driver
		deploy func(context.Context, *drivers.WorkloadSpec) (*drivers.WorkloadStatus, error)
	}
	destroys struct {
		*sim.Driver
		destroy func(context.Context, string) error
	}
	restarts struct {
		*sim.Driver
		restart func(context.Context, string) error
	}
	reads struct {
		*sim.Driver
		change func(*drivers.WorkloadStatus, error) (*drivers.WorkloadStatus, error)
	}
	lists struct {
		*sim.Driver
		list func(context.Context, string) ([]*drivers.WorkloadStatus, error)
	}
	logs struct {
		*sim.Driver
		read func(context.Context, string, *drivers.LogOptions, func(drivers.LogLine) error) error
	}
	streams struct {
		*sim.Driver
		stream func(context.Context, string, *drivers.LogOptions) (<-chan string, error)
	}
	watches struct {
		*sim.Driver
		watch func(context.Context) (<-chan drivers.Change, error)
	}
	statistics struct {
		*sim.Driver
		read func(context.Context, string) ([]drivers.InstanceStats, error)
	}
	// plain hides the optional interfaces.
	plain struct{ drivers.RuntimeDriver }
)

func (d deploys) Deploy(ctx context.Context, s *drivers.WorkloadSpec) (*drivers.WorkloadStatus, error) {
	return d.deploy(ctx, s)
}
func (d destroys) Destroy(ctx context.Context, id string) error { return d.destroy(ctx, id) }
func (d restarts) Restart(ctx context.Context, id string) error { return d.restart(ctx, id) }
func (d reads) GetStatus(ctx context.Context, id string) (*drivers.WorkloadStatus, error) {
	return d.change(d.Driver.GetStatus(ctx, id))
}
func (d lists) ListWorkloads(ctx context.Context, ns string) ([]*drivers.WorkloadStatus, error) {
	return d.list(ctx, ns)
}
func (d logs) ReadLogs(ctx context.Context, id string, o *drivers.LogOptions, fn func(drivers.LogLine) error) error {
	return d.read(ctx, id, o, fn)
}
func (d streams) StreamLogs(ctx context.Context, id string, o *drivers.LogOptions) (<-chan string, error) {
	return d.stream(ctx, id, o)
}
func (d watches) Watch(ctx context.Context) (<-chan drivers.Change, error) { return d.watch(ctx) }
func (d statistics) ReadStats(ctx context.Context, id string) ([]drivers.InstanceStats, error) {
	return d.read(ctx, id)
}

// commanding changes the command of a context.
func commanding(ctx context.Context, change func(*drivers.Command)) context.Context {
	cmd := drivers.CommandFrom(ctx)
	change(&cmd)
	return drivers.WithCommand(ctx, cmd)
}

// onDeploy changes what a deploy is called with.
func onDeploy(name, caught string, change func(*drivers.Command, *drivers.WorkloadSpec)) broken {
	return broken{name, caught, func(_ *sim.Engine, d *sim.Driver) drivers.RuntimeDriver {
		return deploys{d, func(ctx context.Context, s *drivers.WorkloadSpec) (*drivers.WorkloadStatus, error) {
			s = s.Clone()
			return d.Deploy(commanding(ctx, func(c *drivers.Command) { change(c, s) }), s)
		}}
	}}
}

// afterDeploy changes what a deploy returns.
func afterDeploy(name, caught string, change func(context.Context, *sim.Driver, *drivers.WorkloadSpec, *drivers.WorkloadStatus, error) (*drivers.WorkloadStatus, error)) broken {
	return broken{name, caught, func(_ *sim.Engine, d *sim.Driver) drivers.RuntimeDriver {
		return deploys{d, func(ctx context.Context, s *drivers.WorkloadSpec) (*drivers.WorkloadStatus, error) {
			st, err := d.Deploy(ctx, s)
			return change(ctx, d, s, st, err)
		}}
	}}
}

func onLogs(name, caught string, read func(d *sim.Driver, ctx context.Context, id string, o *drivers.LogOptions, fn func(drivers.LogLine) error) error) broken {
	return broken{name, caught, func(_ *sim.Engine, d *sim.Driver) drivers.RuntimeDriver {
		return logs{d, func(ctx context.Context, id string, o *drivers.LogOptions, fn func(drivers.LogLine) error) error {
			return read(d, ctx, id, o, fn)
		}}
	}}
}

func options(o *drivers.LogOptions) drivers.LogOptions {
	if o == nil {
		return drivers.LogOptions{}
	}
	return *o
}

func brokenDrivers() []broken {
	return slices.Concat(brokenDeploys(), brokenCommands(), brokenReads(), brokenLogs(), brokenWatches())
}

func brokenDeploys() []broken {
	off := false
	return []broken{
		afterDeploy("restarts what already ran", "DeployTwiceChangesNothing",
			func(ctx context.Context, d *sim.Driver, s *drivers.WorkloadSpec, st *drivers.WorkloadStatus, err error) (*drivers.WorkloadStatus, error) {
				if err == nil {
					err = d.Restart(ctx, s.ID())
				}
				return st, err
			}),
		afterDeploy("returns no status", "DeployRunsAndDestroyRemoves",
			func(_ context.Context, _ *sim.Driver, _ *drivers.WorkloadSpec, _ *drivers.WorkloadStatus, err error) (*drivers.WorkloadStatus, error) {
				return nil, err
			}),
		afterDeploy("calls a missing image unavailable", "MissingImageIsNotFound",
			func(_ context.Context, _ *sim.Driver, _ *drivers.WorkloadSpec, st *drivers.WorkloadStatus, err error) (*drivers.WorkloadStatus, error) {
				if errors.Is(err, drivers.ErrNotFound) {
					err = &drivers.Error{Class: drivers.ErrUnavailable, Op: "pull image"}
				}
				return st, err
			}),
		afterDeploy("calls a taken port an engine failure", "TakenPortIsConflict",
			func(_ context.Context, _ *sim.Driver, _ *drivers.WorkloadSpec, st *drivers.WorkloadStatus, err error) (*drivers.WorkloadStatus, error) {
				if err != nil {
					err = fmt.Errorf("start container: %v", err)
				}
				return st, err
			}),
		afterDeploy("loses the evidence", "FirstDeployFailingLeavesNothing",
			func(_ context.Context, _ *sim.Driver, _ *drivers.WorkloadSpec, st *drivers.WorkloadStatus, err error) (*drivers.WorkloadStatus, error) {
				if err != nil {
					err = &drivers.RolloutError{Reason: "Crashed", Message: "it crashed", ExitCode: 7}
				}
				return st, err
			}),
		afterDeploy("puts secrets into errors", "SecretsAreNotShown",
			func(_ context.Context, _ *sim.Driver, _ *drivers.WorkloadSpec, st *drivers.WorkloadStatus, err error) (*drivers.WorkloadStatus, error) {
				if err != nil {
					err = fmt.Errorf("run with PASSWORD=hunter2-canary-4711: %w", err)
				}
				return st, err
			}),
		onDeploy("puts secrets into labels", "SecretsAreNotShown", func(_ *drivers.Command, s *drivers.WorkloadSpec) {
			s.Labels = map[string]string{"password": "hunter2-canary-4711"}
		}),
		onDeploy("forgets to roll back", "BrokenUpdateRollsBack", func(_ *drivers.Command, s *drivers.WorkloadSpec) { s.Update.Rollback = &off }),
		onDeploy("forgets to roll back", "FirstDeployFailingLeavesNothing", func(_ *drivers.Command, s *drivers.WorkloadSpec) { s.Update.Rollback = &off }),
		onDeploy("ignores the good revision", "RollbackGoesToGoodRevision", func(c *drivers.Command, _ *drivers.WorkloadSpec) { c.GoodRevision = "" }),
		onDeploy("leaks a volume", "VolumeOutlivesUpdates", func(_ *drivers.Command, s *drivers.WorkloadSpec) {
			for i := range s.Volumes {
				s.Volumes[i].Retain = true
			}
		}),
		onDeploy("forgets to retain a volume", "VolumeIsRetained", func(_ *drivers.Command, s *drivers.WorkloadSpec) {
			for i := range s.Volumes {
				s.Volumes[i].Retain = false
			}
		}),
		onDeploy("stops first whatever is asked", "UpdateStartFirst", func(_ *drivers.Command, s *drivers.WorkloadSpec) { s.Update.Order = drivers.StopFirst }),
		onDeploy("starts first whatever is asked", "UpdateStopFirst", func(_ *drivers.Command, s *drivers.WorkloadSpec) { s.Update.Order = drivers.StartFirst }),
		onDeploy("ignores the monitor window", "BrokenUpdateRollsBackStopFirst", func(_ *drivers.Command, s *drivers.WorkloadSpec) {
			s.Env["SIM_EXIT_AFTER"] = "10ms"
			s.Update.Monitor = drivers.DurationPtr(0)
		}),
		onDeploy("does not wait for health", "HealthExec", func(_ *drivers.Command, s *drivers.WorkloadSpec) { s.Health = nil }),
		onDeploy("forgets the hook", "HookFailureTouchesNothing", func(_ *drivers.Command, s *drivers.WorkloadSpec) { s.PreDeploy = nil }),
		onDeploy("forgets the hook", "HookRunsOnce", func(_ *drivers.Command, s *drivers.WorkloadSpec) { s.PreDeploy = nil }),
		onDeploy("kills without grace", "StopGraceIsKept", func(_ *drivers.Command, s *drivers.WorkloadSpec) { s.Stop.Grace = drivers.DurationPtr(0) }),
		onDeploy("ignores the restart policy", "AttemptsAreBounded", func(_ *drivers.Command, s *drivers.WorkloadSpec) {
			s.Restart = drivers.RestartPolicy{Policy: drivers.RestartAlways}
		}),
		onDeploy("ignores the pull policy", "PullNeverNeedsTheImage", func(_ *drivers.Command, s *drivers.WorkloadSpec) { s.PullPolicy = drivers.PullMissing }),
		onDeploy("ignores what it cannot do", "UnsupportedIsRefused", func(_ *drivers.Command, s *drivers.WorkloadSpec) { s.Resources.GPU = nil }),
		onDeploy("forgets aliases", "NetworkNamesResolve", func(_ *drivers.Command, s *drivers.WorkloadSpec) {
			for i := range s.Networks {
				s.Networks[i].Aliases = nil
			}
		}),
		onDeploy("forgets secret files", "EnvironmentArrives", func(_ *drivers.Command, s *drivers.WorkloadSpec) { s.Secrets = s.Secrets[:1] }),
		onDeploy("reports nothing", "ProgressIsReported", func(c *drivers.Command, _ *drivers.WorkloadSpec) { c.Progress = nil }),
	}
}

func brokenCommands() []broken {
	unfenced := func(c *drivers.Command, _ *drivers.WorkloadSpec) { c.Fence = nil }
	return []broken{
		onDeploy("ignores the fence", "LostFenceStartsNothing", unfenced),
		onDeploy("ignores the fence", "LostFenceKeepsTheOld", unfenced),
		{"starts before it passes the fence", "LostFenceStartsNothing", func(_ *sim.Engine, d *sim.Driver) drivers.RuntimeDriver {
			return deploys{d, func(ctx context.Context, s *drivers.WorkloadSpec) (*drivers.WorkloadStatus, error) {
				fence := drivers.CommandFrom(ctx).Fence
				st, err := d.Deploy(commanding(ctx, func(c *drivers.Command) { c.Fence = nil }), s)
				if err != nil || fence == nil {
					return st, err
				}
				if err := fence(ctx); err != nil {
					// What ran is gone when the caller looks; that it ran is still wrong.
					return nil, errors.Join(err, d.Destroy(ctx, s.ID()))
				}
				return st, nil
			}}
		}},
		afterDeploy("cleans up after its successor", "ZombieLeavesWhatWasAdopted",
			func(ctx context.Context, d *sim.Driver, s *drivers.WorkloadSpec, st *drivers.WorkloadStatus, err error) (*drivers.WorkloadStatus, error) {
				if errors.Is(err, drivers.ErrStale) {
					err = errors.Join(err, d.Destroy(commanding(ctx, func(c *drivers.Command) { c.Fence = nil }), s.ID()))
				}
				return st, err
			}),
		onDeploy("takes no answer for a yes", "FenceOutOfReachDecidesNothing", unfenced),
		onDeploy("ignores the order of commands", "LowerSequenceIsStale", func(c *drivers.Command, _ *drivers.WorkloadSpec) { c.Sequence = 0 }),
		{"leaves what a superseded deploy made", "SupersededDeployLeavesNothing", func(_ *sim.Engine, d *sim.Driver) drivers.RuntimeDriver {
			return deploys{d, func(ctx context.Context, s *drivers.WorkloadSpec) (*drivers.WorkloadStatus, error) {
				// The cause does not get through.
				inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
				defer cancel()
				defer context.AfterFunc(ctx, cancel)()
				st, err := d.Deploy(inner, s)
				if err != nil {
					err = &drivers.Error{Class: drivers.ErrStale, Op: "deploy", Err: err}
				}
				return st, err
			}}
		}},
		afterDeploy("removes everything at a shutdown", "ShutdownIsAdopted",
			func(ctx context.Context, d *sim.Driver, s *drivers.WorkloadSpec, st *drivers.WorkloadStatus, err error) (*drivers.WorkloadStatus, error) {
				if ctx.Err() != nil {
					err = errors.Join(err, d.Destroy(context.WithoutCancel(ctx), s.ID()))
				}
				return st, err
			}),
		{"destroys without the claim", "LostFenceStopsNothing", func(_ *sim.Engine, d *sim.Driver) drivers.RuntimeDriver {
			return destroys{d, func(ctx context.Context, id string) error {
				return d.Destroy(commanding(ctx, func(c *drivers.Command) { c.Fence = nil }), id)
			}}
		}},
		{"says not found when there is nothing to destroy", "DestroyIsIdempotent", func(_ *sim.Engine, d *sim.Driver) drivers.RuntimeDriver {
			return destroys{d, func(ctx context.Context, id string) error {
				if _, err := d.GetStatus(ctx, id); err != nil {
					return err
				}
				return d.Destroy(ctx, id)
			}}
		}},
		{"touches neighbours", "NeighbourSurvives", func(e *sim.Engine, d *sim.Driver) drivers.RuntimeDriver {
			return destroys{d, func(ctx context.Context, id string) error {
				for _, c := range e.Containers() {
					if c.WorkloadID == id && c.Running {
						if err := e.Kill(c.ID); err != nil {
							return err
						}
					}
				}
				return d.Destroy(ctx, id)
			}}
		}},
		{"restarts twice", "RestartOnceByBaseline", func(_ *sim.Engine, d *sim.Driver) drivers.RuntimeDriver {
			return restarts{d, func(ctx context.Context, id string) error {
				return d.Restart(commanding(ctx, func(c *drivers.Command) { c.Baseline = nil }), id)
			}}
		}},
		{"does not restart", "RestartKeepsRevision", func(_ *sim.Engine, d *sim.Driver) drivers.RuntimeDriver {
			return restarts{d, func(ctx context.Context, id string) error {
				_, err := d.GetStatus(ctx, id)
				return err
			}}
		}},
		{"stops workloads when it is closed", "CloseLeavesWorkloads", func(e *sim.Engine, d *sim.Driver) drivers.RuntimeDriver {
			return closes{d, func() error {
				for _, c := range e.Containers() {
					if c.Running {
						if err := e.Kill(c.ID); err != nil {
							return err
						}
					}
				}
				return d.Close()
			}}
		}},
	}
}

type closes struct {
	*sim.Driver
	close func() error
}

func (d closes) Close() error { return d.close() }

// idle is a driver that does nothing and says that all is well.
type idle struct{}

func (idle) Deploy(context.Context, *drivers.WorkloadSpec) (*drivers.WorkloadStatus, error) {
	return &drivers.WorkloadStatus{}, nil
}
func (idle) Destroy(context.Context, string) error { return nil }
func (idle) Restart(context.Context, string) error { return nil }
func (idle) GetStatus(context.Context, string) (*drivers.WorkloadStatus, error) {
	return &drivers.WorkloadStatus{}, nil
}
func (idle) ListWorkloads(context.Context, string) ([]*drivers.WorkloadStatus, error) {
	return nil, nil
}
func (idle) StreamLogs(context.Context, string, *drivers.LogOptions) (<-chan string, error) {
	ch := make(chan string)
	close(ch)
	return ch, nil
}
func (idle) Ping(context.Context) error { return nil }
func (idle) Backend() string            { return "idle" }
