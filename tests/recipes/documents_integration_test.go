//go:build integration

package recipes

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/tests/rig"
)

// documents are where recipes are written, from this folder.
var documents = []string{"../../README.md"}

// namespace is the one that the documents use.
const namespace = "shop"

const (
	recipeLimit = 30 * time.Second
	pollEvery   = 20 * time.Millisecond
)

// TestRecipes runs the recipes of each document, in their order, with the real nats
// command, the built runtime and a real engine.
func TestRecipes(t *testing.T) {
	host := rig.RequireDocker(t)
	bin := tools(t)
	images(t, host)
	total := 0
	for _, path := range documents {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		// The documents' namespace may be in use on this engine: the test takes another.
		id := uuid.NewString()[:8]
		recipes, err := Extract(strings.ReplaceAll(string(text), namespace, namespace+"-"+id))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		total += len(recipes)
		if len(recipes) > 0 {
			t.Run(filepath.Base(path), func(t *testing.T) { runDocument(t, host, bin, "recipes-"+id, recipes) })
		}
	}
	if total == 0 {
		t.Errorf("no recipe in %v", documents)
	}
}

// runDocument runs the recipes of one document against a runtime of its own, whose node
// tells what they made from what anyone else did.
func runDocument(t *testing.T, host, bin, node string, recipes []Recipe) {
	dir := t.TempDir()
	r, err := rig.StartRuntime(t.Context(), rig.RuntimeConfig{
		Bin: filepath.Join(bin, "kranix-runtime"), Dir: dir, Node: node, DockerHost: host,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := r.Stop(ctx); err != nil {
			t.Errorf("stop the runtime: %v", err)
		}
		if _, err := rig.Cleanup(ctx, host, drivers.LabelNode+"="+node); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the runtime's log:\n%s", r.LogTail(30))
		}
	})
	env := append(r.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+dir)
	var watching []*running
	for _, recipe := range recipes {
		run := start(t, recipe, dir, env)
		if recipe.Watch {
			// Beginning to listen takes a moment; what it prints first says that it does.
			run.await(t, func(out string) bool { return out != "" }, "prints nothing")
			watching = append(watching, run)
			continue
		}
		run.expect(t)
		run.finish(t)
	}
	for _, run := range watching {
		run.expect(t)
	}
}

// running is a recipe at work.
type running struct {
	recipe Recipe
	child  *rig.Child
	out    *output
}

func start(t *testing.T, recipe Recipe, dir string, env []string) *running {
	t.Helper()
	out := &output{}
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", recipe.Script)
	cmd.Dir, cmd.Env = dir, env
	cmd.Stdout, cmd.Stderr = out, out
	// Programs that the recipe leaves behind must not keep the test waiting.
	cmd.WaitDelay = time.Second
	child, err := rig.StartChild(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := child.Signal(syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		<-child.Done()
	})
	return &running{recipe: recipe, child: child, out: out}
}

// expect waits until the recipe has printed what the document says.
func (r *running) expect(t *testing.T) {
	t.Helper()
	r.await(t, func(out string) bool { return Missing(r.recipe.Want, out) == "" }, "does not print what the document says")
}

// finish gives the recipe time to end; one that follows something is ended.
func (r *running) finish(t *testing.T) {
	t.Helper()
	select {
	case <-r.child.Done():
	case <-time.After(2 * time.Second):
		return
	}
	if err := r.child.Err(); err != nil {
		t.Errorf("line %d: the recipe ends with: %v\n%s", r.recipe.Line, err, r.out)
	}
}

func (r *running) await(t *testing.T, ok func(out string) bool, fault string) {
	t.Helper()
	deadline := time.After(recipeLimit)
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for ended := r.child.Done(); ; {
		if ok(r.out.String()) {
			return
		}
		select {
		case <-poll.C:
		case <-ended:
			ended = nil
			if !ok(r.out.String()) {
				t.Fatalf("line %d: the recipe %s before it ends (%v); missing: %s\n%s\n--- output:\n%s",
					r.recipe.Line, fault, r.child.Err(), Missing(r.recipe.Want, r.out.String()), r.recipe.Script, r.out)
			}
		case <-deadline:
			t.Fatalf("line %d: the recipe %s within %s; missing: %s\n%s\n--- output:\n%s",
				r.recipe.Line, fault, recipeLimit, Missing(r.recipe.Want, r.out.String()), r.recipe.Script, r.out)
		}
	}
}

// output collects what a program prints while it is read.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// tools returns a folder with the programs that the recipes call.
func tools(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	nats, err := rig.NatsCLI(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(nats, filepath.Join(dir, "nats")); err != nil {
		t.Fatal(err)
	}
	if err := rig.Build(t.Context(), "./cmd/kranix-runtime", filepath.Join(dir, "kranix-runtime")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// images makes the images that the recipes name, and removes what was not there before.
func images(t *testing.T, host string) {
	t.Helper()
	c, err := rig.Client(host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rootfs, err := rig.WebRootFS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for ref, env := range map[string][]string{
		"kranix-demo/web:v1":     {"WEB_VERSION=v1"},
		"kranix-demo/web:v2":     {"WEB_VERSION=v2"},
		"kranix-demo/web:broken": {"WEB_VERSION=v3", "WEB_FAIL=exit"},
	} {
		_, missing := c.ImageInspect(t.Context(), ref)
		if _, err := rig.ImportWeb(t.Context(), host, ref, rootfs, env...); err != nil {
			t.Fatal(err)
		}
		if missing != nil {
			t.Cleanup(func() {
				if err := rig.RemoveImage(context.WithoutCancel(t.Context()), host, ref); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
