// Package imports holds the rules of the code base that a compiler does not check:
// which package may import which, what the packages that others import drag in, where
// the literals of the wire contract may stand, and what is not done at all.
package imports

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

const module = "github.com/kranix-io/kranix-runtime"

// allowed says what a package may import besides the standard library. An entry that
// ends in "/..." allows everything below it; a package's rule also covers the packages
// below it that have none of their own.
var allowed = map[string][]string{
	"subjects": {"github.com/nats-io/nats.go/...", "github.com/nats-io/nuid", "github.com/cloudevents/sdk-go/v2/..."},
	"drivers":  {module + "/gpu", "k8s.io/apimachinery/pkg/api/resource"},
	"drivers/docker": {module + "/drivers", "github.com/docker/docker/...", "github.com/docker/cli/cli/config/...",
		"github.com/docker/go-connections/...", "github.com/containerd/errdefs", "github.com/distribution/reference",
		"golang.org/x/sync/...", "golang.org/x/sys/...", "k8s.io/apimachinery/pkg/api/resource"},
	"drivers/sim": {module + "/drivers", "github.com/distribution/reference"},
	"workers": {module + "/subjects", module + "/drivers", module + "/telemetry", module + "/cache", module + "/gpu",
		"github.com/nats-io/nats.go/...", "github.com/nats-io/nuid", "github.com/cloudevents/sdk-go/v2/...",
		"github.com/santhosh-tekuri/jsonschema/v6/...", "github.com/cenkalti/backoff/v5", "golang.org/x/sync/...", "golang.org/x/time/..."},
	"telemetry": {module + "/subjects", module + "/drivers", "github.com/nats-io/nats.go/...",
		"github.com/prometheus/client_golang/...", "golang.org/x/sync/...", "golang.org/x/time/..."},
	"gpu":       {"github.com/NVIDIA/go-nvml/..."},
	"cache":     {module + "/subjects", module + "/drivers"},
	"ephemeral": {module + "/subjects", module + "/drivers"},
	"cmd":       {"..."},
	"tests":     {"..."},
}

// light lists the modules that the packages kranix-core imports may drag in, all of
// them. Docker, client-go and the NATS server are not among them.
var light = map[string][]string{
	"subjects": {"github.com/nats-io/nats.go", "github.com/nats-io/nkeys", "github.com/nats-io/nuid", "github.com/cloudevents/sdk-go/v2",
		"github.com/json-iterator/go", "github.com/modern-go/concurrent", "github.com/modern-go/reflect2",
		"github.com/klauspost/compress", "golang.org/x/crypto", "golang.org/x/sys"},
	"drivers": {"k8s.io/apimachinery", "sigs.k8s.io/json", "gopkg.in/inf.v0", "github.com/fxamacker/cbor/v2", "github.com/x448/float16"},
}

// literals are the string literals outside package subjects that look like the wire
// contract's and are not: prefixes of environment variables and of container names.
var literals = map[string][]string{
	"drivers/secrets.go":      {"KRANIX_SECRET_"},
	"drivers/docker/names.go": {"kranix."},
}

// environment says where KRANIX_ may begin a literal as the name of a variable.
const environment = "cmd/"

const maxLines = 500

// file is a Go file of the repository.
type file struct {
	// path is relative to the root, with slashes.
	path string
	src  []byte
	ast  *ast.File
	fset *token.FileSet
}

func (f file) pkg() string { return path.Dir(f.path) }
func (f file) isTest() bool {
	return strings.HasSuffix(f.path, "_test.go") || strings.HasPrefix(f.path, "tests/")
}
func (f file) at(p token.Pos) string {
	return fmt.Sprintf("%s:%d", f.path, f.fset.Position(p).Line)
}

// files parses all Go files whatever their build constraints.
func files(t *testing.T) []file {
	t.Helper()
	root := filepath.Join("..", "..")
	var out []file
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() && name != root && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(base, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, rel, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		out = append(out, file{path: filepath.ToSlash(rel), src: src, ast: parsed, fset: fset})
		return nil
	})
	if err != nil {
		t.Fatalf("read the repository: %v", err)
	}
	if len(out) < 20 {
		t.Fatalf("want the repository's files, got %d", len(out))
	}
	return out
}

