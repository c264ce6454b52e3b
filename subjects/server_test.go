package subjects

import (
	"net"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// testSettings need less of the disk than the defaults.
func testSettings() Settings {
	return Settings{LogBytes: 32 << 20, MetricBytes: 32 << 20}
}

// startServer runs a NATS server with JetStream until the test ends.
func startServer(t testing.TB, change ...func(*server.Options)) *server.Server {
	t.Helper()
	opts := &server.Options{
		Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true,
		JetStream: true, StoreDir: t.TempDir(), JetStreamMaxStore: 1 << 30, JetStreamMaxMemory: 64 << 20,
	}
	for _, f := range change {
		f(opts)
	}
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server did not come up in 10s")
	}
	return s
}

// startCluster runs three servers as one cluster until the test ends.
func startCluster(t testing.TB) []*server.Server {
	t.Helper()
	routes := make([]*url.URL, 3)
	for i := range routes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		routes[i] = &url.URL{Scheme: "nats-route", Host: l.Addr().String()}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	servers := make([]*server.Server, len(routes))
	for i, own := range routes {
		port, err := strconv.Atoi(own.Port())
		if err != nil {
			t.Fatal(err)
		}
		servers[i] = startServer(t, func(o *server.Options) {
			o.ServerName = "s" + strconv.Itoa(i)
			o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port}
			o.Routes = routes
		})
	}
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-poll.C {
		// Only the leader knows, and it has heard of everyone.
		if slices.ContainsFunc(servers, func(s *server.Server) bool { return len(s.JetStreamClusterPeers()) == len(servers) }) {
			return servers
		}
		if time.Now().After(deadline) {
			t.Fatal("the cluster did not come up in 30s")
		}
	}
}

func connect(t testing.TB, s *server.Server) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL(), nats.NoReconnect())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// newJetStream is a client of a new server on which nothing has been set up.
func newJetStream(t testing.TB) jetstream.JetStream {
	t.Helper()
	js, err := Settings{}.JetStream(connect(t, startServer(t)))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// ensured is a client of a new server with all streams.
func ensured(t testing.TB) jetstream.JetStream {
	t.Helper()
	js := newJetStream(t)
	if err := Ensure(t.Context(), js, testSettings()); err != nil {
		t.Fatal(err)
	}
	return js
}
