package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kranix-io/kranix-runtime/cmd/kranix-runtime/internal/config"
	"github.com/kranix-io/kranix-runtime/cmd/kranix-runtime/internal/natsd"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// serverBus is the runtime's own connection, and the embedded server behind it if there
// is one.
type serverBus struct {
	bus
	server *natsd.Server
	// url is where clients connect, where describes it.
	url, where string
}

// openBus starts or finds NATS and sets the streams up.
func openBus(ctx context.Context, c *config.Config, log *slog.Logger) (_ *serverBus, err error) {
	auth, err := authOptions(c, "")
	if err != nil {
		return nil, exitWith(exitUsage, err)
	}
	b := &serverBus{}
	defer func() {
		if err != nil {
			b.shutdown()
		}
	}()
	opts := append(auth, connectionOptions(c, log)...)
	if c.NATS.Mode == config.NATSExternal {
		b.url = strings.Join(c.NATS.URLs, ",")
		b.where = "external"
		err = b.dial(ctx, b.url, opts, log)
	} else {
		if b.server, err = startServer(ctx, c, log); err != nil {
			return nil, err
		}
		b.url = b.server.URL()
		b.where = "embedded, stored in " + c.NATS.StoreDir
		b.nc, err = nats.Connect("", append(opts, b.server.InProcess())...)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	s := streamSettings(c)
	if b.js, err = s.JetStream(b.nc); err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	if err := b.ensure(ctx, s, log); err != nil {
		return nil, err
	}
	return b, nil
}

// streamSettings are the streams' part of the configuration.
func streamSettings(c *config.Config) subjects.Settings {
	return subjects.Settings{
		Domain: c.NATS.Domain, APIPrefix: c.NATS.APIPrefix, Replicas: c.NATS.Replicas,
		LogAge: c.Logs.RetentionPeriod, LogBytes: int64(c.Logs.MaxBytes), MetricAge: c.Metrics.RetentionPeriod,
	}
}

func startServer(ctx context.Context, c *config.Config, log *slog.Logger) (*natsd.Server, error) {
	password, err := natsPassword(c)
	if err != nil {
		return nil, exitWith(exitUsage, err)
	}
	nkey, err := natsPublicKey(c)
	if err != nil {
		return nil, exitWith(exitUsage, err)
	}
	tlsConfig, err := serverTLS(c)
	if err != nil {
		return nil, exitWith(exitUsage, err)
	}
	var sync time.Duration
	if c.NATS.Sync != config.SyncAlways {
		if sync, err = time.ParseDuration(c.NATS.Sync); err != nil {
			return nil, fmt.Errorf("read nats.sync: %w", err)
		}
		log.Warn("a power cut may lose what was acknowledged in the last moments", "nats.sync", c.NATS.Sync)
	}
	s, err := natsd.Start(ctx, natsd.Config{
		Name: "kranix-" + c.Node.Name, Listen: c.NATS.Listen, StoreDir: c.NATS.StoreDir, Domain: c.NATS.Domain, SyncInterval: sync,
		User: c.NATS.User, Password: password, NKey: nkey, TLS: tlsConfig, Logger: log,
	})
	if errors.Is(err, natsd.ErrAddress) {
		return nil, exitWith(exitInUse, err)
	}
	return s, err
}

// connectionOptions keep the connection for good and say when it comes and goes.
func connectionOptions(c *config.Config, log *slog.Logger) []nats.Option {
	return []nats.Option{
		nats.Name("kranix-runtime " + c.Node.Name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(500 * time.Millisecond),
		// Publishing while the bus is away must fail rather than be kept in memory: what
		// decides is written again when it is back.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if !nc.IsClosed() {
				log.Warn("NATS is gone; workloads keep running, commands wait", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { log.Info("NATS is back", "url", nc.ConnectedUrlRedacted()) }),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			subject := ""
			if s != nil {
				subject = s.Subject
			}
			log.Warn("NATS reports an error", "subject", subject, "error", err)
		}),
	}
}

// retryBus is the pause between attempts to reach an external server.
const retryBus = 2 * time.Second

// dial connects to an external server, waiting for it: it may be starting too.
func (b *serverBus) dial(ctx context.Context, url string, opts []nats.Option, log *slog.Logger) error {
	for first := true; ; first = false {
		nc, err := nats.Connect(url, opts...)
		if err == nil {
			b.nc = nc
			return nil
		}
		if errors.Is(err, nats.ErrAuthorization) {
			return exitWith(exitUnreachable, err)
		}
		if first {
			log.Warn("NATS does not answer; waiting for it", "url", redact(url), "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryBus):
		}
	}
}

// ensure sets the streams up, waiting for a cluster that has no leader yet.
func (b *serverBus) ensure(ctx context.Context, s subjects.Settings, log *slog.Logger) error {
	for first := true; ; first = false {
		err := subjects.Ensure(ctx, b.js, s)
		if err == nil {
			return nil
		}
		if errors.Is(err, subjects.ErrSettings) || errors.Is(err, subjects.ErrStream) || ctx.Err() != nil || !passing(err) {
			return fmt.Errorf("set up streams: %w", err)
		}
		if first {
			log.Warn("JetStream is not ready; waiting for it", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryBus):
		}
	}
}

// passing says whether an error of JetStream is one of a cluster that is coming up.
func passing(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.Code == 503
	}
	return errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded)
}

// shutdown closes the connection, then the server.
func (b *serverBus) shutdown() {
	if b.nc != nil {
		b.nc.Close()
	}
	if b.server != nil {
		b.server.Shutdown()
	}
}
