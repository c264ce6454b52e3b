package sim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// imageBytes is the size of every image.
const imageBytes = 64 << 20

type image struct {
	ID         string    `json:"id"`
	References []string  `json:"references"`
	Created    time.Time `json:"created"`
}

// canonical is a reference with its registry and tag spelled out, and the path below
// the registry.
func canonical(ref string) (full, path string, err error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", "", &drivers.Error{Class: drivers.ErrInvalidSpec, Op: fmt.Sprintf("parse image %q", ref), Err: err}
	}
	return reference.TagNameOnly(named).String(), reference.Path(named), nil
}

// AddImage puts an image into the engine without a pull. Errors: ErrInvalidSpec.
func (e *Engine) AddImage(ref string) error {
	full, _, err := canonical(ref)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.addImage(full)
	return e.save()
}

// MoveTag gives a reference another image in the registry: the next pull fetches it.
// Errors: ErrInvalidSpec.
func (e *Engine) MoveTag(ref string) error {
	full, _, err := canonical(ref)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.published[full]++
	return e.save()
}

// addImage makes full name what the registry has under it now.
func (e *Engine) addImage(full string) *image {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s#%d", full, e.published[full]))
	id := "sha256:" + hex.EncodeToString(sum[:])
	if old, ok := e.images[full]; ok && old.ID == id {
		return old
	}
	img := &image{ID: id, References: []string{full}, Created: e.cfg.Clock.Now()}
	e.images[full] = img
	return img
}

func (e *Engine) findImage(full string) (*image, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if img, ok := e.images[full]; ok {
		return img, true
	}
	for _, img := range e.images {
		if img.ID == full {
			return img, true
		}
	}
	return nil, false
}

// resolveImage makes sure of the spec's image as its pull policy asks and returns its
// ID.
func (d *Driver) resolveImage(ctx context.Context, spec *drivers.WorkloadSpec, st *steering) (string, error) {
	full, _, err := canonical(spec.Image)
	if err != nil {
		return "", err
	}
	img, ok := d.engine.findImage(full)
	if ok && spec.PullPolicy != drivers.PullAlways {
		return img.ID, nil
	}
	if spec.PullPolicy == drivers.PullNever {
		return "", &drivers.Error{Class: drivers.ErrNotFound, Op: "find image " + spec.Image,
			Err: fmt.Errorf("it is not on this node"), Hint: "pullPolicy never wants it there; use missing to fetch it"}
	}
	img, err = d.pull(ctx, spec.ID(), spec.Image, spec.Namespace, spec.Registry, st)
	if err != nil {
		return "", err
	}
	return img.ID, nil
}

// pull fetches an image while it reports progress.
func (d *Driver) pull(ctx context.Context, workloadID, ref, namespace string, cred *drivers.RegistryCredentials, st *steering) (*image, error) {
	full, path, err := canonical(ref)
	if err != nil {
		return nil, err
	}
	cmd := drivers.CommandFrom(ctx)
	report := func(phase drivers.Phase, done int64) {
		cmd.Report(drivers.Progress{Phase: phase, Message: ref, Instance: -1, Current: done, Total: imageBytes})
	}
	report(drivers.PhasePulling, 0)
	if cred != nil {
		// The simulated registry takes every password that can be resolved.
		if _, err := d.secret(ctx, namespace, cred.Password); err != nil {
			return nil, fmt.Errorf("pull image %s: %w", ref, err)
		}
	}
	var out *image
	err = d.do(ctx, OpPull, workloadID, st, func() error {
		long := st.pull
		if d.cfg.BusyPulls {
			long = time.Hour
		}
		steps := max(1, min(100, long/(250*time.Millisecond)))
		if d.cfg.BusyPulls {
			steps = 3600
		}
		for i := range steps {
			if err := sleep(ctx, d.engine.cfg.Clock, long/steps); err != nil {
				return err
			}
			report(drivers.PhasePulling, int64(i+1)*imageBytes/int64(steps))
		}
		switch first, _, _ := strings.Cut(path, "/"); first {
		case "missing":
			return &drivers.Error{Class: drivers.ErrNotFound, Op: "pull image " + ref, Err: fmt.Errorf("manifest unknown"),
				Hint: "check the name and the tag"}
		case "denied":
			return &drivers.Error{Class: drivers.ErrDenied, Op: "pull image " + ref, Err: fmt.Errorf("authentication required"),
				Hint: "give the spec registry credentials"}
		}
		d.engine.mu.Lock()
		defer d.engine.mu.Unlock()
		out = d.engine.addImage(full)
		return d.engine.save()
	})
	if err != nil {
		return nil, err
	}
	report(drivers.PhasePulled, imageBytes)
	return out, nil
}

// PullImage implements drivers.ImageManager.
func (d *Driver) PullImage(ctx context.Context, ref string, cred *drivers.RegistryCredentials) (*drivers.Image, error) {
	img, err := d.pull(ctx, "", ref, drivers.DefaultNamespace, cred, &d.engine.defaults)
	if err != nil {
		return nil, err
	}
	out := img.export()
	return &out, nil
}

// ListImages implements drivers.ImageManager.
func (d *Driver) ListImages(ctx context.Context) ([]drivers.Image, error) {
	if err := d.before(ctx, OpList, ""); err != nil {
		return nil, err
	}
	d.engine.mu.Lock()
	defer d.engine.mu.Unlock()
	out := make([]drivers.Image, 0, len(d.engine.images))
	for _, img := range d.engine.images {
		out = append(out, img.export())
	}
	slices.SortFunc(out, func(a, b drivers.Image) int { return strings.Compare(a.References[0], b.References[0]) })
	return out, nil
}

// RemoveImage implements drivers.ImageManager.
func (d *Driver) RemoveImage(ctx context.Context, ref string) error {
	full, _, err := canonical(ref)
	if err != nil {
		return err
	}
	if err := d.before(ctx, OpRemove, ""); err != nil {
		return err
	}
	e := d.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	img, ok := e.images[full]
	if !ok {
		return &drivers.Error{Class: drivers.ErrNotFound, Op: "remove image " + ref}
	}
	for _, c := range e.containers {
		if c.ImageID == img.ID {
			return &drivers.Error{Class: drivers.ErrConflict, Op: "remove image " + ref,
				Err: fmt.Errorf("container %s uses it", c.Name), Hint: "destroy the workload first"}
		}
	}
	delete(e.images, full)
	return e.save()
}

func (i *image) export() drivers.Image {
	return drivers.Image{ID: i.ID, References: slices.Clone(i.References), Bytes: imageBytes, Created: i.Created}
}
