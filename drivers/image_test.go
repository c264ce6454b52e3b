package drivers

import (
	"strings"
	"testing"

	"github.com/distribution/reference"
)

func TestParseImage(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	tests := []struct {
		image string
		want  imageRef
	}{
		{"nginx", imageRef{"docker.io", "library/nginx", "", ""}},
		{"nginx:1.27", imageRef{"docker.io", "library/nginx", "1.27", ""}},
		{"docker.io/nginx", imageRef{"docker.io", "library/nginx", "", ""}},
		{"index.docker.io/nginx", imageRef{"docker.io", "library/nginx", "", ""}},
		{"team/app:v1@" + digest, imageRef{"docker.io", "team/app", "v1", digest}},
		{"localhost/app", imageRef{"localhost", "app", "", ""}},
		{"localhost:5000/a/b", imageRef{"localhost:5000", "a/b", "", ""}},
		{"[::1]:5000/a", imageRef{"[::1]:5000", "a", "", ""}},
		{"MYHOST/app", imageRef{"MYHOST", "app", "", ""}},
		{"ghcr.io/a__b/c---d.e_f", imageRef{"ghcr.io", "a__b/c---d.e_f", "", ""}},
	}
	for _, tt := range tests {
		got, err := parseImage(tt.image)
		if err != nil || got != tt.want {
			t.Errorf("%s: got %+v, %v, want %+v", tt.image, got, err, tt.want)
		}
	}
}

func TestParseImageRefuses(t *testing.T) {
	tests := []struct{ image, want string }{
		{"", "is required"},
		{"https://ghcr.io/a", "without a scheme"},
		{"docker://nginx", "without a scheme"},
		{strings.Repeat("a1", 32), "not an image ID"},
		{"Nginx", "lower-case"},
		{"a//b", "a part of the name is empty"},
		{"/a", "a part of the name is empty"},
		{"a/", "a part of the name is empty"},
		{"../a", "registry is not a host name"},
		{"a/../b", "lower-case"},
		{"a/b..c", "lower-case"},
		{"a___b", "lower-case"},
		{"a-", "lower-case"},
		{"nginx:", "want a tag"},
		{"nginx:-a", "want a tag"},
		{"nginx:a b", "want a tag"},
		{"nginx:" + strings.Repeat("a", 129), "want a tag"},
		{"nginx@sha256:abc", "want a digest"},
		{"nginx@md5:" + strings.Repeat("a", 64), "want a digest"},
		{"nginx@sha256:" + strings.Repeat("A", 64), "want a digest"},
		{"nginx@", "want a digest"},
		{"a.com:0/b", "registry's port"},
		{"a.com:99999/b", "registry's port"},
		{"a.com:x/b", "registry's port"},
		{"a.com:/b", "registry's port"},
		{"-a.com/b", "registry is not a host name"},
		{"[::1/b", "want a ']'"},
		{"[zz::]/b", "not a valid IPv6"},
		{"[::1]x/b", "registry's port"},
		{"nginx; reboot", "lower-case"},
		{"nginx\n", "lower-case"},
		{"nginx\x00", "lower-case"},
		{"a/" + strings.Repeat("b", 254), "at most 255"},
	}
	for _, tt := range tests {
		_, err := parseImage(tt.image)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want an error with %q", tt.image, err, tt.want)
		}
	}
}

// FuzzParseImage compares with the reference implementation: whatever is accepted here
// it must accept and read in the same way.
func FuzzParseImage(f *testing.F) {
	for _, s := range []string{"nginx", "a.b:5/c:d", "localhost/x@sha256:" + strings.Repeat("a", 64), "[::1]:5000/a", "A/b", "a/B", "index.docker.io/library/a", "a:1/b:2", "a__b/c--d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, image string) {
		got, err := parseImage(image)
		named, refErr := reference.ParseNormalizedNamed(image)
		if err != nil {
			return
		}
		if refErr != nil {
			t.Fatalf("%q: accepted as %+v, the reference says %v", image, got, refErr)
		}
		want := imageRef{registry: reference.Domain(named), repository: reference.Path(named)}
		if tagged, ok := named.(reference.Tagged); ok {
			want.tag = tagged.Tag()
		}
		if digested, ok := named.(reference.Digested); ok {
			want.digest = string(digested.Digest())
		}
		if got != want {
			t.Fatalf("%q: got %+v, the reference says %+v", image, got, want)
		}
	})
}

// What the reference implementation accepts and parseImage does not is deliberate.
func TestParseImageIsStricterOnlyWhereMeant(t *testing.T) {
	for _, image := range []string{"a.com:99999/b", "a.com:0/b", "[fe80:1]/b", strings.Repeat("a", 64) + ".com/b"} {
		if _, err := reference.ParseNormalizedNamed(image); err != nil {
			t.Errorf("%s: the reference refuses it too: %v", image, err)
		}
		if _, err := parseImage(image); err == nil {
			t.Errorf("%s: accepted", image)
		}
	}
}
