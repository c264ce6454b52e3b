package docker

import (
	"context"
	"slices"
	"strings"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// checkAppArmor refuses a profile where the engine has no AppArmor: it would take the
// name and confine nothing. Errors: ErrUnsupported, naming the field.
func (d *Driver) checkAppArmor(ctx context.Context, spec *drivers.WorkloadSpec) error {
	if p := spec.Security.AppArmor; p == "" || p == "unconfined" {
		return nil
	}
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	info, err := d.cli.Info(ctx)
	if err != nil {
		return classify("read the engine's security options", err)
	}
	if slices.ContainsFunc(info.SecurityOptions, func(o string) bool { return strings.HasPrefix(o, "name=apparmor") }) {
		return nil
	}
	fault := &drivers.FieldErrors{Class: drivers.ErrUnsupported}
	fault.Add("security.appArmor", "this engine has no AppArmor, so the profile would confine nothing: leave the field out")
	return fault
}
