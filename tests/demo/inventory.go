package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/tests/rig"
)

// nodeLabel tells what this run made.
const nodeLabel = drivers.LabelNode

// inventory is everything an engine holds: by kind, each object's identity and what it
// is known as.
type inventory map[string]map[string]string

// The kinds, in the order they are reported.
var kinds = []string{"containers", "images", "networks", "volumes"}

func takeInventory(ctx context.Context, host string) (inventory, error) {
	c, err := rig.Client(host)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	inv := inventory{}
	for _, k := range kinds {
		inv[k] = map[string]string{}
	}
	containers, err := c.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	for _, o := range containers {
		inv["containers"][o.ID] = strings.Join(o.Names, ",") + " " + o.State
	}
	images, err := c.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	for _, o := range images {
		inv["images"][o.ID] = strings.Join(o.RepoTags, ",")
	}
	networks, err := c.NetworkList(ctx, network.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	for _, o := range networks {
		inv["networks"][o.ID] = o.Name
	}
	volumes, err := c.VolumeList(ctx, volume.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	for _, o := range volumes.Volumes {
		inv["volumes"][o.Name] = o.Name
	}
	return inv, nil
}

// compare says whether the engine holds what it held before. What others did meanwhile
// is told, not held against the demo; its own traces are a fault.
func (d *demo) compare(ctx context.Context) error {
	if d.before == nil {
		return nil
	}
	after, err := takeInventory(ctx, d.engine.Host)
	if err != nil {
		return err
	}
	var same []string
	for _, k := range kinds {
		for _, id := range slices.Sorted(maps.Keys(after[k])) {
			if strings.Contains(after[k][id], d.node) {
				return fmt.Errorf("%s left behind: %s", k, after[k][id])
			}
		}
		if changed := difference(d.before[k], after[k]); len(changed) > 0 {
			d.show.note("%s that someone else changed meanwhile: %s", k, strings.Join(changed, "; "))
			continue
		}
		same = append(same, fmt.Sprintf("%d %s", len(after[k]), k))
	}
	if len(same) > 0 {
		d.show.note("as before on this engine: %s", strings.Join(same, ", "))
	}
	return nil
}

// difference lists what is in one only, or not the same in both.
func difference(before, after map[string]string) []string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(before)) {
		if now, ok := after[id]; !ok {
			out = append(out, before[id]+" is gone")
		} else if now != before[id] {
			out = append(out, before[id]+" is now "+now)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(after)) {
		if _, ok := before[id]; !ok {
			out = append(out, after[id]+" is new")
		}
	}
	return out
}
