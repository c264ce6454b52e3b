package main

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"

	"github.com/kranix-io/kranix-runtime/cmd/kranix-runtime/internal/config"
)

// announce says what this runtime serves: to people as text, to a log in JSON as one of
// its lines.
func (a *app) announce(l *config.Loaded, b *serverBus, open []served, left []skipped, hints bool, log *slog.Logger) error {
	if l.Runtime.LogFormat != "json" {
		return a.banner(l, b, open, left, hints)
	}
	var backends, without []string
	for _, o := range open {
		backends = append(backends, o.Name)
	}
	for _, o := range left {
		without = append(without, o.name+": "+o.why.Error())
	}
	log.Info("ready", "version", versionText(), "node", l.Node.Name, "nats", redact(b.url), "backends", backends, "skipped", without)
	return nil
}

// banner tells people what this runtime serves and, with hints, how to use it.
func (a *app) banner(l *config.Loaded, b *serverBus, open []served, left []skipped, hints bool) error {
	var s strings.Builder
	fmt.Fprintf(&s, "kranix-runtime %s, node %s\n", versionText(), l.Node.Name)
	fmt.Fprintf(&s, "  NATS      %s (%s)\n", redact(b.url), b.where)
	for _, o := range open {
		fmt.Fprintf(&s, "  serving   %s\n", strings.TrimSpace(o.Name+" "+o.engine))
	}
	for _, o := range left {
		fmt.Fprintf(&s, "  skipped   %s: %s\n", o.name, oneLine(o.why.Error()))
	}
	if l.Metrics.Enabled && l.Metrics.ExposeEndpoint && l.Metrics.MetricsPort != 0 {
		fmt.Fprintf(&s, "  metrics   http://%s/metrics\n", metricsAddress(l.Config))
	}
	if !slices.ContainsFunc(open, func(o served) bool { return o.Name == l.Runtime.DefaultBackend }) {
		fmt.Fprintf(&s, "  note      a spec must name its backend here: the default (runtime.default_backend) is %s, which is not served\n",
			l.Runtime.DefaultBackend)
	}
	if hints {
		a.hints(&s, l, b, open)
	}
	_, err := fmt.Fprint(a.stderr, s.String())
	return err
}

func (a *app) hints(s *strings.Builder, l *config.Loaded, b *serverBus, open []served) {
	fmt.Fprintf(s, "\nIn a second terminal:\n")
	if b.url != "nats://"+net.JoinHostPort("127.0.0.1", "4222") {
		fmt.Fprintf(s, "  export KRANIX_NATS_URL=%s\n", redact(b.url))
	}
	if l.NATS.User != "" || l.NATS.NKeySeedFile != "" {
		fmt.Fprintf(s, "  export KRANIX_CONFIG=%s\n", first(l.File, "..."))
	}
	fmt.Fprintf(s, "  echo '{\"name\":\"hello\",\"backend\":%q,\"image\":\"busybox\",\"command\":[\"sleep\",\"1d\"]}' | kranix-runtime deploy -f -\n", open[0].Name)
	for _, line := range []string{"ls", "status default/hello", "events --since 5m", "logs -f default/hello", "destroy default/hello"} {
		fmt.Fprintf(s, "  kranix-runtime %s\n", line)
	}
	fmt.Fprintln(s)
}
