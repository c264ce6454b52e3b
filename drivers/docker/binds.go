package docker

import (
	"path/filepath"
	"strings"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// resolveBinds puts the real path in the place of every host path of the spec, and
// refuses one that leads where it may not. The spec was allowed by what it says; only
// here can be seen where a link leads, and what was looked at is what is mounted. A path
// that does not exist is left to the engine, which says so. Errors: ErrDenied.
func (d *Driver) resolveBinds(spec *drivers.WorkloadSpec) error {
	if d.cfg.AllowHostPath == nil || !strings.HasPrefix(d.cfg.Host, "unix://") {
		return nil
	}
	faults := &drivers.FieldErrors{Class: drivers.ErrDenied}
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		if v.Type != drivers.VolumeBind {
			continue
		}
		real, err := filepath.EvalSymlinks(v.Source)
		if err != nil || real == v.Source {
			continue
		}
		if !d.cfg.AllowHostPath(real) {
			faults.Add(drivers.IndexPath("volumes", i)+".source", "%s is a link to %s, which the node's policy does not allow (policy.allowed_host_paths)", v.Source, real)
			continue
		}
		v.Source = real
	}
	return faults.ErrOrNil()
}
