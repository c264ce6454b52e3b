package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"

	"github.com/kranix-io/kranix-runtime/drivers"
)

var _ drivers.ImageManager = (*Driver)(nil)

// ensureImage makes the spec's image be on the engine, as its pull policy says, and
// returns the engine's ID of it and, where known, its canonical reference with the
// digest of its manifest ("docker.io/library/nginx@sha256:..."). A container made from
// the ID cannot be changed by a tag that moves. Errors: ErrInvalidSpec, ErrNotFound,
// ErrDenied, ErrUnavailable.
func (d *Driver) ensureImage(ctx context.Context, spec *drivers.WorkloadSpec) (imageID, repoDigest string, err error) {
	ref, err := parseImage(spec.Image)
	if err != nil {
		return "", "", err
	}
	named, pullable := ref.(reference.Named)
	if spec.PullPolicy != drivers.PullAlways || !pullable {
		found, err := d.localImage(ctx, ref)
		if err == nil {
			return found.ID, digestOf(found, named), nil
		}
		if !errors.Is(err, drivers.ErrNotFound) {
			return "", "", err
		}
		if !pullable {
			return "", "", &drivers.Error{Class: drivers.ErrNotFound, Op: "find image " + spec.Image,
				Hint: "an image named by its ID cannot be pulled: load it on the node, or give its name"}
		}
		if spec.PullPolicy == drivers.PullNever {
			return "", "", &drivers.Error{Class: drivers.ErrNotFound, Op: "find image " + spec.Image,
				Hint: "the pull policy is never and the node does not have it: load it on the node, or change pullPolicy"}
		}
	}
	cred, err := d.credentialFor(ctx, spec.Namespace, named, spec.Registry)
	if err != nil {
		return "", "", err
	}
	got, err := d.pull(ctx, named, cred)
	if err != nil {
		return "", "", err
	}
	if got.digest != "" {
		repoDigest = named.Name() + "@" + got.digest
	}
	return got.imageID, repoDigest, nil
}

// PullImage implements drivers.ImageManager. A secret that credentials refer to is
// looked up without a namespace, so among the node's own.
func (d *Driver) PullImage(ctx context.Context, ref string, credentials *drivers.RegistryCredentials) (*drivers.Image, error) {
	parsed, err := parseImage(ref)
	if err != nil {
		return nil, err
	}
	named, ok := parsed.(reference.Named)
	if !ok {
		return nil, &drivers.Error{Class: drivers.ErrInvalidSpec, Op: fmt.Sprintf("pull image %q", ref),
			Err: errors.New("an image named by its ID cannot be pulled")}
	}
	cred, err := d.credentialFor(ctx, "", named, credentials)
	if err != nil {
		return nil, err
	}
	got, err := d.pull(ctx, named, cred)
	if err != nil {
		return nil, err
	}
	found, err := d.inspectImage(ctx, got.imageID)
	if err != nil {
		return nil, err
	}
	created, _ := time.Parse(time.RFC3339Nano, found.Created) // absent on reproducible builds
	return &drivers.Image{ID: found.ID, References: canonicalNames(found.RepoTags, found.RepoDigests), Bytes: found.Size, Created: created.UTC()}, nil
}

// ListImages implements drivers.ImageManager.
func (d *Driver) ListImages(ctx context.Context) ([]drivers.Image, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.CallTimeout)
	defer cancel()
	list, err := d.cli.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return nil, classify("list images", err)
	}
	images := make([]drivers.Image, 0, len(list))
	for _, i := range list {
		images = append(images, drivers.Image{ID: i.ID, References: canonicalNames(i.RepoTags, i.RepoDigests),
			Bytes: i.Size, Created: time.Unix(i.Created, 0).UTC()})
	}
	return images, nil
}

// RemoveImage implements drivers.ImageManager. ref names one name of the image, or by
// its ID all of them; what no name refers to any more is deleted from the disk.
func (d *Driver) RemoveImage(ctx context.Context, ref string) error {
	parsed, err := parseImage(ref)
	if err != nil {
		return err
	}
	found, err := d.localImage(ctx, parsed)
	if err != nil {
		return err
	}
	op := "remove image " + ref
	// The engine takes a name off an image that is in use as long as another is left;
	// the contract is stricter.
	users, err := d.imageUsers(ctx, found.ID)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		return &drivers.Error{Class: drivers.ErrConflict, Op: op, Err: fmt.Errorf("container %s uses it", users[0])}
	}
	names := []string{localName(parsed)}
	if _, named := parsed.(reference.Named); !named {
		// The engine refuses an ID that several names refer to.
		if names = slices.Concat(found.RepoTags, found.RepoDigests); len(names) == 0 {
			names = []string{found.ID}
		}
	}
	for _, name := range names {
		err := d.removeName(ctx, name)
		// The last tag of a repository takes its digests along.
		if err != nil && !(len(names) > 1 && cerrdefs.IsNotFound(err)) {
			return classify(op, err)
		}
	}
	return nil
}

