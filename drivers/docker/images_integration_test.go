//go:build integration

package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// testRegistry is a registry that can be told to fail. The engine takes the loopback
// addresses for insecure registries, so it needs no certificate.
type testRegistry struct {
	*httptest.Server
	// repository is unique, so that the engine has nothing of it.
	repository string

	mu sync.Mutex
	// user and password are asked for when set.
	user, password string
	// fault answers a request instead of the registry when it returns true.
	fault func(http.ResponseWriter, *http.Request) bool
	// authorizations are what clients presented.
	authorizations []string

	layers atomic.Int64
}

// newTestRegistry serves one image, "<repository>:v1", of some layers.
func newTestRegistry(t *testing.T, d *Driver, layerSize int64, layers int) *testRegistry {
	t.Helper()
	r := &testRegistry{repository: "kranix-test/" + randomLabel(t)}
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		if a := req.Header.Get("Authorization"); a != "" {
			r.authorizations = append(r.authorizations, a)
		}
		user, password, _ := req.BasicAuth()
		denied := r.user != "" && (user != r.user || password != r.password)
		fault := r.fault
		r.mu.Unlock()
		switch {
		case denied:
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		case fault != nil && fault(w, req):
			return
		}
		if req.Method == http.MethodGet && isLayer(req) {
			r.layers.Add(1)
		}
		handler.ServeHTTP(w, req)
	}))
	t.Cleanup(func() {
		// The engine holds on to the connections of a pull that was cancelled.
		r.CloseClientConnections()
		r.Close()
	})
	img, err := random.Image(layerSize, int64(layers))
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag(r.image(), name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { forgetImages(t, d, r.repository) })
	return r
}

func isLayer(req *http.Request) bool { return strings.Contains(req.URL.Path, "/blobs/") }

func (r *testRegistry) host() string  { return strings.TrimPrefix(r.URL, "http://") }
func (r *testRegistry) image() string { return r.host() + "/" + r.repository + ":v1" }

func (r *testRegistry) set(user, password string, fault func(http.ResponseWriter, *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.user, r.password, r.fault = user, password, fault
}

// forgetImages removes what tests pulled.
func forgetImages(t *testing.T, d *Driver, repository string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	list, err := d.cli.ImageList(ctx, image.ListOptions{Filters: filters.NewArgs(filters.Arg("dangling", "false"))})
	if err != nil {
		t.Error(err)
		return
	}
	for _, i := range list {
		if strings.Contains(strings.Join(append(i.RepoTags, i.RepoDigests...), " "), repository) {
			if _, err := d.cli.ImageRemove(ctx, i.ID, image.RemoveOptions{Force: true, PruneChildren: true}); err != nil {
				t.Errorf("clean up image %s: %v", i.ID, err)
			}
		}
	}
}

// emptyDockerConfig keeps the tests from the credentials of whoever runs them.
func emptyDockerConfig(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	return dir
}

// oneSecret resolves every reference to one value.
type oneSecret string

func (s oneSecret) ResolveSecret(context.Context, string, drivers.SecretRef) ([]byte, error) {
	return []byte(s), nil
}

func spec(image string, policy drivers.PullPolicy) *drivers.WorkloadSpec {
	return &drivers.WorkloadSpec{Name: "x", Namespace: "it", Image: image, PullPolicy: policy}
}

func TestEnsureImage(t *testing.T) {
	emptyDockerConfig(t)
	d := newTestDriver(t)
	r := newTestRegistry(t, d, 3<<20, 3)
	if _, _, err := d.ensureImage(t.Context(), spec(r.image(), drivers.PullNever)); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("never, absent: %v, want ErrNotFound", err)
	}
	steps := &progressLog{}
	ctx := with(t, 1, func(c *drivers.Command) { c.Progress = steps.add })
	id, digest, err := d.ensureImage(ctx, spec(r.image(), drivers.PullMissing))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(id, "sha256:") || !strings.HasPrefix(digest, r.host()+"/"+r.repository+"@sha256:") {
		t.Errorf("ID %q, digest %q", id, digest)
	}
	var most drivers.Progress
	for _, s := range steps.steps {
		if s.Phase == drivers.PhasePulling && s.Current > most.Current {
			most = s
		}
		if s.Current > s.Total && s.Total > 0 {
			t.Errorf("more than all: %+v", s)
		}
	}
	phases := steps.phases()
	if len(phases) < 2 || phases[0] != drivers.PhasePulling || phases[len(phases)-1] != drivers.PhasePulled {
		t.Errorf("steps %v", phases)
	}
	pulls := r.layers.Load()
	again, sameDigest, err := d.ensureImage(t.Context(), spec(r.image(), drivers.PullMissing))
	if err != nil || again != id || sameDigest != digest || r.layers.Load() != pulls {
		t.Errorf("missing, present: %q, %q, %v", again, sameDigest, err)
	}
	for _, ref := range []string{id, digest, r.image() + "@" + strings.SplitN(digest, "@", 2)[1]} {
		if got, _, err := d.ensureImage(t.Context(), spec(ref, drivers.PullNever)); err != nil || got != id {
			t.Errorf("by %s: %q, %v", ref, got, err)
		}
	}
	if got, _, err := d.ensureImage(t.Context(), spec(r.image(), drivers.PullAlways)); err != nil || got != id {
		t.Errorf("always: %q, %v", got, err)
	}
	list, err := d.ListImages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, i := range list {
		found = found || (i.ID == id && i.Bytes > 0 && i.References[0] == r.image())
	}
	if !found {
		t.Errorf("%s is not among %+v", r.image(), list)
	}
	if err := d.RemoveImage(t.Context(), r.image()); err != nil {
		t.Fatal(err)
	}
	if err := d.RemoveImage(t.Context(), r.image()); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("remove again: %v, want ErrNotFound", err)
	}
	r.set("", "", func(http.ResponseWriter, *http.Request) bool { return false })
	r.Close()
	if _, err := d.PullImage(t.Context(), r.image(), nil); !errors.Is(err, drivers.ErrUnavailable) {
		t.Errorf("registry down: %v, want ErrUnavailable", err)
	}
}

