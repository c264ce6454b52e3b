package docker

import (
	"context"
	"slices"
	"time"

	"github.com/docker/docker/api/types/container"

	cerrdefs "github.com/containerd/errdefs"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// Restart implements drivers.RuntimeDriver. Instances are restarted one after another,
// each when the one before is up again, so that a workload with replicas keeps serving.
func (d *Driver) Restart(ctx context.Context, workloadID string) error {
	if _, _, err := drivers.ParseWorkloadID(workloadID); err != nil {
		return err //nolint:wrapcheck // it is a drivers.Error that says all
	}
	unlock, err := d.workloads.lock(ctx, workloadID)
	if err != nil {
		return err
	}
	defer unlock()
	cmd := drivers.CommandFrom(ctx)
	objects, records, err := d.survey(ctx, workloadID)
	if err != nil {
		return err
	}
	if err := checkSequence(cmd, workloadID, objects, records); err != nil {
		return err
	}
	revision := newestLabels(objects, records)[drivers.LabelRevision]
	all := instances(objects)
	if len(all) == 0 && len(records) == 0 {
		return &drivers.Error{Class: drivers.ErrNotFound, Op: "restart " + workloadID}
	}
	all = slices.DeleteFunc(all, func(o object) bool { return o.revision != revision })
	for i, o := range all {
		cmd.Report(drivers.Progress{Phase: drivers.PhaseUpdating, Instance: o.ordinal,
			Current: int64(i), Total: int64(len(all))})
		if err := d.restartOne(ctx, cmd, o); err != nil {
			return err
		}
	}
	return nil
}

func (d *Driver) restartOne(ctx context.Context, cmd drivers.Command, o object) error {
	before, err := d.inspect(ctx, o.id)
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return classify("inspect container "+o.name, err)
	}
	spec := o.spec()
	if spec == nil {
		spec = &drivers.WorkloadSpec{}
	}
	again := marked(cmd.Baseline, before)
	if again {
		if err := cmd.Check(ctx); err != nil {
			return err //nolint:wrapcheck // the fence says what it is about
		}
		if err := d.restartContainer(ctx, o, spec.Grace()); err != nil {
			return err
		}
	}
	after, err := d.inspect(ctx, o.id)
	if err != nil {
		return classify("inspect container "+o.name, err)
	}
	_, err = d.pass(ctx, inspected{object: o, InspectResponse: after},
		gate{spec: spec, monitor: spec.Monitor(), health: true, fresh: again})
	return err
}

// marked says whether an instance still lives the life the baseline recorded. Without a
// baseline all do.
func marked(baseline []drivers.InstanceMark, c container.InspectResponse) bool {
	if baseline == nil {
		return true
	}
	return slices.ContainsFunc(baseline, func(m drivers.InstanceMark) bool {
		return m.InstanceID == c.ID && m.StartedAt == everTime(c.State.StartedAt)
	})
}

func (d *Driver) restartContainer(ctx context.Context, o object, grace time.Duration) error {
	d.probes.drop(o.id)
	ctx, cancel := context.WithTimeout(ctx, grace+d.cfg.CallTimeout)
	defer cancel()
	if err := d.cli.ContainerRestart(ctx, o.id, container.StopOptions{}); err != nil {
		return classify("restart container "+o.name, err)
	}
	return nil
}
