package config

import (
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

func (c *checker) nats() {
	n := c.NATS
	c.oneOf("nats.mode", n.Mode, NATSEmbedded, NATSExternal)
	c.natsIdentity()
	if n.Domain != "" && n.APIPrefix != "" {
		c.add("nats.api_prefix", "nats.domain is set too; a domain is an API prefix, set one of them")
	}
	if strings.ContainsAny(n.Domain, ".*> \t") {
		c.add("nats.domain", "want a word without dots, wildcards and spaces, got %q", n.Domain)
	}
	c.between("nats.replicas", n.Replicas, 1, 5)
	if n.Mode == NATSExternal {
		c.natsExternal()
		return
	}
	c.natsEmbedded()
}

// natsIdentity checks that what proves who one is comes in whole and once.
func (c *checker) natsIdentity() {
	n := c.NATS
	if n.Password != "" && n.PasswordFile != "" {
		c.add("nats.password_file", "nats.password is set too; set one of them")
	}
	hasPassword := n.Password != "" || n.PasswordFile != ""
	if n.User != "" && !hasPassword {
		c.add("nats.user", "set nats.password_file (or nats.password) with it")
	}
	if n.User == "" && hasPassword {
		path := "nats.password"
		if n.Password == "" {
			path = "nats.password_file"
		}
		c.add(path, "set nats.user with it")
	}
	var ways []string
	for _, w := range []struct {
		path string
		set  bool
	}{{"nats.user", n.User != ""}, {"nats.nkey_seed_file", n.NKeySeedFile != ""}, {"nats.credentials", n.Credentials != ""}} {
		if w.set {
			ways = append(ways, w.path)
		}
	}
	if len(ways) > 1 {
		c.add(ways[1], "%s is set too; choose one way to authenticate", ways[0])
	}
	if (n.TLSCert == "") != (n.TLSKey == "") {
		path := "nats.tls_cert"
		if n.TLSCert == "" {
			path = "nats.tls_key"
		}
		c.add(path, "nats.tls_cert and nats.tls_key go together")
	}
}

func (c *checker) natsExternal() {
	n := c.NATS
	if len(n.URLs) == 0 {
		c.add("nats.urls", "mode external needs the servers' addresses, such as [\"nats://nats-1:4222\"]")
	}
	for i, raw := range n.URLs {
		u, err := url.Parse(raw)
		switch {
		case err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
			c.add(index("nats.urls", i), "want nats://host:port, tls://host:port or ws(s)://host:port")
		case u.User != nil:
			// It would show in process lists and logs.
			c.add(index("nats.urls", i), "credentials do not belong in an address; use nats.user and nats.password_file, or nats.credentials")
		case u.Port() != "" && !validPort(u.Port()):
			c.add(index("nats.urls", i), "port %s is not 1 to 65535", u.Port())
		}
	}
}

func (c *checker) natsEmbedded() {
	n := c.NATS
	if c.Source("nats.store_dir").Kind != FromDefault {
		c.absolute("nats.store_dir", n.StoreDir)
	}
	if n.Replicas > 1 {
		c.add("nats.replicas", "the embedded server is one server; set 1, or mode external")
	}
	if len(n.URLs) > 0 {
		c.add("nats.urls", "mode embedded has no other servers; remove it, or set nats.mode: external")
	}
	if n.Credentials != "" {
		c.add("nats.credentials", "the embedded server knows no accounts; use nats.user or nats.nkey_seed_file")
	}
	if n.APIPrefix != "" {
		c.add("nats.api_prefix", "the embedded server has none; remove it, or set nats.mode: external")
	}
	if n.TLSCA != "" && n.TLSCert == "" {
		c.add("nats.tls_ca", "the embedded server needs nats.tls_cert and nats.tls_key with it")
	}
	if n.Sync != SyncAlways {
		if d, err := time.ParseDuration(n.Sync); err != nil || d <= 0 {
			c.add("nats.sync", "want \"always\" or an interval such as \"10s\", got %q", n.Sync)
		}
	}
	host, port, err := net.SplitHostPort(n.Listen)
	if err != nil || (port != "0" && !validPort(port)) {
		c.add("nats.listen", "want host:port such as \"127.0.0.1:4222\", got %q", n.Listen)
		return
	}
	if !Loopback(host) && n.User == "" && n.NKeySeedFile == "" && n.TLSCA == "" {
		c.add("nats.listen", "%s can be reached from other machines and whoever reaches it can run workloads here; "+
			"set nats.user with nats.password_file, nats.nkey_seed_file, or nats.tls_ca to require client certificates, "+
			"or listen on 127.0.0.1", n.Listen)
	}
}

// Loopback says whether a host part of an address is this machine only.
func Loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