func TestRemoveImageInUse(t *testing.T) {
	d := newTestDriver(t)
	talk(t, d, 0, `exit 0`)
	for _, ref := range []string{testImage, "docker.io/library/" + testImage} {
		if err := d.RemoveImage(t.Context(), ref); !errors.Is(err, drivers.ErrConflict) {
			t.Errorf("remove %s: %v, want ErrConflict", ref, err)
		}
	}
}

func TestPullFaults(t *testing.T) {
	emptyDockerConfig(t)
	d := newTestDriver(t)
	status := func(code int, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			fmt.Fprint(w, body) //nolint:errcheck // the client may have gone
			return true
		}
	}
	tests := []struct {
		name  string
		fault func(http.ResponseWriter, *http.Request) bool
		want  error
	}{
		{"401", func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}, drivers.ErrDenied},
		{"403", status(http.StatusForbidden, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`), drivers.ErrDenied},
		{"404", status(http.StatusNotFound, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`), drivers.ErrNotFound},
		{"429", status(http.StatusTooManyRequests, `{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}`), drivers.ErrUnavailable},
		{"500", status(http.StatusInternalServerError, "oops"), drivers.ErrUnavailable},
		{"503", status(http.StatusServiceUnavailable, ""), drivers.ErrUnavailable},
		{"not a registry", status(http.StatusOK, "<html>"), nil},
		{"layer of other bytes", func(w http.ResponseWriter, r *http.Request) bool {
			if isLayer(r) {
				w.Write(bytes.Repeat([]byte("x"), 1000)) //nolint:errcheck // the client may have gone
				return true
			}
			return false
		}, drivers.ErrUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newTestRegistry(t, d, 1<<10, 2)
			r.set("", "", func(w http.ResponseWriter, req *http.Request) bool {
				if req.URL.Path == "/v2/" && tt.name != "401" {
					return false
				}
				return tt.fault(w, req)
			})
			_, err := d.PullImage(t.Context(), r.image(), nil)
			if err == nil {
				t.Fatal("the pull succeeded")
			}
			t.Log(err)
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want class %v", err, tt.want)
			}
			var own *drivers.Error
			if tt.want == drivers.ErrDenied && (!errors.As(err, &own) || own.Hint == "") { //nolint:errorlint // compares the table's value
				t.Errorf("no hint what to do: %v", err)
			}
		})
	}
}