func (d *Driver) removeName(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.CallTimeout)
	defer cancel()
	_, err := d.cli.ImageRemove(ctx, name, image.RemoveOptions{PruneChildren: true})
	return err
}

// imageUsers names the containers made from an image, running or not.
func (d *Driver) imageUsers(ctx context.Context, imageID string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.CallTimeout)
	defer cancel()
	list, err := d.cli.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("ancestor", imageID))})
	if err != nil {
		return nil, classify("list containers of an image", err)
	}
	var users []string
	for _, c := range list {
		// The filter also finds containers of images built on top of this one.
		if c.ImageID == imageID && len(c.Names) > 0 {
			users = append(users, c.Names[0][1:])
		}
	}
	return users, nil
}

// pull fetches ref for the command in ctx, from a mirror where one serves it.
func (d *Driver) pull(ctx context.Context, ref reference.Named, cred credential) (pulled, error) {
	cmd := drivers.CommandFrom(ctx)
	key := ref.String() + " " + cred.identity()
	got, err := d.pulls.do(ctx, d.life, &d.running, key, cmd.Report, func(ctx context.Context, report func(drivers.Progress)) (pulled, error) {
		return d.fetch(ctx, ref, cred, report)
	})
	if err != nil {
		return pulled{}, err
	}
	cmd.Report(drivers.Progress{Phase: drivers.PhasePulled, Message: "pulled " + reference.FamiliarString(ref), Instance: -1})
	return got, nil
}

// fetch asks the mirrors in order and then the image's own registry.
func (d *Driver) fetch(ctx context.Context, ref reference.Named, cred credential, report func(drivers.Progress)) (pulled, error) {
	for _, mirror := range mirrorsOf(d.cfg.Mirrors, ref) {
		got, err := d.fetchMirror(ctx, ref, mirror, report)
		if err == nil {
			return got, nil
		}
		if ctx.Err() != nil {
			return pulled{}, err
		}
		report(drivers.Progress{Phase: drivers.PhasePulling, Reason: "MirrorFailed", Message: err.Error(), Instance: -1})
	}
	digest, err := d.pullFrom(ctx, ref, cred, pullLimits{connect: pullStall, stall: pullStall}, report)
	if err != nil {
		return pulled{}, err
	}
	found, err := d.localImage(ctx, ref)
	if err != nil {
		return pulled{}, err
	}
	return pulled{imageID: found.ID, digest: digest}, nil
}

// localImage finds an image on the engine. Errors: ErrNotFound, ErrUnavailable.
func (d *Driver) localImage(ctx context.Context, ref reference.Reference) (image.InspectResponse, error) {
	found, err := d.inspectImage(ctx, localName(ref))
	named, ok := ref.(reference.Named)
	if _, digested := ref.(reference.Digested); !ok || !digested || !errors.Is(err, drivers.ErrNotFound) {
		return found, err
	}
	for _, mirror := range mirrorsOf(d.cfg.Mirrors, named) {
		if found, err := d.inspectImage(ctx, mirror.String()); err == nil {
			return found, nil
		}
	}
	return found, err
}

func (d *Driver) inspectImage(ctx context.Context, name string) (image.InspectResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.CallTimeout)
	defer cancel()
	found, err := d.cli.ImageInspect(ctx, name)
	if err != nil {
		return image.InspectResponse{}, classify("inspect image "+name, err)
	}
	return found, nil
}

// localName is what the engine calls ref: a name with both a tag and a digest means the
// digest.
func localName(ref reference.Reference) string {
	named, ok := ref.(reference.Named)
	if !ok {
		return ref.String()
	}
	if r, ok := ref.(reference.Digested); ok {
		return named.Name() + "@" + r.Digest().String()
	}
	return named.String()
}

// parseImage reads a reference as Docker writes them: a name is completed with
// docker.io, library/ and :latest, an image ID stays one ("sha256:..." or 64 digits).
// Errors: ErrInvalidSpec.
func parseImage(s string) (reference.Reference, error) {
	ref, err := reference.ParseAnyReference(s)
	if err != nil {
		return nil, &drivers.Error{Class: drivers.ErrInvalidSpec, Op: fmt.Sprintf("parse image %q", s), Err: plain(err),
			Hint: "write it as name:tag or host/name:tag"}
	}
	if named, ok := ref.(reference.Named); ok {
		return reference.TagNameOnly(named), nil
	}
	return ref, nil
}

// digestOf finds the manifest's digest under the name that was asked for.
func digestOf(found image.InspectResponse, named reference.Named) string {
	if named == nil {
		return ""
	}
	for _, s := range found.RepoDigests {
		if r, err := reference.ParseNormalizedNamed(s); err == nil && r.Name() == named.Name() {
			return r.String()
		}
	}
	return ""
}

// canonicalNames completes names with their registry and leaves out the engine's
// placeholders for none.
func canonicalNames(tags, digests []string) []string {
	var names []string
	for _, s := range slices.Concat(tags, digests) {
		r, err := reference.ParseNormalizedNamed(s)
		if err != nil {
			continue // "<none>:<none>"
		}
		names = append(names, r.String())
	}
	return names
}
