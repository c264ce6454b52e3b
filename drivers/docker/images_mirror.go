package docker

import (
	"context"
	"net/url"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// fetchMirror pulls mirror, which is ref on a mirror's host, and gives the image the
// name ref. A mirror is sent only credentials that the node has for that very host.
func (d *Driver) fetchMirror(ctx context.Context, ref, mirror reference.Named, report func(drivers.Progress)) (pulled, error) {
	cred, err := d.nodeCredential(ctx, reference.Domain(mirror))
	if err != nil {
		return pulled{}, err
	}
	digest, err := d.pullFrom(ctx, mirror, cred, pullLimits{connect: mirrorConnect, stall: mirrorStall, impatient: true}, report)
	if err != nil {
		return pulled{}, err
	}
	found, err := d.localImage(ctx, mirror)
	if err != nil {
		return pulled{}, err
	}
	got := pulled{imageID: found.ID, digest: digest}
	if _, ok := ref.(reference.Digested); ok {
		// An engine gives no digests as names: the mirror's name stays, and localImage
		// looks for it.
		return got, nil
	}
	tagCtx, cancel := context.WithTimeout(ctx, d.cfg.CallTimeout)
	defer cancel()
	if err := d.cli.ImageTag(tagCtx, mirror.String(), ref.String()); err != nil {
		return pulled{}, classify("name image "+ref.String(), err)
	}
	if err := d.removeName(ctx, mirror.String()); err != nil && !cerrdefs.IsNotFound(err) {
		return pulled{}, classify("drop mirror's name "+mirror.String(), err)
	}
	return got, nil
}

// mirrorsOf is ref on each mirror's host. Mirrors are Docker Hub's only: they cannot be
// told which registry another name belongs to.
func mirrorsOf(mirrors []string, ref reference.Named) []reference.Named {
	if reference.Domain(ref) != hubDomain {
		return nil
	}
	var out []reference.Named
	for _, m := range mirrors {
		u, err := url.Parse(m)
		if err != nil {
			continue // refused by Config.Validate
		}
		named, err := reference.ParseNamed(u.Host + "/" + reference.Path(ref))
		if err != nil {
			continue // a host without a dot or port is no registry's name
		}
		if r, ok := ref.(reference.Digested); ok {
			named, err = reference.WithDigest(named, r.Digest())
		} else if r, ok := ref.(reference.Tagged); ok {
			named, err = reference.WithTag(named, r.Tag())
		}
		if err == nil {
			out = append(out, named)
		}
	}
	return out
}
