package drivers

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestRevisionForm(t *testing.T) {
	r := (&WorkloadSpec{Name: "cart", Image: "nginx"}).Revision("sha256:1")
	if len(r) != RevisionLength || strings.Trim(r, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		t.Errorf("got %q", r)
	}
	// Instances that run carry it: it must not change between versions of the runtime.
	if want := "vbxwwew4rnva"; r != want {
		t.Errorf("got %s, want %s", r, want)
	}
}

// Every field changes the revision, except those named here.
func TestRevisionOfEveryField(t *testing.T) {
	not := func(path string) bool {
		first, _, _ := strings.Cut(path, ".")
		switch first {
		case "backend", "pullPolicy", "registry", "replicas", "update", "ttl", "deadline":
			return true
		}
		return false
	}
	base := fullSpec(t).Revision("id")
	seen := map[string]string{base: "nothing"}
	leaves := 0
	walkLeaves("", reflect.ValueOf(fullSpec(t)).Elem(), func(path string, _ reflect.Value) {
		leaves++
		nth, at := leaves, 0
		s := fullSpec(t)
		walkLeaves("", reflect.ValueOf(s).Elem(), func(_ string, leaf reflect.Value) {
			if at++; at == nth {
				change(leaf)
			}
		})
		got := s.Revision("id")
		if not(path) {
			if got != base {
				t.Errorf("%s changes the revision", path)
			}
			return
		}
		if other, ok := seen[got]; ok {
			t.Errorf("a change of %s has the revision of a change of %s", path, other)
		}
		seen[got] = path
	})
	if leaves < 80 {
		t.Errorf("only %d fields were tried", leaves)
	}
	if fullSpec(t).Revision("other") == base {
		t.Error("the image's ID does not change the revision")
	}
}

func TestRevisionIgnoresSpelling(t *testing.T) {
	tests := []struct {
		name string
		a, b WorkloadSpec
	}{
		{"defaults", WorkloadSpec{}, *(&WorkloadSpec{}).WithDefaults()},
		{"empty lists", WorkloadSpec{}, WorkloadSpec{Args: []string{}, Env: map[string]string{}, Ports: []Port{}}},
		{"cores", WorkloadSpec{Resources: Resources{CPU: quantity("1")}}, WorkloadSpec{Resources: Resources{CPU: quantity("1000m")}}},
		{"half cores", WorkloadSpec{Resources: Resources{CPU: quantity("0.5")}}, WorkloadSpec{Resources: Resources{CPU: quantity("500m")}}},
		{"bytes", WorkloadSpec{Resources: Resources{Memory: quantity("1Gi")}}, WorkloadSpec{Resources: Resources{Memory: quantity("1073741824")}}},
		{"volume's size", WorkloadSpec{Volumes: []Volume{{Type: VolumeTmpfs, Size: quantity("1Mi")}}}, WorkloadSpec{Volumes: []Volume{{Type: VolumeTmpfs, Size: quantity("1024Ki")}}}},
		{"log size", WorkloadSpec{}, WorkloadSpec{Logs: LogConfig{MaxSize: quantity("10240Ki")}}},
	}
	for _, tt := range tests {
		if a, b := tt.a.Revision("x"), tt.b.Revision("x"); a != b {
			t.Errorf("%s: %s and %s", tt.name, a, b)
		}
	}
}

func TestRevisionTellsCloseSpecsApart(t *testing.T) {
	tests := []struct {
		name string
		a, b WorkloadSpec
	}{
		{"words", WorkloadSpec{Args: []string{"a b"}}, WorkloadSpec{Args: []string{"a", "b"}}},
		{"command and args", WorkloadSpec{Command: []string{"a"}}, WorkloadSpec{Args: []string{"a"}}},
		{"fractions", WorkloadSpec{Resources: Resources{CPU: quantity("500m")}}, WorkloadSpec{Resources: Resources{CPU: quantity("501m")}}},
		{"rounding", WorkloadSpec{Resources: Resources{CPU: quantity("500m")}}, WorkloadSpec{Resources: Resources{CPU: quantity("1")}}},
	}
	for _, tt := range tests {
		if a, b := tt.a.Revision("x"), tt.b.Revision("x"); a == b {
			t.Errorf("%s: both are %s", tt.name, a)
		}
	}
	// The image's ID cannot be pushed into the spec or out of it.
	if (&WorkloadSpec{Image: "a"}).Revision("b") == (&WorkloadSpec{Image: "b"}).Revision("a") {
		t.Error("image and ID are interchangeable")
	}
}

func TestRevisionLeavesTheSpecAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := validSpec().Draw(t, "spec")
		before := s.Clone()
		first := s.Revision("id")
		if !reflect.DeepEqual(s, before) {
			t.Fatal("Revision changed the spec")
		}
		if second := s.Revision("id"); first != second {
			t.Fatalf("got %s, then %s", first, second)
		}
	})
}
