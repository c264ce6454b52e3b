package drivers

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// secretsDir makes a directory of secrets with two namespaces and links that lead to
// places they should not.
func secretsDir(t *testing.T) string {
	t.Helper()
	base := t.TempDir()
	dir := filepath.Join(base, "secrets")
	write := func(name, value string) {
		t.Helper()
		name = filepath.Join(base, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(value), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write("secrets/shop/db/password", "hunter2\n")
	write("secrets/shop/key", "\x00\xff\r\n\n")
	write("secrets/shop/empty", "")
	write("secrets/shop/largest", strings.Repeat("x", MaxSecretBytes))
	write("secrets/shop/larger", strings.Repeat("x", MaxSecretBytes+1))
	write("secrets/bank/key", "bank's own")
	write("outside", "not a secret of anyone")
	link("db/password", "shop/inside")
	link("../bank/key", "shop/neighbour")
	link("../bank", "shop/neighbours")
	link("../../outside", "shop/out")
	link(filepath.Join(base, "outside"), "shop/absolute")
	link("nowhere", "shop/dangling")
	link("loop", "shop/loop")
	link("shop", "alias")
	return dir
}

func TestSecretStoreFile(t *testing.T) {
	dir := secretsDir(t)
	tests := []struct {
		name, namespace, file string
		want                  string
		class                 error
	}{
		{"byte for byte", "shop", "db/password", "hunter2\n", nil},
		{"any bytes", "shop", "key", "\x00\xff\r\n\n", nil},
		{"empty", "shop", "empty", "", nil},
		{"link inside", "shop", "inside", "hunter2\n", nil},
		{"largest", "shop", "largest", strings.Repeat("x", MaxSecretBytes), nil},
		{"too large", "shop", "larger", "", ErrDenied},
		{"own namespace only", "bank", "db/password", "", ErrNotFound},
		{"no such namespace", "none", "key", "", ErrNotFound},
		{"dangling", "shop", "dangling", "", ErrNotFound},
		{"loop", "shop", "loop", "", ErrDenied},
		{"folder", "shop", "db", "", ErrDenied},
		{"link to a neighbour", "shop", "neighbour", "", ErrDenied},
		{"through a neighbour", "shop", "neighbours/key", "", ErrDenied},
		{"link out", "shop", "out", "", ErrDenied},
		{"absolute link", "shop", "absolute", "", ErrDenied},
		{"namespace that is a link", "alias", "key", "", ErrDenied},
		{"traversal", "shop", "../bank/key", "", ErrInvalidSpec},
		{"absolute", "shop", "/etc/passwd", "", ErrInvalidSpec},
		{"namespace traversal", "..", "outside", "", ErrInvalidSpec},
		{"no namespace", "", "shop/key", "", ErrInvalidSpec},
	}
	store := &SecretStore{Dir: dir}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := store.ResolveSecret(t.Context(), tt.namespace, SecretRef{File: tt.file})
			if tt.class == nil {
				if err != nil || string(got) != tt.want {
					t.Errorf("got %d bytes, %v", len(got), err)
				}
				return
			}
			if !errors.Is(err, tt.class) || got != nil {
				t.Errorf("got %q, %v, want %v", got, err, tt.class)
			}
			if err != nil && tt.class != ErrInvalidSpec && !strings.Contains(err.Error(), tt.file) {
				t.Errorf("the error does not name the reference: %v", err)
			}
			if err != nil && strings.Contains(err.Error(), dir) {
				t.Errorf("the error tells where the node keeps its secrets: %v", err)
			}
		})
	}
}

func TestSecretStoreWithoutDirectory(t *testing.T) {
	for _, dir := range []string{"", filepath.Join(t.TempDir(), "missing")} {
		_, err := (&SecretStore{Dir: dir}).ResolveSecret(t.Context(), "shop", SecretRef{File: "key"})
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "put it at shop/key") {
			t.Errorf("got %v, want not found with what to do", err)
		}
	}
}

