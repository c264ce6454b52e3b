package docker

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/kranix-io/kranix-runtime/drivers"
)

var _ drivers.StatsReader = (*Driver)(nil)

// hostGroups finds the host's control groups once. The zero value is ready.
type hostGroups struct {
	once   sync.Once
	groups *cgroups
}

// get returns nil where there are none to read.
func (h *hostGroups) get() *cgroups {
	h.once.Do(func() {
		if groups, err := hostCgroups(); err == nil {
			h.groups = groups
		}
	})
	return h.groups
}

// ReadStats implements drivers.StatsReader. Where the engine runs on this host the
// containers' control groups are read, which costs a few file reads; otherwise the
// engine is asked, which costs tens of milliseconds or more per container.
func (d *Driver) ReadStats(ctx context.Context, workloadID string) ([]drivers.InstanceStats, error) {
	if _, _, err := drivers.ParseWorkloadID(workloadID); err != nil {
		return nil, err
	}
	all, err := d.observe(ctx, workloadID)
	if err != nil {
		return nil, err
	}
	found := instances(all)
	if len(found) == 0 {
		return nil, &drivers.Error{Class: drivers.ErrNotFound, Op: "read stats of " + workloadID}
	}
	stats := make([]*drivers.InstanceStats, len(found))
	err = parallel(ctx, len(found), func(ctx context.Context, i int) error {
		if found[i].state != container.StateRunning && found[i].state != container.StatePaused {
			return nil
		}
		s, err := d.instanceStats(ctx, found[i])
		if errors.Is(err, drivers.ErrNotFound) {
			return nil // removed since it was listed
		}
		stats[i] = s
		return err
	})
	if err != nil {
		return nil, err
	}
	out := make([]drivers.InstanceStats, 0, len(stats))
	for _, s := range slices.DeleteFunc(stats, func(s *drivers.InstanceStats) bool { return s == nil }) {
		out = append(out, *s)
	}
	return out, nil
}

// instanceStats reads one instance; nil when it has stopped meanwhile.
func (d *Driver) instanceStats(ctx context.Context, o object) (*drivers.InstanceStats, error) {
	u, err := d.groupUsage(ctx, o.id)
	if errors.Is(err, errNoCgroup) {
		return d.engineStats(ctx, o)
	}
	if err != nil {
		return nil, err
	}
	return &drivers.InstanceStats{Instance: o.ordinal, InstanceID: o.id, At: time.Now().UTC(), CPUNanoseconds: u.cpuNanoseconds,
		MemoryBytes: u.memoryBytes, MemoryLimitBytes: u.memoryLimitBytes, PIDs: u.pids}, nil
}

// groupUsage reads a container's control groups. Errors: errNoCgroup where they cannot
// be read here.
func (d *Driver) groupUsage(ctx context.Context, containerID string) (usage, error) {
	groups := d.groups.get()
	if groups == nil {
		return usage{}, errNoCgroup
	}
	for _, m := range guesses(containerID) {
		if u, err := groups.read(m); err == nil {
			return u, nil
		}
	}
	c, err := d.inspect(ctx, containerID)
	if err != nil {
		return usage{}, containerError("inspect container "+containerID, err)
	}
	if c.State.Pid == 0 {
		return usage{}, errNoCgroup
	}
	m, err := groups.ofProcess(c.State.Pid, containerID)
	if err != nil {
		return usage{}, err
	}
	return groups.read(m)
}

// engineStats asks the engine for one reading without a second one to compare it with;
// nil when the container has stopped meanwhile, of which the engine says zeros.
func (d *Driver) engineStats(ctx context.Context, o object) (*drivers.InstanceStats, error) {
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	answer, err := d.cli.ContainerStatsOneShot(ctx, o.id)
	if err != nil {
		return nil, containerError("read stats of container "+o.id, err)
	}
	defer answer.Body.Close() //nolint:errcheck // nothing was written
	var s container.StatsResponse
	if err := json.NewDecoder(answer.Body).Decode(&s); err != nil {
		return nil, classify("read stats of container "+o.id, err)
	}
	if s.PidsStats.Current == 0 && s.MemoryStats.Usage == 0 {
		return nil, nil
	}
	inactive, v1 := s.MemoryStats.Stats["total_inactive_file"]
	if !v1 {
		inactive = s.MemoryStats.Stats["inactive_file"]
	}
	stats := &drivers.InstanceStats{Instance: o.ordinal, InstanceID: o.id, At: s.Read.UTC(), CPUNanoseconds: s.CPUStats.CPUUsage.TotalUsage,
		MemoryBytes: workingSet(s.MemoryStats.Usage, inactive), PIDs: s.PidsStats.Current}
	// The engine reports the host's memory as the limit of those that have none, so only
	// the container's configuration tells.
	if spec := o.spec(); spec == nil || spec.Resources.Memory != nil {
		stats.MemoryLimitBytes = s.MemoryStats.Limit
	}
	return stats, nil
}
