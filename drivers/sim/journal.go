package sim

import (
	"slices"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// EntryKind says what happened to a container.
type EntryKind string

// The kinds of journal entries.
const (
	EntryCreated EntryKind = "created"
	EntryStarted EntryKind = "started"
	// EntryExited is an end by itself, EntryStopped one on request.
	EntryExited  EntryKind = "exited"
	EntryStopped EntryKind = "stopped"
	EntryRemoved EntryKind = "removed"
)

// Entry is one line of the journal: what happened to which container, and for which
// command that was created.
type Entry struct {
	At          time.Time `json:"at"`
	Kind        EntryKind `json:"kind"`
	WorkloadID  string    `json:"workloadId"`
	Node        string    `json:"node"`
	Role        string    `json:"role"`
	Instance    int       `json:"instance"`
	ContainerID string    `json:"containerId"`
	Revision    string    `json:"revision"`
	Sequence    uint64    `json:"sequence"`
	Command     string    `json:"command"`
}

// journal is everything that ever happened, the oldest entries dropped at the limit.
type journal struct {
	limit   int
	entries []Entry
	dropped int
}

func (j *journal) add(e Entry) {
	if len(j.entries) >= j.limit {
		// A quarter at a time, so that a full journal does not move with every entry.
		n := max(1, j.limit/4)
		j.entries = append(j.entries[:0], j.entries[n:]...)
		j.dropped += n
	}
	j.entries = append(j.entries, e)
}

func (e *Engine) note(c *container, kind EntryKind, at time.Time) {
	e.journal.add(Entry{At: at, Kind: kind, WorkloadID: c.Workload, Node: c.Node, Role: c.Role, Instance: c.Instance,
		ContainerID: c.ID, Revision: c.Revision, Sequence: c.Sequence, Command: c.Command})
}

// Journal returns what ever happened, in order, and how many older entries were
// dropped.
func (e *Engine) Journal() (entries []Entry, dropped int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.journal.entries), e.journal.dropped
}

// Starts returns the journal's starts of a workload's instances, in order.
func (e *Engine) Starts(workloadID string) []Entry {
	entries, _ := e.Journal()
	return slices.DeleteFunc(entries, func(x Entry) bool {
		return x.Kind != EntryStarted || x.WorkloadID != workloadID || x.Role != drivers.RoleInstance
	})
}
