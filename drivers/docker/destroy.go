package docker

import (
	"context"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// Destroy implements drivers.RuntimeDriver.
func (d *Driver) Destroy(ctx context.Context, workloadID string) error {
	namespace, _, err := drivers.ParseWorkloadID(workloadID)
	if err != nil {
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
	if err := cmd.Check(ctx); err != nil {
		return err //nolint:wrapcheck // the fence says what it is about
	}
	newest, err := decodeSpec(newestLabels(objects, records)[drivers.LabelSpec])
	if err != nil {
		newest = nil // then each volume's own label says whether it is kept
	}
	// Until nothing is left: the engine may still be at work on what a worker asked for
	// just before it was killed.
	for len(objects) > 0 {
		cmd.Report(drivers.Progress{Phase: drivers.PhaseStopping, Instance: wholeWorkload, Total: int64(len(objects))})
		if err := d.discardAll(ctx, objects); err != nil {
			return err
		}
		if objects, err = d.observe(ctx, workloadID); err != nil {
			return err
		}
	}
	volumes, err := d.ownedVolumes(ctx, workloadID)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		if retained(v, newest) {
			continue
		}
		if err := d.removeVolume(ctx, v.Name); err != nil {
			return err
		}
	}
	// The records go last: until then they protect against older commands.
	for _, r := range records {
		if err := d.removeVolume(ctx, r.name); err != nil {
			return err
		}
	}
	return d.removeUnusedNetworks(ctx, namespace)
}
