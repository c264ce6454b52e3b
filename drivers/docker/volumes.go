package docker

import (
	"context"
	"fmt"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/volume"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// ensureVolumes makes the workload's named volumes and checks that external ones exist:
// a mount would make a missing one, unlabelled.
func (d *Driver) ensureVolumes(ctx context.Context, spec *drivers.WorkloadSpec, cmd drivers.Command) error {
	for i, v := range spec.Volumes {
		if v.Type != drivers.VolumeNamed {
			continue
		}
		var err error
		if v.External {
			err = d.findVolume(ctx, v.Source, fmt.Sprintf("volumes[%d]", i))
		} else {
			err = d.ensureVolume(ctx, spec, cmd, v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *Driver) findVolume(ctx context.Context, name, path string) error {
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	_, err := d.cli.VolumeInspect(ctx, name)
	if cerrdefs.IsNotFound(err) {
		return &drivers.Error{Class: drivers.ErrNotFound, Op: path + ": use volume " + name,
			Hint: "create it first, or leave out external to have one made"}
	}
	return classify("inspect volume "+name, err)
}

func (d *Driver) ensureVolume(ctx context.Context, spec *drivers.WorkloadSpec, cmd drivers.Command, v drivers.Volume) error {
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	name := volumeName(spec, v.Source)
	labels := volumeLabels(d.env.Node, spec, cmd, v)
	// Creating is idempotent: a volume of that name is returned as it is.
	got, err := d.cli.VolumeCreate(ctx, volume.CreateOptions{Name: name, Labels: labels})
	if err != nil {
		return classify("create volume "+name, err)
	}
	if got.Labels[drivers.LabelWorkload] != spec.ID() || got.Labels[drivers.LabelNode] != d.env.Node {
		return &drivers.Error{Class: drivers.ErrConflict, Op: "use volume " + name,
			Err:  fmt.Errorf("a volume of that name exists that this node did not make for %s", spec.ID()),
			Hint: "remove it with docker volume rm " + name + ", or give the volume another source"}
	}
	return nil
}

func volumeLabels(node string, spec *drivers.WorkloadSpec, cmd drivers.Command, v drivers.Volume) map[string]string {
	labels := ownerLabels(node, spec, cmd, roleVolume)
	if v.Retain {
		labels[labelRetain] = "true"
	}
	return labels
}

// ownedVolumes lists the data volumes of a workload.
func (d *Driver) ownedVolumes(ctx context.Context, workloadID string) ([]*volume.Volume, error) {
	args := d.owned(workloadID)
	args.Add("label", drivers.LabelRole+"="+roleVolume)
	return d.listVolumes(ctx, args)
}

// removeVolume removes a volume, if it is there.
func (d *Driver) removeVolume(ctx context.Context, name string) error {
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	err := d.cli.VolumeRemove(ctx, name, false)
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	return classify("remove volume "+name, err)
}

// removeNewVolumes removes what a command that came to nothing made: volumes that carry
// its sequence and that no container uses. A retained volume stays, since it may hold
// data already.
func (d *Driver) removeNewVolumes(ctx context.Context, workloadID string, cmd drivers.Command) error {
	volumes, err := d.ownedVolumes(ctx, workloadID)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		if sequenceOf(v.Labels) != cmd.Sequence || v.Labels[drivers.LabelCommand] != cmd.ID || v.Labels[labelRetain] != "" {
			continue
		}
		rmCtx, cancel := d.callContext(ctx)
		err := d.cli.VolumeRemove(rmCtx, v.Name, false)
		cancel()
		if err != nil && !cerrdefs.IsNotFound(err) && !cerrdefs.IsConflict(err) {
			return classify("remove volume "+v.Name, err)
		}
	}
	return nil
}

// retained says whether a volume outlives its workload: the newest spec decides, and
// the volume's own label where that spec does not mention it.
func retained(v *volume.Volume, newest *drivers.WorkloadSpec) bool {
	if newest != nil {
		for _, s := range newest.Volumes {
			if s.Type == drivers.VolumeNamed && !s.External && volumeName(newest, s.Source) == v.Name {
				return s.Retain
			}
		}
	}
	return v.Labels[labelRetain] != ""
}