// faults are what the rules say about a file.
type faults []string

func (f *faults) add(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

// rules are checked file by file.
var rules = map[string]func(file) faults{
	"imports":        checkImports,
	"wire literals":  checkLiterals,
	"length":         checkLength,
	"package names":  checkName,
	"init and panic": checkInitAndPanic,
}

func TestRules(t *testing.T) {
	all := files(t)
	for name, check := range rules {
		t.Run(name, func(t *testing.T) {
			for _, f := range all {
				for _, fault := range check(f) {
					t.Error(fault)
				}
			}
		})
	}
}

// ruleOf is the rule of the nearest package above, "" when there is none.
func ruleOf(pkg string) string {
	for p := pkg; p != "."; p = path.Dir(p) {
		if _, ok := allowed[p]; ok {
			return p
		}
	}
	return ""
}

func checkImports(f file) (out faults) {
	if f.isTest() {
		return nil
	}
	rule := ruleOf(f.pkg())
	if rule == "" {
		out.add("%s: package %s has no import rule: add one", f.path, f.pkg())
		return out
	}
	for _, spec := range f.ast.Imports {
		what, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			out.add("%s: %v", f.at(spec.Pos()), err)
			continue
		}
		first, _, _ := strings.Cut(what, "/")
		switch {
		case !strings.Contains(first, "."): // the standard library
		case strings.HasPrefix(what, module+"/tests"):
			out.add("%s: imports %s: nothing imports the tests", f.at(spec.Pos()), what)
		case !covered(allowed[rule], what):
			out.add("%s: %s may not import %s", f.at(spec.Pos()), rule, what)
		}
	}
	return out
}

func covered(patterns []string, what string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		prefix, all := strings.CutSuffix(p, "...")
		return what == strings.TrimSuffix(prefix, "/") || (all && strings.HasPrefix(what, prefix))
	})
}

func checkLiterals(f file) (out faults) {
	if f.isTest() || f.pkg() == "subjects" {
		return nil
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		s, err := strconv.Unquote(lit.Value)
		switch {
		case err != nil:
			out.add("%s: %v", f.at(lit.Pos()), err)
		case slices.Contains(literals[f.path], s):
		case strings.HasPrefix(s, "kranix."), strings.HasPrefix(s, "$KV."):
			out.add("%s: %q is a subject: it belongs into package subjects", f.at(lit.Pos()), s)
		case strings.HasPrefix(s, "KRANIX_") && !strings.HasPrefix(f.path, environment):
			out.add("%s: %q is a stream or a bucket: it belongs into package subjects", f.at(lit.Pos()), s)
		}
		return true
	})
	return out
}

func checkLength(f file) (out faults) {
	if n := bytes.Count(f.src, []byte("\n")); n > maxLines {
		out.add("%s: %d lines, want at most %d: split it by noun", f.path, n, maxLines)
	}
	return out
}

func checkName(f file) (out faults) {
	switch f.ast.Name.Name {
	case "util", "utils", "common", "helper", "helpers", "models", "manager", "misc":
		out.add("%s: package %s says nothing: name it after what it is for", f.path, f.ast.Name.Name)
	}
	return out
}

func checkInitAndPanic(f file) (out faults) {
	if f.isTest() {
		return nil
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil {
				out.add("%s: init runs behind the reader's back: wire it where it is used", f.at(n.Pos()))
			}
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && id.Name == "panic" {
				out.add("%s: panic: return an error", f.at(n.Pos()))
			}
		}
		return true
	})
	return out
}

