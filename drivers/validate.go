package drivers

import (
	"path"
	"strings"
)

// The bounds of a spec. They are far above what a workload needs and below what could
// hurt an engine or the bus.
const (
	MaxReplicas = 1000
	// MaxEnvBytes bounds one variable as Linux does (MAX_ARG_STRLEN, with name and '='),
	// MaxProcessBytes command, args and environment together.
	MaxEnvBytes     = 128 << 10
	MaxProcessBytes = 1 << 20

	maxEntries   = 1000
	maxPath      = 4096
	maxName      = 256
	maxLabelText = 16 << 10
	maxLabels    = 64 << 10
	maxPort      = 65535
	maxID        = 1<<31 - 1
)

// Validate checks the whole spec and reports every fault at once, each with its path,
// as *FieldErrors (ErrInvalidSpec). Fields that are empty where a default exists pass.
// It knows no backend and no node: what a backend cannot honour is found by SpecChecker,
// what a node does not allow by Policy.
func (s *WorkloadSpec) Validate() error {
	var f faults
	f.identity(s)
	f.image(s)
	f.process(s)
	f.env(s)
	f.labels(s.Labels)
	f.ports(s)
	f.networks(s)
	f.storage(s)
	f.resources(s.Resources)
	f.security(s)
	f.health(s.Health)
	f.lifecycle(s)
	f.update(s)
	f.logs(s.Logs)
	return f.err(ErrInvalidSpec)
}

func (f *faults) identity(s *WorkloadSpec) {
	const want = "a DNS-1123 label: 1 to 63 of a-z, 0-9 and '-', not beginning or ending with '-'"
	switch {
	case s.Name == "":
		f.add("name", "is required, as %s", want)
	case !IsLabel(s.Name):
		f.add("name", "want %s, got %s", want, quote(s.Name))
	}
	if s.Namespace != "" && !IsLabel(s.Namespace) {
		f.add("namespace", "want %s, got %s", want, quote(s.Namespace))
	}
	if s.Backend != "" && !IsLabel(s.Backend) {
		f.add("backend", "want the name of a backend, such as docker, got %s", quote(s.Backend))
	}
}

func (f *faults) image(s *WorkloadSpec) {
	if _, err := parseImage(s.Image); err != nil {
		f.add("image", "%v", err)
	}
	if s.PullPolicy != "" {
		f.oneOf("pullPolicy", string(s.PullPolicy), string(PullMissing), string(PullAlways), string(PullNever))
	}
	if s.Registry != nil {
		f.plain("registry.username", s.Registry.Username, maxName)
		f.secretRef("registry.password", s.Registry.Password)
	}
}

func (f *faults) process(s *WorkloadSpec) {
	f.argv("command", s.Command, false)
	f.argv("args", s.Args, false)
	if s.User != "" && !isUser(s.User) {
		f.add("user", "want uid, uid:gid or names of the image's, got %s", quote(s.User))
	}
	if s.WorkingDir != "" {
		f.absolute("workingDir", s.WorkingDir)
	}
	// The kernel holds 64 bytes of host name.
	if s.Hostname != "" && !isHostname(s.Hostname, 63) {
		f.add("hostname", "want a host name of a-z, 0-9, '-' and '.', at most 63 bytes, got %s", quote(s.Hostname))
	}
	total := 0
	for _, list := range [][]string{s.Command, s.Args} {
		for _, a := range list {
			total += len(a) + 1
		}
	}
	for k, v := range s.Env {
		total += len(k) + len(v) + 2
	}
	if total > MaxProcessBytes {
		f.add("env", "command, args and env are %d bytes together, at most %d are allowed", total, MaxProcessBytes)
	}
}

// argv checks the words of a command; they reach the process as they are, so they may
// hold several lines.
func (f *faults) argv(field string, words []string, required bool) {
	if len(words) == 0 {
		if required {
			f.add(field, "is required")
		}
		return
	}
	if !within(f, field, len(words), 0, maxEntries) {
		return
	}
	if words[0] == "" && field != "args" {
		f.add(IndexPath(field, 0), "want a program, got an empty string")
	}
	for i, w := range words {
		f.prose(IndexPath(field, i), w, MaxEnvBytes)
	}
}

// isUser accepts "user" and "user:group", each a number or a name of the image's.
func isUser(s string) bool {
	user, group, both := strings.Cut(s, ":")
	return isPrincipal(user) && (!both || isPrincipal(group))
}

func isPrincipal(s string) bool {
	if n, ok := digits(s); ok {
		return n <= maxID
	}
	// useradd(8): at most 32 bytes, no digit or '-' first; a '$' may end it.
	s = strings.TrimSuffix(s, "$")
	if s == "" || len(s) > 32 || s[0] == '-' || s[0] == '.' || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	for _, c := range []byte(s) {
		if !isAlnum(c) && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func (f *faults) env(s *WorkloadSpec) {
	within(f, "env", len(s.Env), 0, maxEntries)
	for i, name := range sortedKeys(s.Env) {
		if i >= maxEntries {
			break
		}
		field := FieldPath("env", name)
		f.envName(field, name)
		f.prose(field, s.Env[name], MaxEnvBytes-len(name)-2)
	}
}

func (f *faults) envName(field, name string) {
	if len(name) > maxName {
		f.add(field, "want a name of at most %d bytes, got %d", maxName, len(name))
		return
	}
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || !isAlnum(c) && c != '.' && c != '-') {
			f.add(field, "want a name of letters, digits, '_', '.' and '-' that begins with a letter or '_'")
			return
		}
	}
	if name == "" {
		f.add(field, "want a name, got an empty string")
	}
}

func (f *faults) labels(labels map[string]string) {
	within(f, "labels", len(labels), 0, maxEntries)
	total := 0
	for i, name := range sortedKeys(labels) {
		total += len(name) + len(labels[name])
		if i >= maxEntries {
			break
		}
		field := FieldPath("labels", name)
		switch {
		case strings.HasPrefix(strings.ToLower(name), LabelPrefix):
			f.add(field, "labels that begin with %s are the runtime's own", LabelPrefix)
		case !isLabelKey(name):
			f.add(field, "want a name of at most 255 letters, digits and \"._-/[]\" that begins with a letter or digit")
		}
		f.plain(field, labels[name], maxLabelText)
	}
	if total > maxLabels {
		f.add("labels", "are %d bytes together, at most %d are allowed", total, maxLabels)
	}
}

// isLabelKey accepts what engines and proxies use: "team", "com.example.team",
// "example.com/team", "traefik.http.routers.r.tls.domains[0].main".
func isLabelKey(s string) bool {
	if s == "" || len(s) > 255 || !isAlnum(s[0]) {
		return false
	}
	for _, c := range []byte(s) {
		if !isAlnum(c) && !strings.ContainsRune("._-/[]", rune(c)) {
			return false
		}
	}
	return true
}

// absolute checks a path of the container or the host.
func (f *faults) absolute(field, name string) bool {
	if !f.plain(field, name, maxPath) {
		return false
	}
	switch clean := path.Clean(name); {
	case !path.IsAbs(name):
		f.add(field, "want an absolute path, got %s", quote(name))
	case clean != name:
		f.add(field, "want a path without \"..\", \".\", \"//\" or '/' at its end, such as %s, got %s", quote(clean), quote(name))
	case strings.Contains(name, ":"):
		f.add(field, "holds a ':', by which engines separate paths")
	default:
		return true
	}
	return false
}
