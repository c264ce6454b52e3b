package docker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/reference"
	dockerconfig "github.com/docker/cli/cli/config"
	"github.com/docker/docker/api/types/registry"
	"go.uber.org/goleak"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func named(t *testing.T, s string) reference.Named {
	t.Helper()
	ref, err := parseImage(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref.(reference.Named)
}

func TestPullErrorClasses(t *testing.T) {
	tests := []struct {
		message string
		want    error
	}{
		{"pull access denied for x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied", drivers.ErrDenied},
		{"unauthorized: incorrect username or password", drivers.ErrDenied},
		{"Head \"https://x/v2/\": no basic auth credentials", drivers.ErrDenied},
		{"manifest for x:y not found: manifest unknown: manifest unknown", drivers.ErrNotFound},
		{"no matching manifest for linux/arm64 in the manifest list entries", drivers.ErrNotFound},
		{"toomanyrequests: You have reached your unauthenticated pull rate limit", drivers.ErrUnavailable},
		{"unauthorized: 429 Too Many Requests", drivers.ErrUnavailable},
		{"received unexpected HTTP status: 502 Bad Gateway", drivers.ErrUnavailable},
		{"Get \"https://x/v2/\": net/http: TLS handshake timeout", drivers.ErrUnavailable},
		{"dial tcp: lookup x: no such host", drivers.ErrUnavailable},
		{"dial tcp 127.0.0.1:1: connect: connection refused", drivers.ErrUnavailable},
		{"unexpected EOF", drivers.ErrUnavailable},
		{"filesystem layer verification failed for digest sha256:00", drivers.ErrUnavailable},
		{"write /var/lib/docker/x: no space left on device", drivers.ErrUnavailable},
		{"Get \"https://host:503/v2/forbidden/timeout/manifests/denied\": something else", nil},
	}
	ref := named(t, "host:503/forbidden/timeout:denied")
	for _, tt := range tests {
		err := pullError(ref, credential{}, errors.New("Error response from daemon: "+tt.message))
		for _, class := range []error{drivers.ErrDenied, drivers.ErrNotFound, drivers.ErrUnavailable} {
			if got := errors.Is(err, class); got != (class == tt.want) {
				t.Errorf("%q: is %v: %v", tt.message, class, got)
			}
		}
	}
	secret := credential{config: registry.AuthConfig{Password: "hunter22"}}
	if err := pullError(ref, secret, errors.New("denied: hunter22 is wrong")); strings.Contains(err.Error(), "hunter22") {
		t.Errorf("the password is in %q", err)
	}
}

func TestMirrorsOf(t *testing.T) {
	mirrors := []string{"https://mirror.example.com", "http://127.0.0.1:5000"}
	digest := "@sha256:" + strings.Repeat("a", 64)
	for image, want := range map[string]string{
		"nginx":                "mirror.example.com/library/nginx:latest 127.0.0.1:5000/library/nginx:latest",
		"a/b:c":                "mirror.example.com/a/b:c 127.0.0.1:5000/a/b:c",
		"a/b:c" + digest:       "mirror.example.com/a/b" + digest + " 127.0.0.1:5000/a/b" + digest,
		"quay.io/a/b:c":        "",
		"mirror.example.com/a": "",
	} {
		var got []string
		for _, m := range mirrorsOf(mirrors, named(t, image)) {
			got = append(got, m.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %q", image, got, want)
		}
	}
}

func TestPullMeter(t *testing.T) {
	now := t0
	m := newPullMeter(named(t, "nginx"), func() time.Time { return now })
	message := func(id, status string, current, total int64) pullMessage {
		p := pullMessage{ID: id, Status: status}
		p.ProgressDetail.Current, p.ProgressDetail.Total = current, total
		return p
	}
	if p, ok := m.add(message("latest", "Pulling from library/nginx", 0, 0)); !ok || p.Phase != drivers.PhasePulling || p.Total != 0 {
		t.Errorf("the first report: %+v, %v", p, ok)
	}
	reports := 0
	for i := range 100 {
		now = now.Add(10 * time.Millisecond)
		if _, ok := m.add(message("a", "Downloading", int64(i), 200)); ok {
			reports++
		}
	}
	if reports < 3 || reports > 4 {
		t.Errorf("%d reports in a second, want 4", reports)
	}
	m.add(message("b", "Downloading", 50, 100))
	m.add(message("b", "Extracting", 1, 100))
	m.add(message("a", "Download complete", 0, 0))
	m.add(message("c", "Already exists", 0, 0))
	if p := m.progress(); p.Current != 250 || p.Total != 300 {
		t.Errorf("%d of %d bytes, want 250 of 300", p.Current, p.Total)
	}
}

func TestCredentialStaysWithItsRegistry(t *testing.T) {
	c := credential{domain: "docker.io", config: registry.AuthConfig{Username: "u", Password: "p"}}
	if h, err := c.header("mirror.example.com"); h != "" || err != nil {
		t.Errorf("header for another registry: %q, %v", h, err)
	}
	if h, err := c.header("docker.io"); h == "" || err != nil {
		t.Errorf("header: %q, %v", h, err)
	}
	other := c
	other.config.Password = "q"
	if c.identity() == other.identity() || c.identity() == "" || (credential{}).identity() != "" {
		t.Error("identities do not tell credentials apart")
	}
	if strings.Contains(c.identity(), "p\x00") || len(c.identity()) != 64 {
		t.Errorf("identity %q", c.identity())
	}
}

func TestStoredCredential(t *testing.T) {
	bin := t.TempDir()
	script := func(name, body string) {
		if err := os.WriteFile(filepath.Join(bin, "docker-credential-"+name), []byte("#!/bin/sh\n"+body), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	script("token", `read s; echo '{"Username":"<token>","Secret":"idtoken"}'`)
	script("none", `echo "credentials not found in native keychain"; exit 1`)
	script("broken", `echo secretsecret; exit 1`)
	script("garbage", `echo secretsecret`)
	script("slow", `exec sleep 60`)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	tests := []struct {
		name, config, domain string
		user, password       string
		err                  error
	}{
		{"hub", `{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}`, "docker.io", "u", "p", nil},
		{"by host", `{"auths":{"r.example.com:5000":{"auth":"dTpw"}}}`, "r.example.com:5000", "u", "p", nil},
		{"by URL", `{"auths":{"https://r.example.com/v1/":{"auth":"dTpw"}}}`, "r.example.com", "u", "p", nil},
		{"another's", `{"auths":{"r.example.com":{"auth":"dTpw"}}}`, "other.example.com", "", "", nil},
		{"helper with a token", `{"credsStore":"token"}`, "r.example.com", "", "idtoken", nil},
		{"helper knows nothing", `{"credHelpers":{"r.example.com":"none"},"credsStore":"token"}`, "r.example.com", "", "", nil},
		{"helper fails", `{"credsStore":"broken"}`, "r.example.com", "", "", drivers.ErrUnavailable},
		{"helper talks nonsense", `{"credsStore":"garbage"}`, "r.example.com", "", "", drivers.ErrUnavailable},
		{"no such helper", `{"credsStore":"absent"}`, "r.example.com", "", "", drivers.ErrUnavailable},
		{"helper outside of the path", `{"credsStore":"/../../bin/sh"}`, "r.example.com", "", "", drivers.ErrDenied},
		{"helper hangs", `{"credsStore":"slow"}`, "r.example.com", "", "", drivers.ErrUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file, err := dockerconfig.LoadFromReader(strings.NewReader(tt.config))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			c, err := storedCredential(ctx, file, tt.domain)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err != nil && strings.Contains(err.Error(), "secretsecret") {
				t.Errorf("what the helper printed is in %q", err)
			}
			if c.config.Username != tt.user || c.config.Password+c.config.IdentityToken != tt.password {
				t.Errorf("got user %q", c.config.Username)
			}
		})
	}
}

// group is a pullGroup with what it needs.
type group struct {
	pullGroup
	life    context.Context
	running sync.WaitGroup
}

func (g *group) pull(ctx context.Context, key string, report func(drivers.Progress), fn func(context.Context, func(drivers.Progress)) (pulled, error)) (pulled, error) {
	return g.do(ctx, g.life, &g.running, key, report, fn)
}

func (g *group) waiters(key string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.flights[key]; f != nil {
		return len(f.waiters)
	}
	return 0
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

func TestPullGroup(t *testing.T) {
	defer goleak.VerifyNone(t)
	life, end := context.WithCancel(t.Context())
	g := &group{life: life}
	runs := make(chan struct{}, 10)
	release := make(chan struct{})
	slow := func(ctx context.Context, report func(drivers.Progress)) (pulled, error) {
		runs <- struct{}{}
		report(drivers.Progress{Current: 1})
		select {
		case <-release:
			return pulled{imageID: "x"}, nil
		case <-ctx.Done():
			return pulled{}, ctx.Err()
		}
	}
	type answer struct {
		got pulled
		err error
	}
	answers := make(chan answer, 3)
	heard := make(chan drivers.Progress, 3)
	leaving, leave := context.WithCancel(t.Context())
	for i := range 3 {
		ctx := t.Context()
		if i == 0 {
			ctx = leaving // the one that started it
		}
		go func() {
			got, err := g.pull(ctx, "k", func(p drivers.Progress) { heard <- p }, slow)
			answers <- answer{got, err}
		}()
		until(t, "a caller waits", func() bool { return g.waiters("k") == i+1 })
	}
	for range 3 {
		if p := <-heard; p.Current != 1 {
			t.Errorf("heard %+v", p)
		}
	}
	leave()
	if a := <-answers; !errors.Is(a.err, context.Canceled) {
		t.Errorf("who left got %+v", a)
	}
	close(release)
	for range 2 {
		if a := <-answers; a.err != nil || a.got.imageID != "x" {
			t.Errorf("who stayed got %+v", a)
		}
	}
	if len(runs) != 1 {
		t.Errorf("%d pulls, want 1", len(runs))
	}

	release = make(chan struct{})
	ended := make(chan error, 1)
	last, leaveLast := context.WithCancel(t.Context())
	go func() {
		_, err := g.pull(last, "k", func(drivers.Progress) {}, func(ctx context.Context, _ func(drivers.Progress)) (pulled, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return pulled{}, ctx.Err()
		})
		answers <- answer{err: err}
	}()
	until(t, "the only caller waits", func() bool { return g.waiters("k") == 1 })
	leaveLast()
	<-answers
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a pull that nobody waits for goes on: %v", err)
	}
	end()
	g.running.Wait()
	if _, err := g.pull(t.Context(), "k", func(drivers.Progress) {}, slow); !errors.Is(err, drivers.ErrUnavailable) {
		t.Errorf("after the driver's end: %v, want ErrUnavailable", err)
	}
}
