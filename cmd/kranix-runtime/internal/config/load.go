package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/kranix-io/kranix-runtime/subjects"
)

// DefaultFile is read when no file is named and it exists.
const DefaultFile = "/etc/kranix/runtime.yaml"

// maxFile bounds the file, in bytes; a configuration is a page or two.
const maxFile = 1 << 20

// SourceKind says where a value came from.
type SourceKind string

// The kinds of source, weakest first.
const (
	FromDefault SourceKind = "default"
	FromFile    SourceKind = "file"
	FromEnv     SourceKind = "env"
	FromFlag    SourceKind = "flag"
)

// Source is where a value came from.
type Source struct {
	Kind SourceKind
	// Name is the file, the variable or the flag.
	Name string
	// Line is the line in the file.
	Line int
}

// String is "runtime.yaml:12", "KRANIX_DOCKER_HOST", "--data-dir" or "default".
func (s Source) String() string {
	switch s.Kind {
	case FromFile:
		return fmt.Sprintf("%s:%d", s.Name, s.Line)
	case FromEnv, FromFlag:
		return s.Name
	default:
		return string(FromDefault)
	}
}

// Override is a flag that sets a key.
type Override struct {
	// Key is "<section>.<key>", Value as in a variable, Flag the flag's name with its
	// dashes.
	Key, Value, Flag string
}

// Options says what to load.
type Options struct {
	// File is the file; when empty, Getenv("KRANIX_CONFIG"), else DefaultFile when it
	// exists, else no file.
	File string
	// Overrides come last.
	Overrides []Override
	// Host is where the defaults and the variables come from.
	Host Host
	// NoFile reads no file at all.
	NoFile bool
	// SearchFile stands for DefaultFile in tests.
	SearchFile string
}

// Loaded is a configuration with where its values came from.
type Loaded struct {
	*Config
	// File is the file that was read, or empty.
	File string
	// Warnings are sentences about what was ignored.
	Warnings []string

	sources map[string]Source
}

// Source says where the value of a key ("<section>.<key>") came from.
func (l *Loaded) Source(path string) Source {
	if s, ok := l.sources[path]; ok {
		return s
	}
	return Source{Kind: FromDefault}
}

// Fault is one thing that is wrong.
type Fault struct {
	// Key is the path of the key, possibly with an index; empty for the file itself.
	Key string
	// Source is where the faulty value came from.
	Source Source
	// Message says what is wrong and what would be right.
	Message string
}

// String is "runtime.yaml:12: docker.host: ...".
func (f Fault) String() string {
	var parts []string
	switch {
	case f.Source.Kind == FromFile && f.Source.Line == 0:
		parts = append(parts, f.Source.Name)
	case f.Source.Kind != FromDefault && f.Source.Kind != "":
		parts = append(parts, f.Source.String())
	}
	if f.Key != "" {
		parts = append(parts, f.Key)
	}
	return strings.Join(append(parts, f.Message), ": ")
}

// Error is all faults of a configuration, in the order of the file.
type Error struct{ Faults []Fault }

func (e *Error) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// Load reads the file, the variables and the overrides, fills in what depends on other
// keys and validates. The error is a *Error with every fault, or says why the file
// could not be read.
func Load(opts Options) (*Loaded, error) {
	l := &Loaded{Config: Default(opts.Host), sources: map[string]Source{}}
	var faults []Fault

	file, required := opts.find()
	if file != "" {
		text, err := readFile(file)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !required:
		case err != nil:
			return nil, fmt.Errorf("read configuration: %w", err)
		default:
			l.File = file
			faults = append(faults, l.readYAML(text)...)
		}
	}
	faults = append(faults, l.readEnv(opts.Host)...)
	faults = append(faults, l.override(opts.Overrides)...)
	l.complete(opts.Host)
	faults = append(faults, l.validate()...)
	if len(faults) > 0 {
		slices.SortStableFunc(faults, func(a, b Fault) int { return a.Source.Line - b.Source.Line })
		return nil, &Error{Faults: faults}
	}
	return l, nil
}

// find returns the file to read and whether it must exist.
func (o Options) find() (file string, required bool) {
	if o.NoFile {
		return "", false
	}
	if o.File != "" {
		return o.File, true
	}
	if f := o.Host.Getenv("KRANIX_CONFIG"); f != "" {
		return f, true
	}
	if o.SearchFile != "" {
		return o.SearchFile, false
	}
	return DefaultFile, false
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return text, nil
}

// knownVariables are the variables that are not keys of the configuration.
var knownVariables = []string{"KRANIX_CONFIG", "KRANIX_NATS_URL", "KRANIX_CREDS", "KRANIX_SOURCE"}

// secretPrefix starts the variables that hold workloads' secrets (drivers.SecretRef).
const secretPrefix = EnvPrefix + "SECRET_"

func (l *Loaded) readEnv(h Host) []Fault {
	byEnv := map[string]key{}
	for _, k := range keysByPath(l.Config) {
		byEnv[k.env()] = k
	}
	var faults []Fault
	environ := slices.Clone(h.Environ)
	slices.Sort(environ)
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || !strings.HasPrefix(name, EnvPrefix) || strings.HasPrefix(name, secretPrefix) ||
			slices.Contains(knownVariables, name) {
			continue
		}
		k, ok := byEnv[name]
		if !ok {
			l.Warnings = append(l.Warnings, "environment variable "+name+" is not a setting and is ignored"+
				suggestion(name, slices.Collect(maps.Keys(byEnv))))
			continue
		}
		if value == "" {
			continue
		}
		source := Source{Kind: FromEnv, Name: name}
		if err := setVariable(k.value, value); err != nil {
			faults = append(faults, Fault{Key: k.path, Source: source, Message: err.Error()})
		}
		l.sources[k.path] = source
	}
	return faults
}

func (l *Loaded) override(overrides []Override) []Fault {
	keys := keysByPath(l.Config)
	var faults []Fault
	for _, o := range overrides {
		source := Source{Kind: FromFlag, Name: o.Flag}
		k, ok := keys[o.Key]
		if !ok {
			faults = append(faults, Fault{Key: o.Key, Source: source, Message: "no such key"})
			continue
		}
		if err := setVariable(k.value, o.Value); err != nil {
			faults = append(faults, Fault{Key: o.Key, Source: source, Message: err.Error()})
		}
		l.sources[o.Key] = source
	}
	return faults
}

// complete fills in what depends on other keys and on the host.
func (l *Loaded) complete(h Host) {
	if l.Node.Name == "" {
		l.Node.Name = subjects.NodeLabel(h.Name)
	}
	if l.NATS.StoreDir == "" && l.Runtime.DataDir != "" {
		l.NATS.StoreDir = l.Runtime.DataDir + "/jetstream"
	}
	home := h.Getenv("HOME")
	for _, path := range []*string{
		&l.Runtime.DataDir, &l.Node.SecretsDir, &l.Node.LockDir, &l.NATS.StoreDir, &l.NATS.Credentials,
		&l.NATS.PasswordFile, &l.NATS.NKeySeedFile, &l.NATS.TLSCA, &l.NATS.TLSCert, &l.NATS.TLSKey,
		&l.Kubernetes.Kubeconfig, &l.Remote.SSHKeyPath, &l.Remote.KnownHostsPath,
	} {
		if rest, ok := strings.CutPrefix(*path, "~/"); ok && home != "" {
			*path = home + "/" + rest
		}
	}
}
