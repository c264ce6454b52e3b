package docker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/distribution/reference"
	dockerconfig "github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/credentials"
	"github.com/docker/docker/api/types/registry"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// hubDomain is the registry of names without one; hubKey is what Docker's
// configuration files call it.
const (
	hubDomain = "docker.io"
	hubKey    = "https://index.docker.io/v1/"
)

// helperTimeout bounds a credential helper: some of them ask a keyring or a cloud
// service, which may hang.
const helperTimeout = 20 * time.Second

// credential authenticates against one registry. The zero value is anonymous.
type credential struct {
	// domain is the registry that it is for; it is never sent to another.
	domain string
	config registry.AuthConfig
}

// anonymous says that there is nothing to authenticate with.
func (c credential) anonymous() bool {
	return c.config.Username == "" && c.config.Password == "" && c.config.IdentityToken == "" && c.config.RegistryToken == ""
}

// identity tells credentials apart without holding one: equal credentials for the same
// registry have the same identity. Anonymous is empty.
func (c credential) identity() string {
	if c.anonymous() {
		return ""
	}
	h := sha256.New()
	for _, part := range []string{c.domain, c.config.Username, c.config.Password, c.config.IdentityToken, c.config.RegistryToken} {
		fmt.Fprintf(h, "%d|%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// header is the value of X-Registry-Auth for a pull from domain. It is empty, which is
// anonymous, when the credential is for another registry.
func (c credential) header(domain string) (string, error) {
	if c.anonymous() || c.domain != domain {
		return "", nil
	}
	encoded, err := registry.EncodeAuthConfig(c.config)
	if err != nil {
		return "", errors.New("encode registry credentials")
	}
	return encoded, nil
}

// redact removes the secret parts from a message of the engine or a registry: what
// comes back from outside is not trusted to leave them out.
func (c credential) redact(msg string) string {
	for _, secret := range []string{c.config.Password, c.config.IdentityToken, c.config.RegistryToken} {
		if len(secret) >= 4 {
			msg = strings.ReplaceAll(msg, secret, "[redacted]")
		}
	}
	return msg
}

// credentialFor finds what a pull of ref authenticates with: the credentials of the
// spec, else those that the node's Docker configuration has for the registry, else
// none. Errors: those of the secret resolver (ErrNotFound, ErrDenied).
func (d *Driver) credentialFor(ctx context.Context, namespace string, ref reference.Named, given *drivers.RegistryCredentials) (credential, error) {
	domain := reference.Domain(ref)
	if given == nil {
		return d.nodeCredential(ctx, domain)
	}
	if d.env.Secrets == nil {
		return credential{}, &drivers.Error{Class: drivers.ErrDenied, Op: "resolve registry credentials for " + domain,
			Err: errors.New("this node has no secrets"), Hint: "set the node's secrets directory, or log in on the node with docker login"}
	}
	password, err := d.env.Secrets.ResolveSecret(ctx, namespace, given.Password)
	if err != nil {
		return credential{}, fmt.Errorf("resolve registry credentials for %s: %w", domain, err)
	}
	return credential{domain: domain, config: registry.AuthConfig{
		Username: given.Username,
		// A file written with an editor or echo ends in a line end that is not part of
		// the password.
		Password:      strings.TrimRight(string(password), "\r\n"),
		ServerAddress: configKey(domain),
	}}, nil
}

// nodeCredential reads the node's Docker configuration (DOCKER_CONFIG or ~/.docker),
// every time: docker login takes effect without a restart.
func (d *Driver) nodeCredential(ctx context.Context, domain string) (credential, error) {
	dir := dockerConfigDir()
	if dir == "" {
		return credential{}, nil
	}
	file, err := dockerconfig.Load(dir)
	if err != nil {
		return credential{}, &drivers.Error{Class: drivers.ErrDenied, Op: "read docker configuration of the node",
			Err: plain(err), Hint: "repair config.json, or give the workload credentials of its own"}
	}
	return storedCredential(ctx, file, domain)
}

// dockerConfigDir is where the Docker CLI keeps its configuration; empty for a service
// without a home. (The library's own answer is fixed when it is first asked.)
func dockerConfigDir() string {
	if dir := os.Getenv(dockerconfig.EnvOverrideConfigDir); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".docker")
}

// storedCredential looks a registry up in a Docker configuration: by its credential
// helper where it has one, else in the file.
func storedCredential(ctx context.Context, file *configfile.ConfigFile, domain string) (credential, error) {
	key := configKey(domain)
	helper := file.CredentialsStore
	for _, k := range []string{key, domain} {
		if own, ok := file.CredentialHelpers[k]; ok {
			helper = own
			break
		}
	}
	if helper != "" {
		return helperCredential(ctx, helper, domain)
	}
	auth, err := credentials.NewFileStore(file).Get(key)
	if err != nil {
		return credential{}, &drivers.Error{Class: drivers.ErrDenied, Op: "read registry credentials for " + domain, Err: plain(err)}
	}
	return credential{domain: domain, config: registry.AuthConfig{
		Username: auth.Username, Password: auth.Password,
		IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken, ServerAddress: key,
	}}, nil
}

// helperName is what may follow "docker-credential-": the name comes from a file and
// becomes part of a path.
var helperName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// tokenUser is the user name by which a helper says that the secret is an identity
// token (docker-credential-helpers, "get").
const tokenUser = "<token>"

// helperCredential asks a credential helper, a program of the node's that reads the
// registry from its standard input and answers with JSON. It is run here and not by
// Docker's library because that one cannot be cancelled.
func helperCredential(ctx context.Context, helper, domain string) (credential, error) {
	op := "ask credential helper " + helper + " for " + domain
	if !helperName.MatchString(helper) {
		return credential{}, &drivers.Error{Class: drivers.ErrDenied, Op: op, Err: errors.New("that is not a helper's name")}
	}
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker-credential-"+helper, "get")
	cmd.Stdin = strings.NewReader(configKey(domain))
	// A helper's child may keep the pipe open after the helper was killed.
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		if strings.Contains(out.String(), "credentials not found") {
			return credential{}, nil
		}
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		// What a helper prints is not repeated: it may hold a secret.
		return credential{}, &drivers.Error{Class: drivers.ErrUnavailable, Op: op, Err: plain(err),
			Hint: "run the helper by hand on the node, or give the workload credentials of its own"}
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		return credential{}, &drivers.Error{Class: drivers.ErrUnavailable, Op: op, Err: errors.New("its answer is not JSON")}
	}
	c := credential{domain: domain, config: registry.AuthConfig{ServerAddress: configKey(domain)}}
	if answer.Username == tokenUser {
		c.config.IdentityToken = answer.Secret
	} else {
		c.config.Username, c.config.Password = answer.Username, answer.Secret
	}
	return c, nil
}

// configKey is the name of a registry in Docker's configuration files.
func configKey(domain string) string {
	if domain == hubDomain {
		return hubKey
	}
	return domain
}
