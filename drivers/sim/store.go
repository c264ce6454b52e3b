package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// store is the state file: always the state after the last call that returned.
type store struct {
	path string
	lock *os.File
}

// snapshot is the content of the state file. Secrets are left out: an engine read from
// it prints nothing where they were.
type snapshot struct {
	ID         string              `json:"id"`
	NextID     uint64              `json:"nextId"`
	Containers []record            `json:"containers"`
	Desired    map[string]int      `json:"desired"`
	Volumes    map[string]*volume  `json:"volumes"`
	Networks   map[string]*network `json:"networks"`
	Images     map[string]*image   `json:"images"`
	Published  map[string]uint64   `json:"published"`
	Journal    []Entry             `json:"journal"`
	Dropped    int                 `json:"journalDropped"`
}

// open locks the state file and reads it when it exists.
func (e *Engine) open(path string) error {
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return &drivers.Error{Class: drivers.ErrConflict, Op: "open state file " + path, Err: err,
			Hint: "one process at a time may use it"}
	}
	e.store = &store{path: path, lock: lock}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = e.restore(data)
	}
	if err != nil {
		return errors.Join(&drivers.Error{Class: drivers.ErrInvalidSpec, Op: "read state file " + path, Err: err}, e.store.close())
	}
	return nil
}

func (e *Engine) restore(data []byte) error {
	var s snapshot
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cfg.ID, e.nextID = s.ID, s.NextID
	fill(e.desired, s.Desired)
	fill(e.volumes, s.Volumes)
	fill(e.networks, s.Networks)
	fill(e.images, s.Images)
	fill(e.published, s.Published)
	e.journal.entries, e.journal.dropped = s.Journal, s.Dropped
	for _, r := range s.Containers {
		st, err := e.steer(r.Spec)
		if err != nil {
			return fmt.Errorf("container %s: %w", r.Name, err)
		}
		c := &container{record: r, steer: st}
		if c.Role == drivers.RoleHook {
			c.steer = st.forHook()
		}
		e.insert(c)
		for _, p := range c.Ports {
			e.ports[hostPort{p.HostPort, p.Protocol}] = c.ID
		}
	}
	for _, c := range e.containers {
		// What happened while nobody looked happens now, at its own time.
		e.advance(c)
	}
	return nil
}

func fill[K comparable, V any](into, from map[K]V) {
	for k, v := range from {
		into[k] = v
	}
}

// save replaces the state file. The engine's lock is held. It does not sync: the file
// is there to survive the process, not the machine.
func (e *Engine) save() error {
	if e.store == nil || e.closed {
		return nil
	}
	s := snapshot{ID: e.cfg.ID, NextID: e.nextID, Desired: e.desired, Volumes: e.volumes, Networks: e.networks,
		Images: e.images, Published: e.published, Journal: e.journal.entries, Dropped: e.journal.dropped}
	for _, c := range e.containers {
		s.Containers = append(s.Containers, c.record)
	}
	slices.SortFunc(s.Containers, func(a, b record) int {
		if d := a.Created.Compare(b.Created); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	return e.store.replace(data)
}

func (s *store) replace(data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(s.path), filepath.Base(s.path)+".*")
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), s.path)
	}
	if err != nil {
		return fmt.Errorf("save state: %w", errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}

func (s *store) close() error {
	if err := s.lock.Close(); err != nil {
		return fmt.Errorf("close state file: %w", err)
	}
	return nil
}
