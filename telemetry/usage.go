package telemetry

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// usageTable exports the last reading of every tracked workload. It is a collector of
// its own, not a set of gauges, so that a scrape sees one reading whole and a workload
// that is gone leaves no series behind.
type usageTable struct {
	cpu, memory, limit, pids *prometheus.Desc

	mu   sync.Mutex
	rows map[subjects.Workload]map[int]usageRow
}

// usageRow is what one ordinal used. Copies that share an ordinal during an update are
// one row: their sum.
type usageRow struct {
	cpuNanoseconds           uint64
	memory, memoryLimit, pid uint64
}

func newUsageTable() *usageTable {
	labels := []string{"backend", "node", "namespace", "name", "instance"}
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(subjects.Root, "workload", name), help, labels, nil)
	}
	return &usageTable{
		cpu:    desc("cpu_seconds_total", "CPU time an instance used, user and system."),
		memory: desc("memory_bytes", "Working set of an instance: usage less inactive file cache."),
		limit:  desc("memory_limit_bytes", "Memory limit of an instance, absent when there is none."),
		pids:   desc("pids", "Processes and threads of an instance."),
		rows:   make(map[subjects.Workload]map[int]usageRow),
	}
}

// Describe implements prometheus.Collector.
func (t *usageTable) Describe(ch chan<- *prometheus.Desc) {
	ch <- t.cpu
	ch <- t.memory
	ch <- t.limit
	ch <- t.pids
}

// Collect implements prometheus.Collector.
func (t *usageTable) Collect(ch chan<- prometheus.Metric) {
	type series struct {
		labels []string
		row    usageRow
	}
	t.mu.Lock()
	all := make([]series, 0, len(t.rows))
	for w, rows := range t.rows {
		for ordinal, row := range rows {
			all = append(all, series{[]string{w.Backend, w.Node, w.Namespace, w.Name, strconv.Itoa(ordinal)}, row})
		}
	}
	t.mu.Unlock()
	for _, s := range all {
		ch <- prometheus.MustNewConstMetric(t.cpu, prometheus.CounterValue, float64(s.row.cpuNanoseconds)/1e9, s.labels...)
		ch <- prometheus.MustNewConstMetric(t.memory, prometheus.GaugeValue, float64(s.row.memory), s.labels...)
		ch <- prometheus.MustNewConstMetric(t.pids, prometheus.GaugeValue, float64(s.row.pid), s.labels...)
		if s.row.memoryLimit > 0 {
			ch <- prometheus.MustNewConstMetric(t.limit, prometheus.GaugeValue, float64(s.row.memoryLimit), s.labels...)
		}
	}
}

// set replaces the workload's rows by a reading. cpu holds, per ordinal, the CPU time
// all its copies have used, which never falls while the ordinal is there.
func (t *usageTable) set(w subjects.Workload, stats []drivers.InstanceStats, cpu map[int]uint64) {
	rows := make(map[int]usageRow, len(stats))
	for _, s := range stats {
		row := rows[s.Instance]
		row.cpuNanoseconds = cpu[s.Instance]
		row.memory += s.MemoryBytes
		row.memoryLimit += s.MemoryLimitBytes
		row.pid += s.PIDs
		rows[s.Instance] = row
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows[w] = rows
}

func (t *usageTable) remove(w subjects.Workload) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.rows, w)
}
