package docker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// probeTargets are the addresses to try, in order: the container's own, then the
// published port, for engines whose containers cannot be reached directly.
func probeTargets(c container.InspectResponse, port int) []string {
	text := strconv.Itoa(port)
	if c.HostConfig.NetworkMode.IsHost() {
		return []string{net.JoinHostPort("127.0.0.1", text)}
	}
	var out []string
	if ip := address(c); ip != "" {
		out = append(out, net.JoinHostPort(ip, text))
	}
	for _, p := range publishedPorts(nil, c) {
		if p.ContainerPort != port || p.Protocol != "tcp" {
			continue
		}
		host := p.HostAddress
		if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		out = append(out, net.JoinHostPort(host, strconv.Itoa(p.HostPort)))
	}
	return out
}

// once runs the check once, against the first target that takes a connection.
func (p *probe) once(ctx context.Context, dial DialFunc) (output string, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.check.Timeout.D())
	defer cancel()
	if len(p.targets) == 0 {
		return "", fmt.Errorf("the instance has no address to probe")
	}
	var conn net.Conn
	for i, target := range p.targets {
		share, stop := context.WithTimeout(ctx, p.check.Timeout.D()/time.Duration(len(p.targets)-i))
		conn, err = dial(share, "tcp", target)
		stop()
		// A refusal is the instance's own answer. The port published on the host would
		// not know better: what forwards it accepts connections for a dead instance too.
		if err == nil || errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
	}
	if err != nil {
		return "", err //nolint:wrapcheck // it becomes the health output as it is
	}
	if p.check.HTTP == nil {
		_ = conn.Close() // the probe has its answer
		return "connection accepted", nil
	}
	return probeHTTP(ctx, conn, p.check.HTTP)
}

// probeHTTP sends one request over conn, which it closes. Redirects are an answer, not
// followed: they could lead anywhere.
func probeHTTP(ctx context.Context, conn net.Conn, h *drivers.HTTPProbe) (string, error) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		// #nosec G402 -- a probe asks whether the instance answers, as the kubelet's do.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext:     func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}
	defer conn.Close() //nolint:errcheck // the probe has its answer
	host := net.JoinHostPort("localhost", strconv.Itoa(h.Port))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.Scheme+"://"+host+h.Path, nil)
	if err != nil {
		return "", fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("User-Agent", "kranix-probe")
	for name, value := range h.Headers {
		if strings.EqualFold(name, "Host") {
			req.Host = value
			continue
		}
		req.Header.Set(name, value)
	}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err //nolint:wrapcheck // it becomes the health output as it is
	}
	defer resp.Body.Close() //nolint:errcheck // the rest of the answer is not wanted
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxHealthOutput))
	if err != nil {
		return resp.Status, fmt.Errorf("read body: %w", err)
	}
	output := truncate(strings.TrimSpace(resp.Status+"\n"+string(body)), maxHealthOutput)
	if resp.StatusCode < http.StatusOK || resp.StatusCode >= http.StatusBadRequest {
		return output, fmt.Errorf("answered %s, want 200 to 399", resp.Status)
	}
	return output, nil
}
