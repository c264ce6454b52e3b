package drivers

import (
	"strings"
	"testing"
)

func TestCoexistence(t *testing.T) {
	tests := []struct {
		name string
		spec WorkloadSpec
		why  string // part of the reason; empty: they can
	}{
		{"nothing shared", WorkloadSpec{}, ""},
		{"published port", WorkloadSpec{Ports: []Port{{ContainerPort: 80, Publish: true}}}, ""},
		{"fixed port", WorkloadSpec{Ports: []Port{{ContainerPort: 79}, {ContainerPort: 80, HostPort: 8080}}}, "ports[1].hostPort 8080"},
		{"host network", WorkloadSpec{Security: Security{HostNetwork: true}}, "security.hostNetwork"},
		{"volume", WorkloadSpec{Volumes: []Volume{{Source: "data", Target: "/data"}}}, "volumes[0]"},
		{"volume by name", WorkloadSpec{Volumes: []Volume{{Type: VolumeNamed, Source: "data", Target: "/data"}}}, "volumes[0]"},
		{"volume to read", WorkloadSpec{Volumes: []Volume{{Source: "data", Target: "/data", ReadOnly: true}}}, ""},
		{"host path", WorkloadSpec{Volumes: []Volume{{Type: VolumeBind, Source: "/srv", Target: "/srv"}}}, "volumes[0]"},
		{"host path to read", WorkloadSpec{Volumes: []Volume{{Type: VolumeBind, Source: "/srv", Target: "/srv", ReadOnly: true}}}, ""},
		{"tmpfs", WorkloadSpec{Volumes: []Volume{{Type: VolumeTmpfs, Target: "/tmp"}}}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, s := range []*WorkloadSpec{&tt.spec, tt.spec.WithDefaults()} {
				why := CoexistenceFault(s)
				want := StartFirst
				if tt.why != "" {
					want = StopFirst
				}
				if !strings.Contains(why, tt.why) || (why == "") != (tt.why == "") || s.UpdateOrder() != want {
					t.Errorf("got %q and %s, want %q and %s", why, s.UpdateOrder(), tt.why, want)
				}
				for _, order := range []string{StartFirst, StopFirst} {
					s := s.Clone()
					s.Update.Order = order
					if got := s.UpdateOrder(); got != order {
						t.Errorf("asked for %s, got %s", order, got)
					}
				}
			}
		})
	}
}
