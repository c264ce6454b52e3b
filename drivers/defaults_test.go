package drivers

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestWithDefaultsFillsIn(t *testing.T) {
	s := (&WorkloadSpec{
		Name: "cart", Image: "nginx",
		Ports:     []Port{{ContainerPort: 80}},
		Volumes:   []Volume{{Source: "data", Target: "/data"}},
		Secrets:   []SecretUse{{Ref: SecretRef{Env: "A"}, File: "/a"}, {Ref: SecretRef{Env: "A"}, Env: "A"}},
		Health:    &HealthCheck{HTTP: &HTTPProbe{Port: 80}},
		PreDeploy: &Hook{Command: []string{"true"}},
	}).WithDefaults()
	got, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"name":"cart","namespace":"default","image":"nginx","pullPolicy":"missing",` +
		`"secrets":[{"ref":{"env":"A"},"file":"/a","mode":"0400"},{"ref":{"env":"A"},"env":"A"}],` +
		`"ports":[{"containerPort":80,"protocol":"tcp"}],"volumes":[{"type":"volume","source":"data","target":"/data"}],` +
		`"replicas":1,"restart":{"policy":"always"},` +
		`"health":{"http":{"port":80,"path":"/","scheme":"http"},"interval":"10s","timeout":"5s","retries":3},` +
		`"stop":{"grace":"10s"},"update":{"parallelism":1,"monitor":"2s","rollback":true},` +
		`"preDeploy":{"command":["true"],"timeout":"5m0s"},"logs":{"ship":true,"maxSize":"10Mi","maxFiles":3}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestWithDefaultsKeepsWhatIsSet(t *testing.T) {
	s := fullSpec(t)
	if d := s.WithDefaults(); !reflect.DeepEqual(s, d) {
		t.Errorf("got %+v\nwant %+v", d, s)
	}
}

// Zero and absent differ for these: a default must not override the user's zero.
func TestWithDefaultsKeepsZero(t *testing.T) {
	zero, no := 0, false
	s := &WorkloadSpec{Replicas: &zero, Stop: Stop{Grace: DurationPtr(0)},
		Update: Update{Monitor: DurationPtr(0), Rollback: &no}, Logs: LogConfig{Ship: &no}}
	d := s.WithDefaults()
	if *d.Replicas != 0 || *d.Stop.Grace != 0 || *d.Update.Monitor != 0 || *d.Update.Rollback || *d.Logs.Ship {
		t.Errorf("a zero was overridden: %+v", d)
	}
	if d.ReplicaCount() != 0 || d.Grace() != 0 || d.Monitor() != 0 || d.RollsBack() || d.ShipsLogs() {
		t.Errorf("an accessor overrides a zero: %+v", d)
	}
}

// The accessors answer for a spec without defaults what WithDefaults would fill in.
func TestAccessorsAgreeWithDefaults(t *testing.T) {
	raw := &WorkloadSpec{}
	d := raw.WithDefaults()
	for _, s := range []*WorkloadSpec{raw, d} {
		if s.ReplicaCount() != 1 || s.Grace() != 10*time.Second || s.Monitor() != 2*time.Second || !s.RollsBack() || !s.ShipsLogs() {
			t.Errorf("accessors of %+v", s)
		}
	}
}

func TestWithDefaultsIsIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		once := validSpec().Draw(t, "spec").WithDefaults()
		if twice := once.WithDefaults(); !reflect.DeepEqual(once, twice) {
			t.Fatalf("once %+v\ntwice %+v", once, twice)
		}
		if err := once.Validate(); err != nil {
			t.Fatalf("with defaults it is not valid: %v", err)
		}
	})
}

func TestCloneSharesNothing(t *testing.T) {
	s := fullSpec(t)
	c := s.Clone()
	if !reflect.DeepEqual(s, c) {
		t.Fatalf("the clone differs: %+v\n%+v", s, c)
	}
	shared(t, "", reflect.ValueOf(s).Elem(), reflect.ValueOf(c).Elem())
}

// shared reports pointers, slices and maps that two values have in common.
func shared(t *testing.T, path string, a, b reflect.Value) {
	t.Helper()
	switch a.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		if !a.IsNil() && a.UnsafePointer() == b.UnsafePointer() {
			t.Errorf("%s is shared", path)
		}
	}
	switch a.Kind() {
	case reflect.Pointer:
		if !a.IsNil() {
			shared(t, path, a.Elem(), b.Elem())
		}
	case reflect.Slice:
		for i := range a.Len() {
			shared(t, IndexPath(path, i), a.Index(i), b.Index(i))
		}
	case reflect.Struct:
		for i := range a.NumField() {
			shared(t, joinPath(path, a.Type().Field(i).Name), a.Field(i), b.Field(i))
		}
	}
}
