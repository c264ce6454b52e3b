// Package natsd runs a NATS server with JetStream inside this process: the bus of a
// runtime that is given no other.
//
// The server has one account, stores under one directory and, unless told otherwise,
// acknowledges nothing before it is on disk. It handles no signals and has no monitoring
// port; who starts it ends it. What it says goes to the logger it is given.
package natsd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Config is what a server needs.
type Config struct {
	// Name is shown to clients and in logs.
	Name string
	// Listen is the address, "host:port"; port 0 is any free one.
	Listen string
	// StoreDir is the directory of JetStream.
	StoreDir string
	// Domain is the JetStream domain; may be empty.
	Domain string
	// SyncInterval is the longest that what was acknowledged may be in memory only; 0
	// syncs before every acknowledgement.
	SyncInterval time.Duration
	// MaxPayload is the largest message in bytes, the server's default when 0.
	MaxPayload int32
	// User with Password, or NKey (a public user key), is asked of every client when
	// set.
	User, Password string
	NKey           string
	// TLS, when set, is required of every client but this process. ClientAuth in it
	// decides about certificates.
	TLS *tls.Config
	// StartTimeout bounds the start, recovery of the store included; 2m by default.
	StartTimeout time.Duration
	Logger       *slog.Logger
}

// ErrAddress is matched by the error of Start when the address cannot be listened on.
var ErrAddress = errors.New("address cannot be used")

// Server is a running server.
type Server struct {
	ns     *server.Server
	listen string
}

// Start starts a server and returns once it serves. Errors: ErrAddress; everything else
// is about the store.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start embedded NATS: %w", err)
	}
	host, portText, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", cfg.Listen, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", cfg.Listen, err)
	}
	if err := tryAddress(ctx, cfg.Listen); err != nil {
		return nil, err
	}
	ns, err := server.NewServer(options(cfg, host, port))
	if err != nil {
		return nil, fmt.Errorf("configure embedded NATS: %w", err)
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	faults := newLogger(log)
	ns.SetLoggerV2(faults, log.Enabled(ctx, slog.LevelDebug), false, false)

	started := make(chan struct{})
	go func() { ns.Start(); close(started) }()
	timeout := cfg.StartTimeout
	if timeout == 0 {
		timeout = 2 * time.Minute
	}
	deadline := time.Now().Add(timeout)
	for !ns.ReadyForConnections(100 * time.Millisecond) {
		var cause error
		select {
		case cause = <-faults.fatal:
		case <-ctx.Done():
			cause = ctx.Err()
		default:
			if time.Now().Before(deadline) {
				continue
			}
			cause = fmt.Errorf("it is not ready after %s", timeout)
		}
		ns.Shutdown()
		ns.WaitForShutdown()
		<-started
		return nil, fmt.Errorf("start embedded NATS: %w", cause)
	}
	<-started
	return &Server{ns: ns, listen: cfg.Listen}, nil
}

func options(cfg Config, host string, port int) *server.Options {
	if port == 0 {
		port = server.RANDOM_PORT
	}
	o := &server.Options{
		ServerName:             cfg.Name,
		Host:                   host,
		Port:                   port,
		JetStream:              true,
		StoreDir:               cfg.StoreDir,
		JetStreamDomain:        cfg.Domain,
		SyncAlways:             cfg.SyncInterval == 0,
		SyncInterval:           cfg.SyncInterval,
		MaxPayload:             cfg.MaxPayload,
		NoSigs:                 true,
		DisableJetStreamBanner: true,
		Username:               cfg.User,
		Password:               cfg.Password,
		// Every watching client is a consumer of a stream; a server stops at 1,000 per
		// stream unless it is told that its operator knows better.
		JetStreamLimits: server.JSLimitOpts{DefaultMaxConsumers: -1},
	}
	if o.SyncAlways {
		// What is on disk already needs no timer; this only bounds its idle work.
		o.SyncInterval = 2 * time.Minute
	}
	if cfg.NKey != "" {
		o.Nkeys = []*server.NkeyUser{{Nkey: cfg.NKey}}
	}
	if cfg.TLS != nil {
		o.TLS = true
		o.TLSConfig = cfg.TLS
		o.TLSVerify = cfg.TLS.ClientAuth == tls.RequireAndVerifyClientCert
		o.TLSTimeout = 5
	}
	return o
}

// tryAddress finds out before the server does, which only logs it and waits.
func tryAddress(ctx context.Context, addr string) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err == nil {
		return l.Close()
	}
	hint := "set nats.listen to an address of this machine"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = "another program listens there, perhaps another runtime or a NATS server; stop it, set nats.listen to a free port, " +
			"or use that server with nats.mode: external"
	case errors.Is(err, syscall.EACCES):
		hint = "the port needs privileges; set nats.listen to one above 1023"
	}
	return fmt.Errorf("listen for NATS on %s: %w: %w (%s)", addr, ErrAddress, err, hint)
}

// URL is the address clients of this machine use.
func (s *Server) URL() string {
	host, _, err := net.SplitHostPort(s.listen)
	if err != nil || host == "" || net.ParseIP(host).IsUnspecified() {
		host = "127.0.0.1"
	}
	port := ""
	if addr, ok := s.ns.Addr().(*net.TCPAddr); ok {
		port = strconv.Itoa(addr.Port)
	}
	return "nats://" + net.JoinHostPort(host, port)
}

// InProcess makes a connection of this process that touches no network.
func (s *Server) InProcess() nats.Option { return nats.InProcessServer(s.ns) }

// Shutdown ends the server once everything is on disk. Clients reconnect or give up by
// themselves.
func (s *Server) Shutdown() {
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
}