// stallLayers answers for layers with some bytes and then nothing until the client goes.
func stallLayers(w http.ResponseWriter, r *http.Request) bool {
	if !isLayer(r) {
		return false
	}
	w.Header().Set("Content-Length", "1000000")
	w.Write(make([]byte, 1000)) //nolint:errcheck // the client may have gone
	w.(http.Flusher).Flush()
	<-r.Context().Done()
	return true
}

func TestPullThatStalls(t *testing.T) {
	emptyDockerConfig(t)
	d := newTestDriver(t)
	r := newTestRegistry(t, d, 1<<20, 1)
	r.set("", "", stallLayers)
	ref, err := parseImage(r.image())
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, err = d.pullFrom(t.Context(), ref.(reference.Named), credential{}, pullLimits{connect: 10 * time.Second, stall: time.Second}, func(drivers.Progress) {})
	if !errors.Is(err, drivers.ErrUnavailable) || !strings.Contains(err.Error(), "no progress for 1s") || time.Since(start) > 10*time.Second {
		t.Errorf("after %s: %v", time.Since(start), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	if _, err := d.PullImage(ctx, r.image(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestPullAuthenticates(t *testing.T) {
	config := emptyDockerConfig(t)
	const password = "s3cret-word"
	d := newTestDriver(t, func(e *drivers.Environment, _ *Config) { e.Secrets = oneSecret(password + "\n") })
	r := newTestRegistry(t, d, 1<<10, 1)
	r.set("robot", password, nil)
	creds := &drivers.RegistryCredentials{Username: "robot", Password: drivers.SecretRef{File: "registry"}}

	if _, err := d.PullImage(t.Context(), r.image(), nil); !errors.Is(err, drivers.ErrDenied) {
		t.Errorf("anonymous: %v, want ErrDenied", err)
	}
	_, err := d.PullImage(t.Context(), r.image(), &drivers.RegistryCredentials{Username: "other", Password: creds.Password})
	if !errors.Is(err, drivers.ErrDenied) || strings.Contains(err.Error(), password) {
		t.Errorf("wrong user: %v, want ErrDenied without the password", err)
	}
	s := spec(r.image(), drivers.PullAlways)
	s.Registry = creds
	id, _, err := d.ensureImage(t.Context(), s)
	if err != nil {
		t.Fatalf("by the spec's credentials: %v", err)
	}
	if err := d.RemoveImage(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	login := func(file string) {
		if err := os.WriteFile(filepath.Join(config, "config.json"), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// "robot:s3cret-word" in base64, as docker login writes it.
	login(fmt.Sprintf(`{"auths":{%q:{"auth":"cm9ib3Q6czNjcmV0LXdvcmQ="}}}`, r.host()))
	if _, _, err := d.ensureImage(t.Context(), spec(r.image(), drivers.PullAlways)); err != nil {
		t.Errorf("by the node's configuration: %v", err)
	}
	bin := t.TempDir()
	helper := "#!/bin/sh\nread server\n[ \"$1 $server\" = 'get " + r.host() + "' ] || exit 1\necho '{\"ServerURL\":\"x\",\"Username\":\"robot\",\"Secret\":\"" + password + "\"}'\n"
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-kranixtest"), []byte(helper), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	login(fmt.Sprintf(`{"credHelpers":{%q:"kranixtest"}}`, r.host()))
	if _, _, err := d.ensureImage(t.Context(), spec(r.image(), drivers.PullAlways)); err != nil {
		t.Errorf("by a credential helper: %v", err)
	}
}

func TestPullsOfOneImageAreOne(t *testing.T) {
	emptyDockerConfig(t)
	d := newTestDriver(t, func(e *drivers.Environment, _ *Config) { e.Secrets = oneSecret("right") })
	r := newTestRegistry(t, d, 1<<20, 1)
	open := make(chan struct{})
	r.set("robot", "right", func(_ http.ResponseWriter, req *http.Request) bool {
		if isLayer(req) {
			select {
			case <-open:
			case <-req.Context().Done():
			}
		}
		return false
	})
	good := &drivers.RegistryCredentials{Username: "robot"}
	pull := func(c *drivers.RegistryCredentials) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		s := spec(r.image(), drivers.PullAlways)
		s.Registry = c
		_, _, err := d.ensureImage(ctx, s)
		return err
	}
	const callers = 8
	results := make(chan error, callers)
	for range callers {
		go func() { results <- pull(good) }()
	}
	eventually(t, 10*time.Second, "all callers share one pull", func() bool {
		d.pulls.mu.Lock()
		defer d.pulls.mu.Unlock()
		for _, f := range d.pulls.flights {
			return len(f.waiters) == callers && len(d.pulls.flights) == 1
		}
		return false
	})
	for _, bad := range []*drivers.RegistryCredentials{nil, {Username: "thief"}} {
		if err := pull(bad); !errors.Is(err, drivers.ErrDenied) {
			t.Errorf("another caller's pull was shared: %v, want ErrDenied", err)
		}
	}
	close(open)
	for range callers {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	// The configuration of the image is a blob too.
	if n := r.layers.Load(); n != 2 {
		t.Errorf("%d blobs were read, want each of 2 once", n)
	}
}

// hubImage is the image of a test registry as if it were Docker Hub's.
func (r *testRegistry) hubImage() string { return r.repository + ":v1" }

func TestPullByMirror(t *testing.T) {
	config := emptyDockerConfig(t)
	probe := newTestDriver(t)
	r := newTestRegistry(t, probe, 1<<20, 2)
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	stalled := newTestRegistry(t, probe, 1, 1)
	stalled.set("", "", func(_ http.ResponseWriter, req *http.Request) bool {
		<-req.Context().Done()
		return true
	})
	truncating := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !isLayer(req) || req.Method != http.MethodGet {
			r.Config.Handler.ServeHTTP(w, req)
			return
		}
		w.Header().Set("Content-Length", "1000000")
		w.Write(make([]byte, 1000)) //nolint:errcheck // the client may have gone
	}))
	t.Cleanup(truncating.Close)
	file := `{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOmh1YnBhc3N3b3Jk"}}}`
	if err := os.WriteFile(filepath.Join(config, "config.json"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	d := newTestDriver(t, func(e *drivers.Environment, c *Config) {
		c.Mirrors = []string{dead.URL, stalled.URL, truncating.URL, r.URL}
		e.Secrets = oneSecret("hubpassword")
	})
	steps := &progressLog{}
	ctx := with(t, 1, func(c *drivers.Command) { c.Progress = steps.add })
	s := spec(r.hubImage(), drivers.PullMissing)
	s.Registry = &drivers.RegistryCredentials{Username: "hub"}
	start := time.Now()
	id, digest, err := d.ensureImage(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > mirrorConnect+10*time.Second {
		t.Errorf("falling back from three bad mirrors took %s", took)
	}
	if !strings.HasPrefix(digest, "docker.io/"+r.repository+"@sha256:") {
		t.Errorf("digest %q", digest)
	}
	found, err := d.inspectImage(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(found.RepoTags, " ") != r.hubImage() {
		t.Errorf("the image's names are %q, want only %s", found.RepoTags, r.hubImage())
	}
	failed := 0
	for _, s := range steps.steps {
		if s.Reason == "MirrorFailed" {
			failed++
		}
	}
	if failed != 3 {
		t.Errorf("%d failed mirrors were reported, want 3", failed)
	}
	for _, m := range []*testRegistry{r, stalled} {
		m.mu.Lock()
		if len(m.authorizations) > 0 {
			t.Errorf("a mirror was sent credentials: %q", m.authorizations)
		}
		m.mu.Unlock()
	}
	if err := d.RemoveImage(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	byDigest := strings.TrimPrefix(digest, "docker.io/")
	for range 2 {
		if got, _, err := d.ensureImage(t.Context(), spec(byDigest, drivers.PullMissing)); err != nil || got != id {
			t.Errorf("by digest: %q, %v, want %q", got, err, id)
		}
	}
}
