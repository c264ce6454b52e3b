package telemetry

import (
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// sample is what a collector remembers of one workload between two readings.
type sample struct {
	workload subjects.Workload
	reader   drivers.StatsReader
	// previous is the last reading of each copy.
	previous map[string]drivers.InstanceStats
	// total is, per ordinal, the CPU time of all its copies and lives, so that the
	// exported counter does not fall when a copy is replaced or started again.
	total map[int]uint64
	// result is of the last reading; only the sweep touches it.
	result string
}

// take adds a reading and returns it as it is published.
func (s *sample) take(now time.Time, stats []drivers.InstanceStats) subjects.MetricData {
	data := subjects.MetricData{At: now.UTC(), Instances: make([]subjects.InstanceMetric, 0, len(stats))}
	current := make(map[string]drivers.InstanceStats, len(stats))
	total := make(map[int]uint64, len(stats))
	for _, st := range stats {
		if st.At.IsZero() {
			st.At = now
		}
		before, known := s.previous[st.InstanceID]
		// A counter that fell is that of a new life.
		known = known && st.CPUNanoseconds >= before.CPUNanoseconds
		used := st.CPUNanoseconds
		if known {
			used -= before.CPUNanoseconds
		}
		if _, ok := total[st.Instance]; !ok {
			total[st.Instance] = s.total[st.Instance]
		}
		total[st.Instance] += used
		m := subjects.InstanceMetric{Instance: st.Instance, InstanceID: st.InstanceID, CPUNanoseconds: st.CPUNanoseconds,
			MemoryBytes: st.MemoryBytes, MemoryLimitBytes: st.MemoryLimitBytes, PIDs: st.PIDs}
		if elapsed := st.At.Sub(before.At); known && elapsed > 0 {
			percent := float64(used) / float64(elapsed) * 100
			m.CPUPercent = &percent
		}
		data.Instances = append(data.Instances, m)
		current[st.InstanceID] = st
	}
	s.previous, s.total = current, total
	return data
}
