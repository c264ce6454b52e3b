package rig

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// RequireDocker returns the address of a Docker engine for a test. Without one the test
// is skipped by the engine's name, or fails when KRANIX_REQUIRE_ENGINES (names separated
// by commas) lists "docker". It installs and starts nothing.
func RequireDocker(t testing.TB) string {
	t.Helper()
	e, err := New(nil).FindDocker(t.Context())
	if err != nil {
		if Required("docker") {
			t.Fatalf("engine docker is required here (KRANIX_REQUIRE_ENGINES): %v", err)
		}
		t.Skipf("engine docker is missing (make engines-up): %v", err)
	}
	return e.Host
}

// Required says whether KRANIX_REQUIRE_ENGINES lists the engine.
func Required(engine string) bool {
	names := strings.FieldsFunc(os.Getenv("KRANIX_REQUIRE_ENGINES"), func(r rune) bool { return r == ',' || r == ' ' })
	return slices.Contains(names, engine)
}
