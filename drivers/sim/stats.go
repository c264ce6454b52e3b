package sim

import (
	"context"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// What a simulated instance uses: a twentieth of a core and some memory.
const (
	cpuShare    = 20
	memoryInUse = 24 << 20
)

// ReadStats implements drivers.StatsReader.
func (d *Driver) ReadStats(ctx context.Context, workloadID string) ([]drivers.InstanceStats, error) {
	if err := d.before(ctx, OpStats, workloadID); err != nil {
		return nil, err
	}
	cs := d.engine.of(workloadID, d.env.Node)
	if len(cs) == 0 {
		return nil, notFound("read stats of", workloadID)
	}
	e := d.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.cfg.Clock.Now()
	out := make([]drivers.InstanceStats, 0, len(cs))
	for _, c := range cs {
		if c.Role != drivers.RoleInstance || c.State != stateRunning {
			continue
		}
		st := drivers.InstanceStats{Instance: c.Instance, InstanceID: c.ID, At: now, MemoryBytes: memoryInUse, PIDs: 1,
			CPUNanoseconds: uint64(max(now.Sub(c.last().Start), time.Nanosecond)/cpuShare) + 1}
		if q := c.Spec.Resources.Memory; q != nil {
			st.MemoryLimitBytes = uint64(max(q.Value(), 0))
			st.MemoryBytes = min(st.MemoryBytes, st.MemoryLimitBytes/2)
		}
		out = append(out, st)
	}
	return out, nil
}
