package telemetry

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := &http.Client{Timeout: deadline, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatalf("get %s: %v", url, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var sick error
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, l, NewMetrics("test"), func(context.Context) error { return sick }) }()
	base := "http://" + l.Addr().String()
	for _, test := range []struct {
		path, want string
		sick       error
		code       int
	}{
		{path: "/metrics", code: 200, want: "kranix_build_info"},
		{path: "/healthz", code: 200, want: "ok\n"},
		{path: "/healthz", sick: errors.New("the bus is away"), code: 503, want: "the bus is away\n"},
		{path: "/", code: 404},
	} {
		sick = test.sick
		code, body := get(t, base+test.path)
		if code != test.code || !strings.Contains(body, test.want) {
			t.Errorf("%s (%v): %d %q, want %d with %q", test.path, test.sick, code, body, test.code, test.want)
		}
	}
	resp, err := http.Post(base+"/metrics", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", resp.StatusCode)
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("serve: %v", err)
		}
	case <-time.After(deadline):
		t.Fatal("serve does not end")
	}
}

func TestServePortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = Serve(t.Context(), l.Addr().String(), NewMetrics("test"), nil)
	if err == nil || !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), "metrics.metrics_port") || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("error is %v", err)
	}
}

func TestServeBadAddress(t *testing.T) {
	if err := Serve(t.Context(), "127.0.0.1:99999", NewMetrics("test"), nil); err == nil || !strings.Contains(err.Error(), "metrics.metrics_port") {
		t.Errorf("error is %v", err)
	}
}
