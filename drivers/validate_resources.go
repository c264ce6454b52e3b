package drivers

import (
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"
)

const (
	// MinMemory is the least memory an instance can be limited to, in bytes: below it
	// engines refuse to start one.
	MinMemory = 6 << 20

	maxBytes = 1 << 50
	maxCores = 4096
	// maxPIDs is Linux's PID_MAX_LIMIT on 64 bits.
	maxPIDs = 1 << 22
	maxGPUs = 64
)

func (f *faults) resources(r Resources) {
	f.cores("resources.cpu", r.CPU)
	f.bytes("resources.memory", r.Memory, MinMemory, maxBytes)
	f.bytes("resources.shm", r.Shm, 1, maxBytes)
	within(f, "resources.pids", r.PIDs, 0, maxPIDs)
	f.ulimits(r.Ulimits)
	if r.GPU != nil {
		f.gpu(*r.GPU)
	}
}

// cores never asks for Quantity.Value, which wraps around above int64.
func (f *faults) cores(field string, q *resource.Quantity) {
	switch {
	case q == nil:
	case q.Sign() <= 0:
		f.add(field, "want more than 0, got %s", quantityText(q))
	case q.Cmp(*resource.NewQuantity(maxCores, resource.DecimalSI)) > 0:
		f.add(field, "want at most %d cores, got %s", maxCores, quote(quantityText(q)))
	case q.Cmp(*resource.NewMilliQuantity(q.MilliValue(), resource.DecimalSI)) != 0:
		f.add(field, "want a multiple of 1m (a thousandth of a core), got %s", quantityText(q))
	}
}

func (f *faults) bytes(field string, q *resource.Quantity, low, high int64) {
	switch {
	case q == nil:
	case q.Sign() <= 0:
		f.add(field, "want more than 0, got %s", quantityText(q))
	case q.Cmp(*resource.NewQuantity(high, resource.BinarySI)) > 0:
		f.add(field, "want at most %s, got %s", sizeText(high), quote(quantityText(q)))
	case q.Cmp(*resource.NewQuantity(q.Value(), resource.BinarySI)) != 0:
		f.add(field, "want whole bytes, got %s (\"m\" is a thousandth, \"Mi\" is 2^20 bytes)", quantityText(q))
	case q.Cmp(*resource.NewQuantity(low, resource.BinarySI)) < 0:
		f.add(field, "want at least %s, got %s (\"256Mi\" is 256 times 2^20 bytes)", sizeText(low), quantityText(q))
	}
}

func sizeText(n int64) string { return resource.NewQuantity(n, resource.BinarySI).String() }

func (f *faults) ulimits(limits []Ulimit) {
	if !within(f, "resources.ulimits", len(limits), 0, maxEntries) {
		return
	}
	seen := map[string]int{}
	for i, u := range limits {
		field := IndexPath("resources.ulimits", i)
		if !slices.Contains(ulimitNames(), u.Name) {
			f.add(field+".name", "want a limit of setrlimit(2) in lower case, such as nofile, got %s%s",
				quote(u.Name), didYouMean(u.Name, ulimitNames()))
		}
		if first, ok := seen[u.Name]; ok {
			f.add(field+".name", "%s is set by resources.ulimits[%d] already", quote(u.Name), first)
		} else {
			seen[u.Name] = i
		}
		if u.Soft < -1 {
			f.add(field+".soft", "want -1 (unlimited) or more, got %d", u.Soft)
		}
		if u.Hard < -1 {
			f.add(field+".hard", "want -1 (unlimited) or more, got %d", u.Hard)
		}
		if u.Hard >= 0 && (u.Soft > u.Hard || u.Soft == -1) {
			f.add(field+".soft", "want at most the hard limit %d, got %d", u.Hard, u.Soft)
		}
	}
}

func (f *faults) gpu(g GPURequest) {
	if g.Vendor != "" {
		f.oneOf("resources.gpu.vendor", g.Vendor, "nvidia", "amd")
	}
	within(f, "resources.gpu.count", g.Count, 1, maxGPUs)
	f.plain("resources.gpu.type", g.Type, maxName)
	f.bytes("resources.gpu.memory", g.Memory, 1<<20, maxBytes)
}
