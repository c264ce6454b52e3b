package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kranix-runtime": main})
}

// TestScripts runs the binary as a user would: a runtime of its own for every script,
// with the simulated engine.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup:               setupScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"ready":    ready,
			"freeport": freeport,
			"publish":  publishRaw,
			"term":     term,
			"until":    until,
		},
	})
}

// setupScript keeps a script from everything outside its folder.
func setupScript(env *testscript.Env) error {
	addr, err := freeAddress()
	if err != nil {
		return err
	}
	file := filepath.Join(env.WorkDir, "runtime.yaml")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}
	for k, v := range map[string]string{
		"HOME":                           env.WorkDir,
		"TZ":                             "UTC",
		"KRANIX_CONFIG":                  file,
		"KRANIX_SOURCE":                  "/test",
		"KRANIX_NATS_LISTEN":             addr,
		"KRANIX_NODE_NAME":               "node-1",
		"KRANIX_NODE_LOCK_DIR":           filepath.Join(env.WorkDir, "lock"),
		"KRANIX_NODE_SECRETS_DIR":        filepath.Join(env.WorkDir, "secrets"),
		"KRANIX_RUNTIME_DATA_DIR":        filepath.Join(env.WorkDir, "data"),
		"KRANIX_RUNTIME_BACKENDS":        "sim",
		"KRANIX_RUNTIME_DEFAULT_BACKEND": "sim",
		"KRANIX_METRICS_EXPOSE_ENDPOINT": "false",
	} {
		env.Setenv(k, v)
	}
	return nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// freeport NAME sets a variable to an address nobody listens on.
func freeport(ts *testscript.TestScript, _ bool, args []string) {
	addr, err := freeAddress()
	ts.Check(err)
	ts.Setenv(args[0], addr)
}

// exits CODE PROGRAM ARG... runs a program and checks its exit code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d\nstdout:\n%s\nstderr:\n%s", got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// ready waits until the runtime of the script answers its client.
func ready(ts *testscript.TestScript, _ bool, _ []string) {
	poll(ts, func() error { return ts.Exec("kranix-runtime", "ls") })
}

// until TEXT PROGRAM ARG... runs a program until its output holds the text.
func until(ts *testscript.TestScript, _ bool, args []string) {
	poll(ts, func() error {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && !strings.Contains(ts.ReadFile("stdout"), args[0]) {
			err = fmt.Errorf("the output lacks %q", args[0])
		}
		return err
	})
}

func poll(ts *testscript.TestScript, try func() error) {
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not within 30s: %v", err)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// term sends SIGTERM to what runs in the background, which kill cannot.
func term(ts *testscript.TestScript, _ bool, _ []string) {
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(syscall.SIGTERM))
	}
}

// publishRaw SUBJECT FILE publishes a file without headers, as a hand would.
func publishRaw(ts *testscript.TestScript, _ bool, args []string) {
	nc, err := nats.Connect("nats://" + ts.Getenv("KRANIX_NATS_LISTEN"))
	ts.Check(err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = js.Publish(ctx, args[0], []byte(ts.ReadFile(args[1])))
	ts.Check(err)
}
