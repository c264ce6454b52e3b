package sim_test

import (
	"context"
	"testing"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/drivers/sim"
)

func spec(name string, env map[string]string) *drivers.WorkloadSpec {
	s := &drivers.WorkloadSpec{Name: name, Image: "web:1", Env: env}
	s.Update.Monitor = drivers.DurationPtr(0)
	return s.WithDefaults()
}

func TestSmoke(t *testing.T) {
	d, err := sim.New(drivers.Environment{Node: "n1"}, sim.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx := context.Background()
	st, err := d.Deploy(ctx, spec("web", nil))
	if err != nil {
		t.Fatal(err)
	}
	if st.Phase != drivers.PhaseRunning {
		t.Fatalf("%+v", st)
	}
	s2 := spec("web", map[string]string{"SIM_EXIT_CODE": "3", "SIM_PRINT": "bye"})
	s2.Update.Monitor = drivers.DurationPtr(50 * time.Millisecond)
	_, err = d.Deploy(ctx, s2)
	t.Logf("%+v", err)
	st, err = d.GetStatus(ctx, "default/web")
	t.Logf("%+v %v", st, err)
	if err := d.Destroy(ctx, "default/web"); err != nil {
		t.Fatal(err)
	}
	j, _ := d.Engine().Journal()
	for _, e := range j {
		t.Logf("%+v", e)
	}
}

func BenchmarkDeployDestroy(b *testing.B) {
	d, err := sim.New(drivers.Environment{Node: "n1"}, sim.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	ctx := context.Background()
	s := spec("web", nil)
	for b.Loop() {
		if _, err := d.Deploy(ctx, s); err != nil {
			b.Fatal(err)
		}
		if err := d.Destroy(ctx, "default/web"); err != nil {
			b.Fatal(err)
		}
	}
}
