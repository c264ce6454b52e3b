package docker

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func TestProbeHTTP(t *testing.T) {
	mux := http.NewServeMux()
	followed := false
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("fine, " + r.Host + " " + r.Header.Get("X-Check")))
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/followed", http.StatusFound) })
	mux.HandleFunc("/followed", func(http.ResponseWriter, *http.Request) { followed = true })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no database", http.StatusInternalServerError)
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte(strings.Repeat("x", 1<<16))); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	for _, scheme := range []string{"http", "https"} {
		server := httptest.NewUnstartedServer(mux)
		if scheme == "https" {
			server.StartTLS()
		} else {
			server.Start()
		}
		t.Cleanup(server.Close)
		cases := []struct {
			path, output, fault string
		}{
			{"/ok", "fine, cart.example yes", ""},
			{"/away", "302", ""},
			{"/broken", "no database", "500"},
			{"/endless", "xxx", ""},
			{"/silent", "", "deadline"},
		}
		for _, c := range cases {
			t.Run(scheme+c.path, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", server.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				output, err := probeHTTP(ctx, conn, &drivers.HTTPProbe{Port: 80, Path: c.path, Scheme: scheme,
					Headers: map[string]string{"X-Check": "yes", "host": "cart.example"}})
				if c.fault == "" && err != nil || c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) {
					t.Errorf("got error %v, want one with %q", err, c.fault)
				}
				if !strings.Contains(output, c.output) || len(output) > maxHealthOutput {
					t.Errorf("output is %.100q, %d bytes; want one with %q", output, len(output), c.output)
				}
			})
		}
	}
	if followed {
		t.Error("a redirect was followed")
	}
}

func TestProbeTargets(t *testing.T) {
	made := func(mode string, ip string, ports nat.PortMap) container.InspectResponse {
		settings := &container.NetworkSettings{Networks: map[string]*network.EndpointSettings{"front": {IPAddress: ip}}}
		settings.Ports = ports
		return container.InspectResponse{NetworkSettings: settings, ContainerJSONBase: &container.ContainerJSONBase{
			HostConfig: &container.HostConfig{NetworkMode: container.NetworkMode(mode)}}}
	}
	published := nat.PortMap{"80/tcp": {{HostIP: "0.0.0.0", HostPort: "18080"}}, "80/udp": {{HostPort: "9"}}, "81/tcp": {{HostPort: "10"}}}
	cases := []struct {
		name string
		c    container.InspectResponse
		want []string
	}{
		{"own address", made("front", "10.0.0.2", nil), []string{"10.0.0.2:80"}},
		{"published too", made("front", "10.0.0.2", published), []string{"10.0.0.2:80", "127.0.0.1:18080"}},
		{"host network", made("host", "", nil), []string{"127.0.0.1:80"}},
		{"nowhere", made("none", "", nil), nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := probeTargets(c.c, 80); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// When the container's own address takes no connection, the published port is asked.
func TestProbeFallsBack(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	open := server.Listener.Addr().String()
	p := &probe{targets: []string{"container:80", open},
		check: drivers.HealthCheck{TCP: &drivers.TCPProbe{Port: 80}, Timeout: drivers.Duration(time.Second)}}
	var dialled []string
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled = append(dialled, address)
		if address != open {
			<-ctx.Done() // as packets do that nobody routes
			return nil, errors.New("no route")
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	if _, err := p.once(t.Context(), dial); err != nil {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(dialled, p.targets) {
		t.Errorf("dialled %v, want %v", dialled, p.targets)
	}
}
