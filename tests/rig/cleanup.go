package rig

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"
)

// Cleanup removes every container, network, volume and image of the engine with the
// label, "key=value" or "key", and returns how many objects it removed. An empty label
// is refused: it would match everything.
func Cleanup(ctx context.Context, host, label string) (removed int, err error) {
	if label == "" {
		return 0, errors.New("clean up: a label is required")
	}
	c, err := Client(host)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	labelled := filters.NewArgs(filters.Arg("label", label))
	var all []error
	for _, step := range []func(context.Context, *client.Client, filters.Args) (int, error){
		removeContainers, removeNetworks, removeVolumes, removeImages,
	} {
		n, err := step(ctx, c, labelled)
		removed += n
		all = append(all, err)
	}
	if err := errors.Join(all...); err != nil {
		return removed, fmt.Errorf("clean up %s: %w", label, err)
	}
	return removed, nil
}

func removeContainers(ctx context.Context, c *client.Client, f filters.Args) (int, error) {
	list, err := c.ContainerList(ctx, container.ListOptions{All: true, Filters: f})
	return removeEach(list, err, func(s container.Summary) error {
		return c.ContainerRemove(ctx, s.ID, container.RemoveOptions{Force: true, RemoveVolumes: true})
	})
}

func removeNetworks(ctx context.Context, c *client.Client, f filters.Args) (int, error) {
	list, err := c.NetworkList(ctx, network.ListOptions{Filters: f})
	return removeEach(list, err, func(n network.Summary) error { return c.NetworkRemove(ctx, n.ID) })
}

func removeVolumes(ctx context.Context, c *client.Client, f filters.Args) (int, error) {
	list, err := c.VolumeList(ctx, volume.ListOptions{Filters: f})
	return removeEach(list.Volumes, err, func(v *volume.Volume) error { return c.VolumeRemove(ctx, v.Name, true) })
}

func removeImages(ctx context.Context, c *client.Client, f filters.Args) (int, error) {
	list, err := c.ImageList(ctx, image.ListOptions{Filters: f})
	return removeEach(list, err, func(i image.Summary) error {
		_, err := c.ImageRemove(ctx, i.ID, image.RemoveOptions{Force: true, PruneChildren: true})
		return err
	})
}

// removeEach removes all of a list and counts; what is gone already is no fault.
func removeEach[T any](list []T, err error, remove func(T) error) (int, error) {
	if err != nil {
		return 0, err
	}
	n := 0
	var all []error
	for _, item := range list {
		switch err := remove(item); {
		case err == nil:
			n++
		case !errdefs.IsNotFound(err):
			all = append(all, err)
		}
	}
	return n, errors.Join(all...)
}
