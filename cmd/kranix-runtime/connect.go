package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/kranix-io/kranix-runtime/cmd/kranix-runtime/internal/config"
	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// bus is a connection and the JetStream context the streams are reached through.
type bus struct {
	nc *nats.Conn
	js jetstream.JetStream
}

func (b *bus) close() { b.nc.Close() }

// connect opens a client's connection.
func (a *app) connect(ctx context.Context) (*bus, error) {
	l, err := a.loadForClient()
	if err != nil {
		return nil, err
	}
	url := first(a.natsURL, a.host.Getenv("KRANIX_NATS_URL"), clientURL(l.Config))
	opts, err := authOptions(l.Config, first(a.creds, a.host.Getenv("KRANIX_CREDS")))
	if err != nil {
		return nil, exitWith(exitUsage, err)
	}
	opts = append(opts,
		nats.Name("kranix-runtime client"),
		nats.Timeout(5*time.Second),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(500*time.Millisecond),
		// A command that is stored is carried out whoever listens: waiting goes on.
		nats.DisconnectErrHandler(func(nc *nats.Conn, _ error) {
			if !nc.IsClosed() {
				fmt.Fprintln(a.stderr, "the connection to NATS is lost; waiting for it to come back")
			}
		}),
	)
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return nil, unreachable(url, err)
	}
	s := subjects.Settings{Domain: l.NATS.Domain, APIPrefix: l.NATS.APIPrefix}
	js, err := s.JetStream(nc, jetstream.WithDefaultTimeout(10*time.Second))
	if err != nil {
		nc.Close()
		return nil, exitf(exitUsage, "use JetStream: %w", err)
	}
	if err := ctx.Err(); err != nil {
		nc.Close()
		return nil, err
	}
	return &bus{nc: nc, js: js}, nil
}

// unreachable says what to do about a server that does not answer or does not want us.
func unreachable(url string, err error) error {
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		return exitf(exitUnreachable, "connect to NATS at %s: %w\nGive credentials with --creds, or nats.user and nats.password_file in the configuration.", redact(url), err)
	case errors.Is(err, nats.ErrNoServers):
		err = errors.New("nothing answers there")
	}
	return exitf(exitUnreachable, "connect to NATS at %s: %w\nStart the runtime with `kranix-runtime run`, or name the server with --nats-url or KRANIX_NATS_URL.", redact(url), err)
}

// redact removes user and password from addresses.
func redact(urls string) string {
	parts := strings.Split(urls, ",")
	for i, u := range parts {
		if scheme, rest, ok := strings.Cut(u, "://"); ok {
			if at := strings.LastIndex(rest, "@"); at >= 0 {
				parts[i] = scheme + "://" + rest[at+1:]
			}
		}
	}
	return strings.Join(parts, ",")
}

// clientURL is where the configuration says that the bus is.
func clientURL(c *config.Config) string {
	if c.NATS.Mode == config.NATSExternal {
		return strings.Join(c.NATS.URLs, ",")
	}
	host, port, err := net.SplitHostPort(c.NATS.Listen)
	if err != nil {
		return nats.DefaultURL
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return "nats://" + net.JoinHostPort(host, port)
}

// authOptions are how the configuration proves who we are. creds, when set, comes
// first.
func authOptions(c *config.Config, creds string) ([]nats.Option, error) {
	var opts []nats.Option
	switch {
	case creds != "":
		opts = append(opts, nats.UserCredentials(creds))
	case c.NATS.Credentials != "":
		opts = append(opts, nats.UserCredentials(c.NATS.Credentials))
	case c.NATS.User != "":
		password, err := natsPassword(c)
		if err != nil {
			return nil, err
		}
		opts = append(opts, nats.UserInfo(c.NATS.User, password))
	case c.NATS.NKeySeedFile != "":
		opt, err := nats.NkeyOptionFromSeed(c.NATS.NKeySeedFile)
		if err != nil {
			return nil, fmt.Errorf("read nats.nkey_seed_file: %w", err)
		}
		opts = append(opts, opt)
	}
	if c.NATS.TLSCA != "" {
		opts = append(opts, nats.RootCAs(c.NATS.TLSCA))
	}
	if c.NATS.TLSCert != "" {
		opts = append(opts, nats.ClientCert(c.NATS.TLSCert, c.NATS.TLSKey))
	}
	return opts, nil
}

// natsPassword is nats.password or what nats.password_file holds, without the line end
// that editors put there.
func natsPassword(c *config.Config) (string, error) {
	if c.NATS.PasswordFile == "" {
		return c.NATS.Password.Reveal(), nil
	}
	text, err := os.ReadFile(c.NATS.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read nats.password_file: %w", err)
	}
	password, err := drivers.SecretText(text)
	if err != nil {
		return "", fmt.Errorf("read nats.password_file: %w", err)
	}
	return password, nil
}

// natsPublicKey is the public key of nats.nkey_seed_file: what an embedded server asks
// of its clients.
func natsPublicKey(c *config.Config) (string, error) {
	if c.NATS.NKeySeedFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(c.NATS.NKeySeedFile)
	if err != nil {
		return "", fmt.Errorf("read nats.nkey_seed_file: %w", err)
	}
	pair, err := nkeys.ParseDecoratedUserNKey(text)
	if err != nil {
		return "", fmt.Errorf("read nats.nkey_seed_file: %w", err)
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err != nil {
		return "", fmt.Errorf("read nats.nkey_seed_file: %w", err)
	}
	return public, nil
}

// serverTLS is what an embedded server presents and, with a CA, demands.
func serverTLS(c *config.Config) (*tls.Config, error) {
	if c.NATS.TLSCert == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.NATS.TLSCert, c.NATS.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("read nats.tls_cert and nats.tls_key: %w", err)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	if c.NATS.TLSCA == "" {
		return t, nil
	}
	pem, err := os.ReadFile(c.NATS.TLSCA)
	if err != nil {
		return nil, fmt.Errorf("read nats.tls_ca: %w", err)
	}
	t.ClientCAs = x509.NewCertPool()
	if !t.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read nats.tls_ca: %s holds no certificate", c.NATS.TLSCA)
	}
	t.ClientAuth = tls.RequireAndVerifyClientCert
	return t, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// explain turns an answer of a server that is not a runtime's into advice.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, jetstream.ErrBucketNotFound),
		errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, jetstream.ErrJetStreamNotEnabled),
		errors.Is(err, nats.ErrNoResponders):
		return exitf(exitUnreachable, "%w: no runtime has set up this NATS server yet; start one with `kranix-runtime run`", err)
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrConnectionClosed):
		return exitf(exitUnreachable, "%w: NATS did not answer", err)
	}
	return err
}
