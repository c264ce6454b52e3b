package docker

import (
	"context"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// fixedSecret keeps one value under every reference.
type fixedSecret string

func (s fixedSecret) ResolveSecret(context.Context, string, drivers.SecretRef) ([]byte, error) {
	return []byte(s), nil
}

// TestHealthOutputHoldsNoSecret: what a health check prints becomes part of events,
// results and the status that anyone may read.
func TestHealthOutputHoldsNoSecret(t *testing.T) {
	d := &Driver{life: t.Context(), env: drivers.Environment{Secrets: fixedSecret("file-canary")}}
	spec := &drivers.WorkloadSpec{Secrets: []drivers.SecretUse{
		{Ref: drivers.SecretRef{Env: "DB"}, Env: "DB"}, {Ref: drivers.SecretRef{File: "key"}, File: "/run/key"},
	}}
	var c inspected
	c.Config = &container.Config{Env: []string{"PATH=/bin", "DB=env-canary"}}
	got := d.withoutSecrets(c, spec, "db env-canary key file-canary fine")
	if strings.Contains(got, "canary") || !strings.Contains(got, "fine") {
		t.Errorf("shown as %q", got)
	}
	d.env.Secrets = nil
	if got := d.withoutSecrets(c, spec, "key file-canary"); strings.Contains(got, "canary") {
		t.Errorf("without the node's secrets shown as %q", got)
	}
}
