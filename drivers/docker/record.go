package docker

import (
	"context"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// A record says what a workload was last asked to be when its containers cannot: labels
// are fixed at creation, so after a deploy that made no container (fewer replicas, or
// none) the labels still tell the old story. It is an empty volume with the labels of a
// container, because the engine has no lighter object that keeps labels, and it exists
// only as long as it is needed.
type record struct {
	name       string
	workloadID string
	sequence   uint64
	labels     map[string]string
}

// records lists the records of a workload, or of all workloads of the node when
// workloadID is empty.
func (d *Driver) records(ctx context.Context, workloadID string) ([]record, error) {
	args := d.owned(workloadID)
	args.Add("label", drivers.LabelRole+"="+roleRecord)
	volumes, err := d.listVolumes(ctx, args)
	if err != nil {
		return nil, err
	}
	out := make([]record, 0, len(volumes))
	for _, v := range volumes {
		out = append(out, record{name: v.Name, workloadID: v.Labels[drivers.LabelWorkload],
			sequence: sequenceOf(v.Labels), labels: v.Labels})
	}
	return out, nil
}

func (d *Driver) listVolumes(ctx context.Context, args filters.Args) ([]*volume.Volume, error) {
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	found, err := d.cli.VolumeList(ctx, volume.ListOptions{Filters: args})
	if err != nil {
		return nil, classify("list volumes", err)
	}
	return found.Volumes, nil
}

// newestLabels are the labels of the newest of a workload's instances and records, nil
// when there are none: they hold the spec that was last asked for.
func newestLabels(objects []object, records []record) map[string]string {
	var newest map[string]string
	var sequence uint64
	for _, o := range objects {
		if o.role == drivers.RoleInstance && (newest == nil || o.sequence > sequence) {
			newest, sequence = o.labels, o.sequence
		}
	}
	// A record of the same command is the later word: it is written at its end.
	for _, r := range records {
		if newest == nil || r.sequence >= sequence {
			newest, sequence = r.labels, r.sequence
		}
	}
	return newest
}

// settleRecord makes the labels tell what spec asks for: it writes a record when the
// instances' labels do not, removes those that are not needed any more, and returns
// what is left. objects are the instances that stay.
func (d *Driver) settleRecord(ctx context.Context, spec *drivers.WorkloadSpec, cmd drivers.Command, revision string, objects []object, records []record) ([]record, error) {
	encoded, err := encodeSpec(spec)
	if err != nil {
		return nil, err
	}
	var keep []record
	if labels := newestLabels(objects, nil); labels[drivers.LabelSpec] != encoded {
		labels := ownerLabels(d.env.Node, spec, cmd, roleRecord)
		labels[drivers.LabelSpec], labels[drivers.LabelRevision] = encoded, revision
		r := record{name: recordName(spec, cmd.Sequence), workloadID: spec.ID(), sequence: cmd.Sequence, labels: labels}
		if err := d.writeRecord(ctx, r, records); err != nil {
			return nil, err
		}
		keep = append(keep, r)
	}
	for _, r := range records {
		if len(keep) > 0 && keep[0].name == r.name {
			continue
		}
		if err := d.removeVolume(ctx, r.name); err != nil {
			return nil, err
		}
	}
	return keep, nil
}

func (d *Driver) writeRecord(ctx context.Context, r record, existing []record) error {
	for _, e := range existing {
		switch {
		case e.name != r.name:
		case e.labels[drivers.LabelSpec] == r.labels[drivers.LabelSpec]:
			return nil
		default:
			// Without a command every deploy has the sequence 0, and so the same name.
			if err := d.removeVolume(ctx, r.name); err != nil {
				return err
			}
		}
	}
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	if _, err := d.cli.VolumeCreate(ctx, volume.CreateOptions{Name: r.name, Labels: r.labels}); err != nil {
		return classify("record what "+r.workloadID+" is to be", err)
	}
	return nil
}
