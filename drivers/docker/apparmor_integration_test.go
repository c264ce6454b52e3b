//go:build integration

package docker

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/tests/rig"
)

// TestAppArmorIsNotIgnored: an engine without AppArmor refuses a profile by its field;
// one that has it is asked nothing.
func TestAppArmorIsNotIgnored(t *testing.T) {
	d, err := New(t.Context(), drivers.Environment{Node: "apparmor"}, Config{Host: rig.RequireDocker(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	info, err := d.cli.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	has := slices.ContainsFunc(info.SecurityOptions, func(o string) bool { return strings.HasPrefix(o, "name=apparmor") })
	for profile, refused := range map[string]bool{"": false, "unconfined": false, "nosuch": !has} {
		err := d.checkAppArmor(t.Context(), &drivers.WorkloadSpec{Security: drivers.Security{AppArmor: profile}})
		var fields *drivers.FieldErrors
		switch {
		case !refused && err != nil:
			t.Errorf("profile %q: %v", profile, err)
		case refused && (!errors.Is(err, drivers.ErrUnsupported) || !errors.As(err, &fields) || fields.Fields[0].Path != "security.appArmor"):
			t.Errorf("profile %q: got %v, want it refused at security.appArmor", profile, err)
		}
	}
}
