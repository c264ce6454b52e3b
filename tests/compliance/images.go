package compliance

import (
	"slices"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func imageCases() []Case {
	return []Case{
		{"MissingImageIsNotFound", "an image no registry has is ErrNotFound and leaves nothing", missingImage},
		{"DeniedImageIsDenied", "an image the registry does not give is ErrDenied and leaves nothing", deniedImage},
		{"PullNeverNeedsTheImage", "pull policy never is ErrNotFound when the image is absent", pullNever},
		{"BrokenImageKeepsTheOld", "an update whose image cannot be had does not touch what runs", brokenImageUpdate},
		{"ImagesAreManaged", "images are listed; one in use is not removed", images},
	}
}

func (r *run) imageRefused(image string, policy drivers.PullPolicy, class error) {
	r.Helper()
	s := r.h.Workloads.Sleeper("web", 1)
	s.Image, s.PullPolicy = image, policy
	s = r.spec(s)
	_, err := r.tryDeploy(s)
	r.wantClass("deploy of "+image, err, class)
	r.wantGone(s.ID())
	r.wantNothingLeft()
}

func missingImage(r *run) { r.imageRefused(r.h.MissingImage, "", drivers.ErrNotFound) }

func deniedImage(r *run) { r.imageRefused(r.h.DeniedImage, "", drivers.ErrDenied) }

func pullNever(r *run) { r.imageRefused(r.h.AbsentImage, drivers.PullNever, drivers.ErrNotFound) }

func brokenImageUpdate(r *run) {
	st := r.deploy(r.spec(r.h.Workloads.Sleeper("web", 1)))
	old := r.instance(st.ID)
	s := r.h.Workloads.Sleeper("web", 2)
	s.Image = r.h.MissingImage
	_, err := r.tryDeploy(r.spec(s))
	r.wantClass("update to a missing image", err, drivers.ErrNotFound)
	if now := r.instance(st.ID); now.ID != old.ID || now.StartedAt != old.StartedAt {
		r.Errorf("want the old instance untouched, got %+v, then %+v", old, now)
	}
}

func images(r *run) {
	m, ok := r.d.(drivers.ImageManager)
	if !ok {
		if r.h.Features.Images {
			r.Errorf("images are declared and the driver of %s does not manage them", r.d.Backend())
		}
		return
	}
	s := r.spec(r.h.Workloads.Sleeper("web", 1))
	st := r.deploy(s)
	all, err := m.ListImages(r.timed())
	if err != nil {
		r.Fatalf("list images: %v", err)
	}
	if !slices.ContainsFunc(all, func(i drivers.Image) bool { return i.ID == st.ImageID && i.Bytes > 0 && len(i.References) > 0 }) {
		r.Errorf("want image %s listed, got %+v", st.ImageID, all)
	}
	r.wantClass("remove an image in use", m.RemoveImage(r.timed(), s.Image), drivers.ErrConflict)
	r.wantClass("remove an image that is not there", m.RemoveImage(r.timed(), r.h.AbsentImage), drivers.ErrNotFound)
	_, err = m.PullImage(r.timed(), r.h.MissingImage, nil)
	r.wantClass("pull a missing image", err, drivers.ErrNotFound)
	_, err = m.PullImage(r.timed(), r.h.DeniedImage, nil)
	r.wantClass("pull a denied image", err, drivers.ErrDenied)
}