// TestRulesCanFail shows each rule a file that breaks it, and one that does not.
func TestRulesCanFail(t *testing.T) {
	for _, c := range []struct{ name, rule, path, src, want string }{
		{"a driver imports its sibling", "imports", "drivers/sim/a.go", `package sim; import _ "` + module + `/drivers/docker"`, "may not import"},
		{"the wire contract imports drivers", "imports", "subjects/a.go", `package subjects; import _ "` + module + `/drivers"`, "may not import"},
		{"workers import a driver", "imports", "workers/a.go", `package workers; import _ "` + module + `/drivers/docker"`, "may not import"},
		{"a prefix is not a package", "imports", "workers/a.go", `package workers; import _ "` + module + `/driversx"`, "may not import"},
		{"code imports tests", "imports", "cmd/kranix-runtime/a.go", `package main; import _ "` + module + `/tests/rig"`, "nothing imports the tests"},
		{"a package without a rule", "imports", "extra/a.go", `package extra`, "no import rule"},
		{"workers import the contract", "imports", "workers/a.go", `package workers; import _ "` + module + `/drivers"`, ""},
		{"a subject in workers", "wire literals", "workers/a.go", "package workers; const a = `kranix.cmd.docker`", "is a subject"},
		{"a bucket in workers", "wire literals", "workers/a.go", `package workers; const a = "KRANIX_STATUS"`, "is a stream"},
		{"a variable in the command", "wire literals", "cmd/kranix-runtime/a.go", `package main; const a = "KRANIX_CONFIG"`, ""},
		{"a subject in the contract", "wire literals", "subjects/a.go", `package subjects; const a = "kranix.cmd.>"`, ""},
		{"a long file", "length", "drivers/a.go", "package drivers" + strings.Repeat("\n", 501), "501 lines"},
		{"helpers", "package names", "drivers/helpers/a.go", "package helpers", "says nothing"},
		{"init", "init and panic", "drivers/a.go", "package drivers\nfunc init() {}", "init"},
		{"panic", "init and panic", "drivers/a.go", `package drivers; func f() { panic("x") }`, "panic"},
		{"panic in a test", "init and panic", "drivers/a_test.go", `package drivers; func f() { panic("x") }`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			fset := token.NewFileSet()
			parsed, err := parser.ParseFile(fset, c.path, c.src, 0)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(rules[c.rule](file{path: c.path, src: []byte(c.src), ast: parsed, fset: fset}), "\n")
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("want %q, got %q", c.want, got)
			}
		})
	}
}

// TestContractsAreLight wants that who imports the contract does not import an engine's
// SDK or a server with it.
func TestContractsAreLight(t *testing.T) {
	for pkg, want := range light {
		t.Run(pkg, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", module+"/"+pkg)
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("list what %s needs: %v", pkg, err)
			}
			modules := strings.Fields(string(out))
			if len(modules) == 0 {
				t.Fatalf("want at least the package's own module")
			}
			slices.Sort(modules)
			for _, m := range slices.Compact(modules) {
				if m != module && !slices.Contains(want, m) {
					t.Errorf("%s drags in %s: keep it light, or allow it here", pkg, m)
				}
			}
		})
	}
}

// TestLabelsAgree compares the two packages' idea of a DNS-1123 label, which neither
// can take from the other.
func TestLabelsAgree(t *testing.T) {
	try := func(s string) {
		t.Helper()
		w := subjects.Workload{Backend: "docker", Node: "n", Namespace: s, Name: "web"}
		_, _, err := drivers.ParseWorkloadID(drivers.WorkloadID(s, "web"))
		if got, want := w.Validate() == nil, drivers.IsLabel(s); got != want || (err == nil) != want {
			t.Errorf("%q: subjects says %t, drivers says %t and %v", s, got, want, err)
		}
	}
	const alphabet = "az09-A_.é/ \x00{`"
	var words func(prefix string, n int)
	words = func(prefix string, n int) {
		try(prefix)
		if n == 0 {
			return
		}
		for _, c := range alphabet {
			words(prefix+string(c), n-1)
		}
	}
	words("", 3)
	for n := range 70 {
		try(strings.Repeat("a", n))
		try(strings.Repeat("a", n) + "-")
		try("-" + strings.Repeat("a", n))
	}
}
