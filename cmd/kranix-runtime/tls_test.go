package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/kranix-io/kranix-runtime/cmd/kranix-runtime/internal/config"
)

// certificates writes a CA and a certificate of it for 127.0.0.1, fit for both sides.
func certificates(t *testing.T) (ca, cert, key string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, template, template, &caKey.PublicKey, caKey)
	must(err)
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"}, NotBefore: template.NotBefore, NotAfter: template.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, template, &leafKey.PublicKey, caKey)
	must(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	must(err)
	return write("ca.pem", "CERTIFICATE", caDER), write("cert.pem", "CERTIFICATE", leafDER), write("key.pem", "PRIVATE KEY", keyDER)
}

// client runs a client command line with variables.
func client(t *testing.T, environ []string, args ...string) (code int, out string) {
	t.Helper()
	b := &buffer{}
	a := &app{
		stdin: strings.NewReader(""), stdout: b, stderr: b,
		host: config.Host{UID: 1000, Name: "n", Environ: append([]string{"HOME=/nonexistent", "KRANIX_CONFIG=/dev/null"}, environ...)},
	}
	code = a.execute(t.Context(), args)
	return code, b.String()
}

// A server that demands certificates or keys serves who has them, its own process
// included, and nobody else.
func TestEmbeddedServerThatAsksForIdentity(t *testing.T) {
	ca, cert, key := certificates(t)
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	seedFile := filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(seedFile, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		identity []string
		stranger []string
	}{
		"client certificates": {
			identity: []string{"KRANIX_NATS_TLS_CA=" + ca, "KRANIX_NATS_TLS_CERT=" + cert, "KRANIX_NATS_TLS_KEY=" + key},
			stranger: []string{"KRANIX_NATS_MODE=external", "KRANIX_NATS_TLS_CA=" + ca},
		},
		"nkey": {identity: []string{"KRANIX_NATS_NKEY_SEED_FILE=" + seedFile}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			addr, err := freeAddress()
			if err != nil {
				t.Fatal(err)
			}
			log, stop := startRun(t, append(tt.identity, "KRANIX_NATS_LISTEN="+addr)...)
			at := []string{"KRANIX_NATS_LISTEN=" + addr, "KRANIX_NATS_URLS=nats://" + addr}
			var out string
			eventually(t, "who has the identity is served", func() bool {
				var code int
				code, out = client(t, append(tt.identity, at[0]), "ls")
				return code == exitDone
			})
			stranger := append(tt.stranger, at[0])
			if len(tt.stranger) > 0 {
				stranger = append(tt.stranger, at[1])
			}
			if code, out := client(t, stranger, "ls"); code != exitUnreachable {
				t.Errorf("a stranger: exit code %d: %s", code, out)
			}
			if code := stop(); code != exitDone {
				t.Errorf("exit code %d: %s\n%s", code, log, out)
			}
		})
	}
}
