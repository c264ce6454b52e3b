package main

import (
	"context"
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kranix-io/kranix-runtime/cmd/kranix-runtime/internal/config"
	"github.com/kranix-io/kranix-runtime/drivers"
)

// startRun runs `run` inside the test's process, with the variables given.
// Nothing of it may be left when the test ends.
func startRun(t *testing.T, environ ...string) (log *buffer, stop func() int) {
	t.Helper()
	// The NATS server does not wait for these two of its own when it shuts down.
	const server = "github.com/nats-io/nats-server/v2/server"
	leaks := []goleak.Option{
		goleak.IgnoreCurrent(),
		goleak.IgnoreAnyFunction(server + ".(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreAnyFunction(server + "/ats.Register.func1"),
	}
	t.Cleanup(func() { goleak.VerifyNone(t, leaks...) })
	dir := t.TempDir()
	log = &buffer{}
	a := &app{
		stdin: strings.NewReader(""), stdout: log, stderr: log,
		host: config.Host{UID: 1000, Name: "node-1", Environ: append([]string{
			"HOME=" + dir, "KRANIX_CONFIG=/dev/null", "KRANIX_NATS_LISTEN=127.0.0.1:0", "KRANIX_RUNTIME_BACKENDS=sim",
			"KRANIX_METRICS_EXPOSE_ENDPOINT=false",
		}, environ...)},
	}
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() { code <- a.execute(ctx, []string{"run"}) }()
	stop = func() int {
		cancel()
		select {
		case c := <-code:
			return c
		case <-time.After(30 * time.Second):
			t.Fatalf("run does not end:\n%s", log)
			return -1
		}
	}
	return log, stop
}

// systemd learns when the runtime is ready and when it stops.
func TestNotify(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	receive := func() string {
		if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	log, stop := startRun(t, "NOTIFY_SOCKET="+socket)
	if got := receive(); got != "READY=1" {
		t.Errorf("got %q, want READY=1", got)
	}
	if code := stop(); code != exitDone {
		t.Errorf("exit code %d:\n%s", code, log)
	}
	if got := receive(); got != "STOPPING=1" {
		t.Errorf("got %q, want STOPPING=1", got)
	}
}

func TestRunWaitsForNATS(t *testing.T) {
	log, stop := startRun(t, "KRANIX_NATS_MODE=external", "KRANIX_NATS_URLS=nats://127.0.0.1:1")
	eventually(t, "it says that it waits", func() bool { return strings.Contains(log.String(), "NATS does not answer; waiting for it") })
	if code := stop(); code != exitDone {
		t.Errorf("exit code %d:\n%s", code, log)
	}
}

// That somebody has the port by default is survived, that a chosen port is taken is
// not.
func TestMetricsPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	log, stop := startRun(t, "KRANIX_METRICS_EXPOSE_ENDPOINT=true", "KRANIX_METRICS_METRICS_PORT="+port)
	eventually(t, "it says why it ends", func() bool { return strings.Contains(log.String(), "set metrics.metrics_port to a free one") })
	if code := stop(); code != exitError {
		t.Errorf("exit code %d:\n%s", code, log)
	}
}

// A log that machines read holds nothing else.
func TestJSONLog(t *testing.T) {
	log, stop := startRun(t, "KRANIX_RUNTIME_LOG_FORMAT=json", "KRANIX_RUNTIME_BACKEND=x")
	eventually(t, "it is ready", func() bool { return strings.Contains(log.String(), `"msg":"ready"`) })
	if code := stop(); code != exitDone {
		t.Errorf("exit code %d", code)
	}
	for line := range strings.Lines(log.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	if !strings.Contains(log.String(), `KRANIX_RUNTIME_BACKENDS`) {
		t.Errorf("the warning about a variable is missing:\n%s", log)
	}
}

// Every driver of the build is known to the configuration, and the other way round.
func TestBuiltin(t *testing.T) {
	r, err := builtin()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(r.Names(), " "), strings.Join(config.Built(), " "); got != want {
		t.Errorf("registered %q, configured %q", got, want)
	}
}

// Every key of the policy section reaches the drivers.
func TestPolicy(t *testing.T) {
	p := policy(config.Policy{
		AllowPrivileged: true, AllowHostNetwork: true, AllowHostPID: true, AllowUnconfined: true, AllowExternal: true,
		AllowedHostPaths: []string{"/srv"}, AllowedDevices: []string{"/dev/x"}, AllowedCapabilities: []string{"NET_ADMIN"},
		AllowedSysctls: []string{"net.*"}, AllowedRegistries: []string{"docker.io"},
	})
	spec := &drivers.WorkloadSpec{
		Name: "a", Image: "nginx",
		Security: drivers.Security{
			Privileged: true, HostNetwork: true, HostPID: true, Seccomp: "unconfined", Devices: []string{"/dev/x"},
			CapAdd: []string{"NET_ADMIN"}, Sysctls: map[string]string{"net.x": "1"},
		},
		Volumes:  []drivers.Volume{{Type: drivers.VolumeBind, Source: "/srv/a", Target: "/a"}},
		Networks: []drivers.Network{{Name: "x", External: true}},
	}
	if err := p.Check(spec); err != nil {
		t.Errorf("the policy allows everything and refuses: %v", err)
	}
	if err := policy(config.Policy{}).Check(spec); err == nil {
		t.Error("an empty policy allows everything")
	}
}