func TestSecretStoreEnv(t *testing.T) {
	env := map[string]string{
		"KRANIX_SECRET_SHOP_TOKEN":   "hunter2\n",
		"KRANIX_SECRET_SHOP__EU_KEY": "of shop-eu",
		"KRANIX_SECRET_SHOP_BIG":     strings.Repeat("x", MaxSecretBytes+1),
		"HOME":                       "/root",
	}
	store := &SecretStore{LookupEnv: func(k string) (string, bool) { v, ok := env[k]; return v, ok }}
	tests := []struct {
		namespace, name, want string
		class                 error
	}{
		{"shop", "TOKEN", "hunter2\n", nil},
		{"shop-eu", "KEY", "of shop-eu", nil},
		{"shop", "_EU_KEY", "", ErrInvalidSpec},
		{"shop", "EU_KEY", "", ErrNotFound},
		{"shop", "MISSING", "", ErrNotFound},
		{"shop", "BIG", "", ErrDenied},
		{"shop", "A B", "", ErrInvalidSpec},
		{"bank", "TOKEN", "", ErrNotFound},
	}
	for _, tt := range tests {
		got, err := store.ResolveSecret(t.Context(), tt.namespace, SecretRef{Env: tt.name})
		if !errors.Is(err, tt.class) || string(got) != tt.want {
			t.Errorf("%s %s: got %d bytes, %v", tt.namespace, tt.name, len(got), err)
		}
	}
	_, err := (&SecretStore{}).ResolveSecret(t.Context(), "shop-eu", SecretRef{Env: "KEY"})
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "set KRANIX_SECRET_SHOP__EU_KEY") {
		t.Errorf("got %v, want not found with the variable to set", err)
	}
}

// No two references of different namespaces mean one variable.
func TestSecretEnvNameIsUnambiguous(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		namespace := rapid.StringMatching(`[ab1](-{0,2}[ab1]){0,3}`)
		name := rapid.StringMatching(`[AB][AB1_]{0,5}`)
		n1, e1 := namespace.Draw(t, "n1"), name.Draw(t, "e1")
		n2, e2 := namespace.Draw(t, "n2"), name.Draw(t, "e2")
		if (n1 != n2 || e1 != e2) && SecretEnvName(n1, e1) == SecretEnvName(n2, e2) {
			t.Fatalf("%s of %s and %s of %s are both %s", e1, n1, e2, n2, SecretEnvName(n1, e1))
		}
	})
}

func TestSecretStoreRefusesHalfReferences(t *testing.T) {
	store := &SecretStore{Dir: secretsDir(t)}
	for _, ref := range []SecretRef{{}, {File: "key", Env: "KEY"}} {
		if _, err := store.ResolveSecret(t.Context(), "shop", ref); !errors.Is(err, ErrInvalidSpec) {
			t.Errorf("%s: got %v, want invalid spec", ref, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := store.ResolveSecret(ctx, "shop", SecretRef{File: "key"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
}

func TestSecretText(t *testing.T) {
	tests := []struct{ value, want string }{
		{"a", "a"}, {"a\n", "a"}, {"a\r\n", "a"}, {"a\n\n", "a\n"}, {"a\r", "a\r"}, {" a ", " a "}, {"", ""}, {"\n", ""}, {"a\nb\n", "a\nb"},
	}
	for _, tt := range tests {
		if got, err := SecretText([]byte(tt.value)); err != nil || got != tt.want {
			t.Errorf("%q: got %q, %v", tt.value, got, err)
		}
	}
	if _, err := SecretText([]byte("hunter2\x00")); !errors.Is(err, ErrInvalidSpec) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestRedact(t *testing.T) {
	tests := []struct {
		name, text string
		secrets    []string
		want       string
	}{
		{"none", "hunter2", nil, "hunter2"},
		{"plain", "login me:hunter2@host failed: hunter2", []string{"hunter2"}, "login me:[redacted]@host failed: [redacted]"},
		{"line end of the file", "bad password hunter2.", []string{"hunter2\n"}, "bad password [redacted]."},
		{"in a URL", "https://me:p%40ss+w%2F@h https://me:p%40ss%20w%2F@h", []string{"p@ss w/"}, "https://me:[redacted]@h https://me:[redacted]@h"},
		{"in JSON", `{"p":"a\"b\\c"}`, []string{`a"b\c`}, `{"p":"[redacted]"}`},
		{"in base64", "Basic aHVudGVyMg== and aHVudGVyMg", []string{"hunter2"}, "Basic [redacted] and [redacted]"},
		{"one inside another", "hunter2000 hunter2", []string{"hunter2", "hunter2000"}, "[redacted] [redacted]"},
		{"short ones are left", "a tale of abc", []string{"a", "abc", ""}, "a tale of abc"},
		{"short but for the line end", "the end", []string{"end\n"}, "the end"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var secrets [][]byte
			for _, s := range tt.secrets {
				secrets = append(secrets, []byte(s))
			}
			if got := Redact(tt.text, secrets...); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRedactLeavesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.SliceOfN(rapid.Byte(), minRedact, 20).Draw(t, "secret")
		around := rapid.StringMatching(`[ -Z]{0,9}`)
		text := around.Draw(t, "before") + string(secret) + around.Draw(t, "after")
		if got := Redact(text, secret); bytes.Contains([]byte(got), secret) && !strings.Contains(Redacted, string(secret)) {
			t.Fatalf("got %q", got)
		}
	})
}
