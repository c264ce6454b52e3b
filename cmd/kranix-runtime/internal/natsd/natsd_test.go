package natsd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.StoreDir == "" {
		cfg.StoreDir = t.TempDir()
	}
	cfg.Name = "test"
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

func connect(t *testing.T, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func TestKeepsWhatWasAcknowledged(t *testing.T) {
	dir := t.TempDir()
	ctx := t.Context()
	s := start(t, Config{StoreDir: dir})
	nc := connect(t, "", s.InProcess())
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "A", Subjects: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(ctx, "a", []byte("x")); err != nil {
		t.Fatal(err)
	}
	nc.Close()
	s.Shutdown()

	s = start(t, Config{StoreDir: dir})
	nc = connect(t, s.URL())
	if js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(ctx, "A")
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("%d messages after a restart, want 1", n)
	}
}

func TestSyncsBeforeAcknowledging(t *testing.T) {
	for name, tt := range map[string]struct {
		interval time.Duration
		always   bool
	}{"by default": {0, true}, "interval": {time.Second, false}} {
		t.Run(name, func(t *testing.T) {
			if got := options(Config{SyncInterval: tt.interval}, "127.0.0.1", 1).SyncAlways; got != tt.always {
				t.Errorf("sync always is %v, want %v", got, tt.always)
			}
		})
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = Start(t.Context(), Config{Listen: l.Addr().String(), StoreDir: t.TempDir()})
	if !errors.Is(err, ErrAddress) || !strings.Contains(err.Error(), "nats.listen") {
		t.Fatalf("got %v, want ErrAddress with nats.listen", err)
	}
}

func TestStoreThatCannotBeUsed(t *testing.T) {
	_, err := Start(t.Context(), Config{Listen: "127.0.0.1:0", StoreDir: "/dev/null/x", StartTimeout: 10 * time.Second})
	if err == nil || !strings.Contains(err.Error(), "start embedded NATS") && !strings.Contains(err.Error(), "configure embedded NATS") {
		t.Fatalf("got %v, want an error about the store", err)
	}
}

func TestAsksForCredentials(t *testing.T) {
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := user.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		cfg  Config
		auth nats.Option
	}{
		"password": {Config{User: "u", Password: "p"}, nats.UserInfo("u", "p")},
		"nkey":     {Config{NKey: public}, nats.Nkey(public, user.Sign)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := start(t, tt.cfg)
			connect(t, s.URL(), tt.auth)
			connect(t, "", s.InProcess(), tt.auth)
			if nc, err := nats.Connect(s.URL()); !errors.Is(err, nats.ErrAuthorization) {
				nc.Close()
				t.Errorf("without credentials: got %v, want ErrAuthorization", err)
			}
		})
	}
}

func TestNoMoreThanAThousandWatchers(t *testing.T) {
	if got := options(Config{}, "127.0.0.1", 1).JetStreamLimits.DefaultMaxConsumers; got >= 0 {
		t.Errorf("the server limits consumers to %d", got)
	}
}

// The server's messages reach the logger, at a level that fits.
func TestLog(t *testing.T) {
	out := &buffer{}
	s := start(t, Config{Logger: slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	s.Shutdown()
	if text := out.String(); !strings.Contains(text, "Server is ready") || !strings.Contains(text, "component=nats") {
		t.Errorf("the log lacks the server's messages:\n%s", text)
	}
}

func TestFatalDoesNotEndTheProcess(t *testing.T) {
	l := newLogger(slog.New(slog.DiscardHandler))
	l.Fatalf("no %s", "space")
	l.Fatalf("again")
	if err := <-l.fatal; err.Error() != "no space" {
		t.Errorf("got %q, want the first message", err)
	}
}

func TestCancelledStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := Start(ctx, Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir()}); err == nil {
		s.Shutdown()
		t.Fatal("started although cancelled")
	}
}

func TestURL(t *testing.T) {
	for listen, want := range map[string]string{"127.0.0.1:0": "nats://127.0.0.1:", "0.0.0.0:0": "nats://127.0.0.1:", "[::1]:0": "nats://[::1]:", ":0": "nats://127.0.0.1:"} {
		if host, _, _ := net.SplitHostPort(listen); host == "::1" && !hasIPv6() {
			continue
		}
		s := start(t, Config{Listen: listen})
		if got := s.URL(); !strings.HasPrefix(got, want) || strings.HasSuffix(got, ":0") || strings.HasSuffix(got, ":") {
			t.Errorf("%s: got %s, want %s<port>", listen, got, want)
		}
	}
}

func hasIPv6() bool {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return false
	}
	return l.Close() == nil
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
