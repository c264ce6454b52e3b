//go:build integration

package docker

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func TestReadStats(t *testing.T) {
	d := newTestDriver(t)
	busy := talk(t, d, 0, `while :; do :; done`, func(_ *container.Config, h *container.HostConfig) {
		h.Memory, h.NanoCPUs = 64<<20, 2e8
	})
	talk(t, d, 1, `exit 0`)
	talk(t, d, 2, `sleep 60 & exec sleep 60`)
	var first, second []drivers.InstanceStats
	read := func(into *[]drivers.InstanceStats) func() bool {
		return func() bool {
			var err error
			if *into, err = d.ReadStats(t.Context(), logWorkload); err != nil {
				t.Fatal(err)
			}
			return len(*into) == 2 && (*into)[1].PIDs == 2
		}
	}
	eventually(t, 10*time.Second, "two running instances", read(&first))
	eventually(t, 10*time.Second, "more CPU time", func() bool {
		return read(&second)() && second[0].CPUNanoseconds > first[0].CPUNanoseconds+uint64(50*time.Millisecond)
	})
	s := second[0]
	if s.Instance != 0 || s.InstanceID != busy || s.MemoryLimitBytes != 64<<20 || s.MemoryBytes == 0 || s.MemoryBytes > 64<<20 || s.PIDs != 1 {
		t.Errorf("stats of the busy instance: %+v", s)
	}
	if s := second[1]; s.Instance != 2 || s.MemoryLimitBytes != 0 {
		t.Errorf("stats of the idle instance: %+v", s)
	}
	elapsed := second[0].At.Sub(first[0].At)
	if used := time.Duration(second[0].CPUNanoseconds - first[0].CPUNanoseconds); used > elapsed/2 {
		t.Errorf("used %s of CPU time in %s at a limit of 0.2 cores", used, elapsed)
	}
	if _, err := d.ReadStats(t.Context(), "it/nobody"); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("stats of nobody: %v, want ErrNotFound", err)
	}
}

// The two ways to read stats must tell the same.
func TestStatsOfGroupsAndEngineAgree(t *testing.T) {
	d := newTestDriver(t)
	talk(t, d, 0, `dd if=/dev/zero of=/tmp/x bs=1M count=8 2>/dev/null; sleep 60`, func(_ *container.Config, h *container.HostConfig) { h.Memory = 64 << 20 })
	var o object
	eventually(t, 5*time.Second, "an instance", func() bool {
		all, err := d.observe(t.Context(), logWorkload)
		if err != nil || len(all) != 1 {
			return false
		}
		o = all[0]
		return true
	})
	measure := func(times time.Duration, read func(context.Context) error) time.Duration {
		start := time.Now()
		for range times {
			if err := read(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		return time.Since(start) / times
	}
	var group usage
	var engine *drivers.InstanceStats
	byFile := measure(20, func(ctx context.Context) (err error) { group, err = d.groupUsage(ctx, o.id); return err })
	byEngine := measure(2, func(ctx context.Context) (err error) { engine, err = d.engineStats(ctx, o); return err })
	t.Logf("control groups %s, engine %s per reading", byFile, byEngine)
	near := func(what string, a, b, slack uint64) {
		if max(a, b)-min(a, b) > slack {
			t.Errorf("%s: %d by control groups, %d by the engine", what, a, b)
		}
	}
	near("memory", group.memoryBytes, engine.MemoryBytes, 1<<20)
	near("limit", group.memoryLimitBytes, engine.MemoryLimitBytes, 0)
	near("processes", group.pids, engine.PIDs, 0)
	near("CPU time", group.cpuNanoseconds, engine.CPUNanoseconds, uint64(50*time.Millisecond))

	c, err := d.inspect(t.Context(), o.id)
	if err != nil {
		t.Fatal(err)
	}
	groups := d.groups.get()
	m, err := groups.ofProcess(c.State.Pid, o.id)
	if err != nil {
		t.Fatalf("groups of process %d: %v", c.State.Pid, err)
	}
	if u, err := groups.read(m); err != nil || u.memoryLimitBytes != group.memoryLimitBytes {
		t.Errorf("by its process: %+v, %v", u, err)
	}
	if _, err := groups.ofProcess(1, o.id); !errors.Is(err, errNoCgroup) {
		t.Errorf("another process: %v, want errNoCgroup", err)
	}
}
