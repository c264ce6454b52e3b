package docker

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func TestResolveBinds(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	allowed, outside := filepath.Join(dir, "allowed"), filepath.Join(dir, "outside")
	for _, d := range []string{filepath.Join(allowed, "data"), outside} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"good": filepath.Join(allowed, "data"), "evil": outside} {
		if err := os.Symlink(to, filepath.Join(allowed, link)); err != nil {
			t.Fatal(err)
		}
	}
	policy := drivers.Policy{AllowedHostPaths: []string{allowed}}
	d := &Driver{cfg: Config{Host: "unix:///run/engine.sock", AllowHostPath: policy.AllowsHostPath}}
	for name, tc := range map[string]struct {
		source, want string
		denied       bool
	}{
		"no link":          {source: filepath.Join(allowed, "data"), want: filepath.Join(allowed, "data")},
		"link inside":      {source: filepath.Join(allowed, "good"), want: filepath.Join(allowed, "data")},
		"link out":         {source: filepath.Join(allowed, "evil"), denied: true},
		"below a link out": {source: filepath.Join(allowed, "evil", "."), denied: true},
		"not there":        {source: filepath.Join(allowed, "nothing"), want: filepath.Join(allowed, "nothing")},
	} {
		t.Run(name, func(t *testing.T) {
			spec := &drivers.WorkloadSpec{Volumes: []drivers.Volume{{Type: drivers.VolumeBind, Source: tc.source, Target: "/x"}}}
			err := d.resolveBinds(spec)
			var fields *drivers.FieldErrors
			switch {
			case tc.denied && (!errors.Is(err, drivers.ErrDenied) || !errors.As(err, &fields) || fields.Fields[0].Path != "volumes[0].source"):
				t.Errorf("got %v, want it denied at volumes[0].source", err)
			case !tc.denied && err != nil:
				t.Error(err)
			case !tc.denied && spec.Volumes[0].Source != tc.want:
				t.Errorf("mounts %s, want %s", spec.Volumes[0].Source, tc.want)
			}
		})
	}
}
