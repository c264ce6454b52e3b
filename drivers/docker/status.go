package docker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// GetStatus implements drivers.RuntimeDriver.
func (d *Driver) GetStatus(ctx context.Context, workloadID string) (*drivers.WorkloadStatus, error) {
	if _, _, err := drivers.ParseWorkloadID(workloadID); err != nil {
		return nil, err //nolint:wrapcheck // it is a drivers.Error that says all
	}
	objects, records, err := d.survey(ctx, workloadID)
	if err != nil {
		return nil, err
	}
	all, err := d.inspectAll(ctx, instances(objects))
	if err != nil {
		return nil, err
	}
	if len(all) == 0 && len(records) == 0 {
		return nil, &drivers.Error{Class: drivers.ErrNotFound, Op: "get status of " + workloadID}
	}
	return d.assemble(workloadID, all, records), nil
}

// ListWorkloads implements drivers.RuntimeDriver.
func (d *Driver) ListWorkloads(ctx context.Context, namespace string) ([]*drivers.WorkloadStatus, error) {
	args := d.owned("")
	if namespace != "" {
		if !drivers.IsLabel(namespace) {
			return nil, &drivers.Error{Class: drivers.ErrInvalidSpec, Op: "list workloads",
				Err: fmt.Errorf("namespace %q is not a DNS-1123 label", namespace)}
		}
		args.Add("label", drivers.LabelNamespace+"="+namespace)
	}
	var objects []object
	var records []record
	err := parallel(ctx, 2, func(ctx context.Context, i int) (err error) {
		if i == 0 {
			objects, err = d.list(ctx, "list containers", args)
			return err
		}
		records, err = d.records(ctx, "")
		return err
	})
	if err != nil {
		return nil, err
	}
	all, err := d.inspectAll(ctx, instances(objects))
	if err != nil {
		return nil, err
	}
	byID := make(map[string][]inspected)
	for _, c := range all {
		byID[c.workloadID] = append(byID[c.workloadID], c)
	}
	recordsByID := make(map[string][]record)
	for _, r := range records {
		if namespace == "" || r.labels[drivers.LabelNamespace] == namespace {
			recordsByID[r.workloadID] = append(recordsByID[r.workloadID], r)
			byID[r.workloadID] = slices.Clip(byID[r.workloadID])
		}
	}
	out := make([]*drivers.WorkloadStatus, 0, len(byID))
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		out = append(out, d.assemble(id, byID[id], recordsByID[id]))
	}
	return out, nil
}

// survey reads what exists of a workload: its containers and its records.
func (d *Driver) survey(ctx context.Context, workloadID string) (objects []object, records []record, err error) {
	err = parallel(ctx, 2, func(ctx context.Context, i int) (err error) {
		if i == 0 {
			objects, err = d.observe(ctx, workloadID)
			return err
		}
		records, err = d.records(ctx, workloadID)
		return err
	})
	return objects, records, err
}

func instances(objects []object) []object {
	out := make([]object, 0, len(objects))
	for _, o := range objects {
		if o.role == drivers.RoleInstance && o.ordinal >= 0 {
			out = append(out, o)
		}
	}
	return out
}

// assemble makes a workload's status of what was read of it.
func (d *Driver) assemble(workloadID string, all []inspected, records []record) *drivers.WorkloadStatus {
	objects := make([]object, 0, len(all))
	for _, c := range all {
		objects = append(objects, c.object)
	}
	labels := newestLabels(objects, records)
	s := &drivers.WorkloadStatus{
		ID: workloadID, Namespace: labels[drivers.LabelNamespace], Name: labels[drivers.LabelName],
		Backend: Backend, Node: d.env.Node, ObservedAt: time.Now().UTC(),
	}
	if spec, err := decodeSpec(labels[drivers.LabelSpec]); err == nil {
		s.Image, s.Desired = spec.Image, spec.ReplicaCount()
	} else {
		s.Reason, s.Message = "UnreadableLabel", err.Error()
	}
	for _, c := range all {
		d.adopt(c)
		s.Instances = append(s.Instances, d.instanceStatus(c))
	}
	present := labels
	if running := newestRunning(all); running != nil {
		present = running
	}
	s.Revision = present[drivers.LabelRevision]
	s.Sequence, s.CommandID = sequenceOf(present), present[drivers.LabelCommand]
	for _, c := range all {
		if c.revision == s.Revision {
			s.ImageID = c.Image
		}
	}
	summarize(s)
	return s
}

// newestRunning returns the labels of the newest instance that runs.
func newestRunning(all []inspected) map[string]string {
	var newest *inspected
	for i, c := range all {
		if c.State.Running && (newest == nil || c.sequence > newest.sequence) {
			newest = &all[i]
		}
	}
	if newest == nil {
		return nil
	}
	return newest.labels
}
