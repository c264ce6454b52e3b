package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var testHost = Host{UID: 0, Name: "Web-01.example.com", Environ: []string{"HOME=/root"}}

func load(t *testing.T, text string, environ ...string) (*Loaded, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "runtime.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h := testHost
	h.Environ = append(h.Environ, environ...)
	return Load(Options{File: file, Host: h})
}

func mustLoad(t *testing.T, text string, environ ...string) *Loaded {
	t.Helper()
	l, err := load(t, text, environ...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestDefaults(t *testing.T) {
	l, err := Load(Options{Host: testHost, SearchFile: filepath.Join(t.TempDir(), "absent.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	if l.File != "" {
		t.Errorf("read %q, want no file", l.File)
	}
	if got, want := l.Node.Name, "web-01-example-com"; got != want {
		t.Errorf("node.name: got %q, want %q", got, want)
	}
	if got, want := l.NATS.StoreDir, "/var/lib/kranix-runtime/jetstream"; got != want {
		t.Errorf("nats.store_dir: got %q, want %q", got, want)
	}
	if got, want := l.Runtime.DefaultBackend, "kubernetes"; got != want {
		t.Errorf("runtime.default_backend: got %q, want %q", got, want)
	}
}

func TestDirectoriesOfAUser(t *testing.T) {
	tests := map[string]struct {
		environ []string
		data    string
		secrets string
		lock    string
	}{
		"home": {environ: []string{"HOME=/home/u"}, data: "/home/u/.local/state/kranix-runtime",
			secrets: "/home/u/.config/kranix/secrets", lock: "/home/u/.local/state/kranix-runtime/locks"},
		"xdg": {environ: []string{"HOME=/home/u", "XDG_STATE_HOME=/s", "XDG_CONFIG_HOME=/c", "XDG_RUNTIME_DIR=/r"},
			data: "/s/kranix-runtime", secrets: "/c/kranix/secrets", lock: "/r/kranix-runtime"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := Default(Host{UID: 1000, Environ: tt.environ})
			got := [3]string{c.Runtime.DataDir, c.Node.SecretsDir, c.Node.LockDir}
			if want := [3]string{tt.data, tt.secrets, tt.lock}; got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	t.Run("no home", func(t *testing.T) {
		_, err := Load(Options{Host: Host{UID: 1000, Name: "n"}, SearchFile: "/nonexistent"})
		wantFaults(t, err, "runtime.data_dir: set an absolute path", "node.secrets_dir: ", "node.lock_dir: ")
	})
}

// The documented file, with every key users know, must stay valid as it is.
func TestDocumentedKeys(t *testing.T) {
	l := mustLoad(t, documented)
	def := Default(testHost)
	l.Node.Name, l.NATS.StoreDir = "", ""
	l.Remote = def.Remote // "~" is resolved
	l.Podman.Socket = def.Podman.Socket
	def.ImageCache.PrepullImages, def.ImageCache.RegistryMirrors = []string{}, []string{}
	if !reflect.DeepEqual(l.Config, def) {
		t.Errorf("the documented values are not the defaults:\ngot  %+v\nwant %+v", l.Config, def)
	}
}

func TestFaultsNameTheirLine(t *testing.T) {
	tests := map[string]struct {
		yaml string
		want []string
	}{
		"unknown key":       {"docker:\n  hots: unix:///x\n", []string{`:2: docker.hots: unknown key; did you mean "host"?`}},
		"unknown section":   {"dokcer:\n  host: x\n", []string{`:1: dokcer: unknown section; did you mean "docker"?`}},
		"key at top level":  {"default_backend: docker\n", []string{`:1: default_backend: unknown section; the key default_backend belongs under runtime`}},
		"duplicate key":     {"docker:\n  host: unix:///x\n  host: unix:///y\n", []string{`:3: key "host" is already on line 2`}},
		"not YAML":          {"docker:\n  host: [\n", []string{":2: not valid YAML"}},
		"list at top":       {"- a\n", []string{":1: want sections"}},
		"two documents":     {"docker: {}\n---\nnats: {}\n", []string{":3: the file holds a second document"}},
		"section is a text": {"docker: yes\n", []string{":1: docker: want a mapping of settings, got a text"}},
		"bool":              {"metrics:\n  enabled: yes\n", []string{`:2: metrics.enabled: want true or false, got "yes"`}},
		"duration":          {"runtime:\n  deadline: 60\n", []string{`:2: runtime.deadline: want a duration such as`}},
		"number":            {"metrics:\n  metrics_port: http\n", []string{`:2: metrics.metrics_port: want a whole number, got "http"`}},
		"port":              {"metrics:\n  metrics_port: 70000\n", []string{":2: metrics.metrics_port: want 0 to 65535, got 70000"}},
		"list":              {"runtime:\n  backends: docker\n", []string{":2: runtime.backends: want a list, got a text"}},
		"item of a list":    {"runtime:\n  backends:\n    - docker\n    - {}\n", []string{":4: runtime.backends[1]: want a text"}},
		"map value":         {"runtime:\n  concurrency:\n    docker: many\n", []string{`:3: runtime.concurrency.docker: want a whole number`}},
		"size":              {"logs:\n  max_bytes: lots\n", []string{`:2: logs.max_bytes: want a size`}},
		"quantity":          {"policy:\n  max_cpu: -1\n", []string{`:2: policy.max_cpu: want a quantity`}},
		"no such backend":   {"runtime:\n  backends: [doker]\n", []string{`:2: runtime.backends[0]: there is no backend "doker"; did you mean "docker"?`}},
		"absent backend": {"runtime:\n  backends: [docker, kubernetes, podman, compose, remote, edge]\n", []string{
			"runtime.backends[1]: this version has no kubernetes backend", "backends[2]: this version has no podman",
			"backends[3]: this version has no compose", "backends[4]: this version has no remote", "backends[5]: this version has no edge"}},
		"absent features": {"gpu: {enabled: true}\nephemeral: {enabled: true}\nedge_agent: {enabled: true}\nimage_cache: {enabled: true}\ntracing: {enabled: true}\n", []string{
			":1: gpu.enabled: this version has no", ":2: ephemeral.enabled: this version has no", ":3: edge_agent.enabled: this version has no",
			":4: image_cache.enabled: this version has no", ":5: tracing.enabled: this version has no"}},
		"listening to all":            {"nats:\n  listen: 0.0.0.0:4222\n", []string{":2: nats.listen: 0.0.0.0:4222 can be reached from other machines"}},
		"listening to all, port only": {"nats:\n  listen: :4222\n", []string{":2: nats.listen: :4222 can be reached"}},
		"external":                    {"nats:\n  mode: external\n", []string{":0: "}},
		"credentials in an address":   {"nats:\n  mode: external\n  urls: [\"nats://u:hunter2@h:4222\"]\n", []string{":3: nats.urls[0]: credentials do not belong in an address"}},
		"user without password":       {"nats:\n  user: u\n", []string{":2: nats.user: set nats.password_file"}},
		"replicas":                    {"nats:\n  replicas: 3\n", []string{":2: nats.replicas: the embedded server is one server"}},
		"docker host":                 {"docker:\n  host: ssh://x\n", []string{`:2: docker.host: want unix:///path/to.sock or tcp://host:port, got "ssh://x"`}},
		"node name":                   {"node:\n  name: Web_01\n", []string{`:2: node.name: want 1 to 63 of a-z, 0-9 and '-', such as "web-01", got "Web_01"`}},
		"relative path":               {"runtime:\n  data_dir: data\n", []string{`:2: runtime.data_dir: want an absolute path, got "data"`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, tt.yaml)
			if name == "external" {
				wantFaults(t, err, "nats.urls: mode external needs")
				return
			}
			wantFaults(t, err, tt.want...)
		})
	}
}

// wantFaults checks that err is exactly these faults, in order, by what they contain.
func wantFaults(t *testing.T, err error, want ...string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want faults", err)
	}
	if len(e.Faults) != len(want) {
		t.Fatalf("got %d faults, want %d:\n%v", len(e.Faults), len(want), err)
	}
	for i, w := range want {
		if !strings.Contains(e.Faults[i].String(), w) {
			t.Errorf("fault %d:\ngot  %s\nwant %s", i, e.Faults[i], w)
		}
	}
}

func TestEveryFaultAtOnce(t *testing.T) {
	_, err := load(t, `runtime:
  default_backend: dockr
  max_attempts: 0
nats:
  sync: sometimes
dcoker:
  host: x
metrics:
  collection_interval: soon
`, "KRANIX_DOCKER_HOST=nonsense")
	wantFaults(t, err,
		"KRANIX_DOCKER_HOST: docker.host: want unix:///",
		":2: runtime.default_backend: want docker",
		":3: runtime.max_attempts: want 1 to 100, got 0",
		":5: nats.sync: want \"always\"",
		":6: dcoker: unknown section",
		":9: metrics.collection_interval: want a duration",
	)
}

func TestEnvironmentOverFile(t *testing.T) {
	l := mustLoad(t, "docker:\n  host: unix:///file.sock\nruntime:\n  max_attempts: 3\n",
		"KRANIX_DOCKER_HOST=unix:///env.sock",
		"KRANIX_RUNTIME_BACKENDS=docker, sim",
		"KRANIX_RUNTIME_CONCURRENCY=docker=4,default=2",
		"KRANIX_NATS_LISTEN=127.0.0.1:0",
		"KRANIX_IMAGE_CACHE_REGISTRY_MIRRORS=https://a,https://b",
		"KRANIX_POLICY_MAX_MEMORY=4Gi",
		"KRANIX_SECRET_SHOP_TOKEN=x",
		"KRANIX_METRICS_ENABLED=",
	)
	if got, want := l.Docker.Host, "unix:///env.sock"; got != want {
		t.Errorf("docker.host: got %q, want %q", got, want)
	}
	if got := l.Source("docker.host").String(); got != "KRANIX_DOCKER_HOST" {
		t.Errorf("source of docker.host: got %q", got)
	}
	if got := l.Source("runtime.max_attempts").String(); !strings.HasSuffix(got, "runtime.yaml:4") {
		t.Errorf("source of runtime.max_attempts: got %q, want line 4", got)
	}
	if got := l.Source("nats.mode").String(); got != "default" {
		t.Errorf("source of nats.mode: got %q", got)
	}
	if got, want := l.Runtime.Backends, []string{"docker", "sim"}; !reflect.DeepEqual(got, want) {
		t.Errorf("runtime.backends: got %q, want %q", got, want)
	}
	if got, want := l.Runtime.Concurrency, (map[string]int{"docker": 4, "default": 2}); !reflect.DeepEqual(got, want) {
		t.Errorf("runtime.concurrency: got %v, want %v", got, want)
	}
	if got := l.Policy.MaxMemory.Value(); got != 4<<30 {
		t.Errorf("policy.max_memory: got %d", got)
	}
	if !l.Metrics.Enabled {
		t.Error("an empty variable changed metrics.enabled")
	}
	if len(l.Warnings) != 0 {
		t.Errorf("warnings: %q", l.Warnings)
	}
}

func TestUnknownVariableIsWarnedAbout(t *testing.T) {
	l := mustLoad(t, "", "KRANIX_DOKER_HOST=unix:///x", "KRANIX_CONFIG=", "KRANIX_SECRET_X_Y=z")
	if len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], `KRANIX_DOKER_HOST is not a setting and is ignored; did you mean "KRANIX_DOCKER_HOST"?`) {
		t.Errorf("got %q", l.Warnings)
	}
}

func TestOverride(t *testing.T) {
	file := filepath.Join(t.TempDir(), "none.yaml")
	l, err := Load(Options{SearchFile: file, Host: testHost, Overrides: []Override{
		{Key: "runtime.data_dir", Value: "/data", Flag: "--data-dir"},
		{Key: "runtime.backends", Value: "sim", Flag: "--backend"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if l.NATS.StoreDir != "/data/jetstream" || l.Source("runtime.data_dir").String() != "--data-dir" {
		t.Errorf("got store %q from %s", l.NATS.StoreDir, l.Source("runtime.data_dir"))
	}
	_, err = Load(Options{SearchFile: file, Host: testHost, Overrides: []Override{{Key: "runtime.data_dir", Value: "data", Flag: "--data-dir"}}})
	wantFaults(t, err, "--data-dir: runtime.data_dir: want an absolute path")
}

func TestFileLookup(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	byEnv := write("env.yaml", "node: {name: env}\n")
	byFlag := write("flag.yaml", "node: {name: flag}\n")
	found := write("found.yaml", "node: {name: found}\n")
	withEnv := testHost
	withEnv.Environ = []string{"KRANIX_CONFIG=" + byEnv}
	tests := map[string]struct {
		opts Options
		want string
	}{
		"flag":  {Options{File: byFlag, Host: withEnv, SearchFile: found}, "flag"},
		"env":   {Options{Host: withEnv, SearchFile: found}, "env"},
		"found": {Options{Host: testHost, SearchFile: found}, "found"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l, err := Load(tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			if l.Node.Name != tt.want {
				t.Errorf("got %q, want %q", l.Node.Name, tt.want)
			}
		})
	}
	if _, err := Load(Options{File: filepath.Join(dir, "absent.yaml"), Host: testHost}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a named file that is absent: got %v", err)
	}
}

func TestSecretsAreMasked(t *testing.T) {
	const secret = "hunter2-hunter2"
	l := mustLoad(t, "edge_agent:\n  auth_token: "+secret+"\nnats:\n  user: u\n", "KRANIX_NATS_PASSWORD="+secret)
	if l.EdgeAgent.AuthToken.Reveal() != secret || l.NATS.Password.Reveal() != secret {
		t.Fatal("the secrets were not read")
	}
	var out bytes.Buffer
	if err := l.Write(&out, true); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"print": out.String(), "%v": sprint("%v", *l.Config), "%+v": sprint("%+v", *l.Config), "%#v": sprint("%#v", *l.Config),
		"values": sprint("%v", l.Values()),
	} {
		if strings.Contains(text, secret) {
			t.Errorf("%s shows the secret", name)
		}
	}
	if !strings.Contains(out.String(), `auth_token: "********"`) {
		t.Errorf("auth_token is not masked:\n%s", &out)
	}
	if _, err := load(t, "edge_agent:\n  auth_token: ["+secret+"]\n"); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("a fault shows the secret: %v", err)
	}
}

// What print writes is a file that loads to the same values.
func TestPrintRoundTrip(t *testing.T) {
	first := mustLoad(t, "runtime:\n  concurrency: {docker: 2, default: 3}\n  deadline: 90m\nnode:\n  labels: {zone: \"a\\nb\"}\nsim:\n  latency: {pull: 1500ms}\npolicy: {max_cpu: 500m}\n")
	var text bytes.Buffer
	if err := first.Write(&text, true); err != nil {
		t.Fatal(err)
	}
	second := mustLoad(t, text.String())
	var again bytes.Buffer
	if err := second.Write(&again, false); err != nil {
		t.Fatal(err)
	}
	text.Reset()
	if err := first.Write(&text, false); err != nil {
		t.Fatal(err)
	}
	if text.String() != again.String() {
		t.Errorf("got\n%s\nwant\n%s", &again, &text)
	}
	if !strings.Contains(text.String(), "deadline: \"1h30m\"\n") {
		t.Errorf("durations are not short:\n%s", &text)
	}
}

func TestKeysAreUnique(t *testing.T) {
	seen := map[string]string{}
	for _, s := range sections(Default(testHost)) {
		for _, k := range s.keys {
			if other, ok := seen[k.env()]; ok {
				t.Errorf("%s and %s share %s", k.path, other, k.env())
			}
			seen[k.env()] = k.path
			if strings.HasSuffix(k.path, ".") {
				t.Errorf("a field of %s has no key", s.name)
			}
		}
	}
	for _, name := range knownVariables {
		if path, ok := seen[name]; ok {
			t.Errorf("%s is both %s and a variable of its own", name, path)
		}
	}
}

func TestDurationText(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Hour: "1h", 90 * time.Minute: "1h30m", 30 * time.Second: "30s", 0: "0s", 1500 * time.Millisecond: "1.5s",
		time.Hour + time.Second: "1h0m1s", 10 * time.Minute: "10m",
	} {
		if got := durationText(d); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("docker:\n  host: unix:///x\n")
	f.Add("runtime: {backends: [a], concurrency: {x: 1}}\nnats: *x")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(dir, "f.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Load(Options{File: file, Host: testHost})
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("an error that is no list of faults: %v", err)
		}
		if err == nil && l == nil {
			t.Fatal("neither a configuration nor an error")
		}
	})
}
