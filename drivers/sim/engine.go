package sim

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// Engine holds what a container engine holds: images, containers, networks and
// volumes. It outlives the drivers that use it, as dockerd outlives a worker. Its
// methods may be called concurrently. Close it.
type Engine struct {
	cfg      Config
	defaults steering
	// timers counts the timers that are set or running.
	timers sync.WaitGroup

	mu         sync.Mutex
	closed     bool
	down       bool
	nextID     uint64
	containers map[string]*container
	byName     map[string]*container
	byWorkload map[string][]*container
	desired    map[string]int
	volumes    map[string]*volume
	networks   map[string]*network
	images     map[string]*image
	published  map[string]uint64
	ports      map[hostPort]string
	watchers   map[*watcher]struct{}
	// waiting has, per workload somebody waits for, a channel closed at its next change.
	waiting map[string]chan struct{}
	journal journal
	// failed counts, per workload and call, how often a steered failure was returned.
	failed map[string]map[string]int
	store  *store
}

type hostPort struct {
	port     int
	protocol string
}

// foreign owns the ports that OccupyPort took.
const foreign = "foreign"

// firstFreePort is where the ports of the engine's choice start.
const firstFreePort = 32768

type volume struct {
	Name     string `json:"name"`
	Workload string `json:"workload,omitempty"`
	Node     string `json:"node,omitempty"`
	Retain   bool   `json:"retain,omitempty"`
	Sequence uint64 `json:"sequence,omitempty"`
	// Starts is how many containers ever started with the volume: enough to see whether
	// it was kept or made anew.
	Starts int `json:"starts"`
}

type network struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
	Node      string `json:"node,omitempty"`
}

// NewEngine makes an engine, with the state of cfg.StateFile when that exists. Errors:
// ErrInvalidSpec (cfg, or a file that is no state file), ErrConflict (another process
// uses the file).
func NewEngine(cfg Config) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, &drivers.Error{Class: drivers.ErrInvalidSpec, Op: "configure sim", Err: err}
	}
	cfg = cfg.withDefaults()
	health, err := parseHealth(cfg.Health)
	if err != nil {
		return nil, &drivers.Error{Class: drivers.ErrInvalidSpec, Op: "configure sim", Err: err}
	}
	e := &Engine{
		cfg: cfg,
		defaults: steering{exits: cfg.ExitAfter > 0, exitAfter: cfg.ExitAfter, exitCode: cfg.ExitCode, oom: cfg.OOM,
			health: health, logRate: cfg.LogRate, logBytes: cfg.LogLineBytes},
		containers: map[string]*container{},
		byName:     map[string]*container{},
		byWorkload: map[string][]*container{},
		desired:    map[string]int{},
		volumes:    map[string]*volume{},
		networks:   map[string]*network{},
		images:     map[string]*image{},
		published:  map[string]uint64{},
		ports:      map[hostPort]string{},
		watchers:   map[*watcher]struct{}{},
		waiting:    map[string]chan struct{}{},
		failed:     map[string]map[string]int{},
		journal:    journal{limit: cfg.JournalLimit},
	}
	for _, ref := range cfg.Images {
		if err := e.AddImage(ref); err != nil {
			return nil, err
		}
	}
	if cfg.StateFile != "" {
		if err := e.open(cfg.StateFile); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Close stops the engine's timers and gives its state file free. What runs is
// forgotten, or goes on when the state file is opened again.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	for _, c := range e.containers {
		e.arm(c)
	}
	st := e.store
	e.mu.Unlock()
	e.timers.Wait()
	if st == nil {
		return nil
	}
	return st.close()
}

// SetUnavailable makes every call fail with ErrUnavailable, as a stopped engine does,
// until it is called with false; watchers then resync. What runs goes on.
func (e *Engine) SetUnavailable(down bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down = down
	if !down {
		e.resync()
	}
}

// OccupyPort takes a host port as a process does that is not ours; port 0 takes a free
// one. It returns the port. Errors: ErrConflict.
func (e *Engine) OccupyPort(port int, protocol string) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := hostPort{port, cmp.Or(protocol, "tcp")}
	if port == 0 {
		key = e.freePort(key.protocol)
	}
	if owner, ok := e.ports[key]; ok {
		return 0, &drivers.Error{Class: drivers.ErrConflict, Op: fmt.Sprintf("take port %d", port), Err: fmt.Errorf("%s has it", owner)}
	}
	e.ports[key] = foreign
	return key.port, nil
}

// ReleasePort gives back a port that OccupyPort took.
func (e *Engine) ReleasePort(port int, protocol string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := hostPort{port, cmp.Or(protocol, "tcp")}
	if e.ports[key] == foreign {
		delete(e.ports, key)
	}
}

func (e *Engine) freePort(protocol string) hostPort {
	key := hostPort{firstFreePort, protocol}
	for ; e.ports[key] != ""; key.port++ {
	}
	return key
}

// create makes a container that does not run. Errors: ErrConflict (the name is taken
// by another workload or node); a container of that name that is ours is returned with
// ErrAlreadyExists.
func (e *Engine) create(r record, steer steering, secrets map[string]string) (*container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if old, ok := e.byName[r.Name]; ok {
		class := drivers.ErrConflict
		if old.Workload == r.Workload && old.Node == r.Node {
			class = drivers.ErrAlreadyExists
		}
		return old, &drivers.Error{Class: class, Op: "create container " + r.Name,
			Err: fmt.Errorf("container %s has the name", old.ID)}
	}
	e.nextID++
	sum := sha256.Sum256(strconv.AppendUint([]byte(e.cfg.ID+"/"), e.nextID, 10))
	r.ID = hex.EncodeToString(sum[:])
	r.State, r.Created = stateCreated, e.cfg.Clock.Now()
	r.Address = fmt.Sprintf("10.88.%d.%d", e.nextID>>8&0xff, e.nextID&0xff)
	c := &container{record: r, steer: steer, secrets: secrets}
	e.insert(c)
	e.note(c, EntryCreated, r.Created)
	return c, e.save()
}

func (e *Engine) insert(c *container) {
	e.containers[c.ID] = c
	e.byName[c.Name] = c
	e.byWorkload[c.Workload] = append(e.byWorkload[c.Workload], c)
	e.wake(c.Workload)
}

// start begins a new life of a container that does not run. Starting one that runs
// changes nothing. Errors: ErrNotFound (it was removed), ErrConflict (a host port is
// taken).
func (e *Engine) start(c *container) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.removed {
		return &drivers.Error{Class: drivers.ErrNotFound, Op: "start container " + c.Name}
	}
	if c.State == stateRunning || c.State == stateRestarting {
		return nil
	}
	if c.Role == drivers.RoleInstance {
		if err := e.takePorts(c); err != nil {
			return err
		}
	}
	e.startLife(c, e.cfg.Clock.Now())
	e.advance(c)
	return e.save()
}

func (e *Engine) takePorts(c *container) error {
	for i, p := range c.Spec.Ports {
		if p.HostPort == 0 && !p.Publish {
			continue
		}
		key := hostPort{p.HostPort, p.Protocol}
		if p.HostPort == 0 {
			key = e.freePort(p.Protocol)
		}
		if owner, ok := e.ports[key]; ok && owner != c.ID {
			e.releasePorts(c)
			return &drivers.Error{Class: drivers.ErrConflict, Op: "start container " + c.Name,
				Err:  fmt.Errorf("ports[%d]: host port %d/%s is taken", i, key.port, key.protocol),
				Hint: "choose another hostPort or stop what uses it"}
		}
		e.ports[key] = c.ID
		c.Ports = append(c.Ports, drivers.PublishedPort{Name: p.Name, ContainerPort: p.ContainerPort,
			HostAddress: cmp.Or(p.HostAddress, "0.0.0.0"), HostPort: key.port, Protocol: p.Protocol})
	}
	return nil
}

func (e *Engine) releasePorts(c *container) {
	for _, p := range c.Ports {
		if key := (hostPort{p.HostPort, p.Protocol}); e.ports[key] == c.ID {
			delete(e.ports, key)
		}
	}
	c.Ports = nil
}

// stop ends the life of a container on request; killed says that it did not end by
// itself within its grace.
func (e *Engine) stop(c *container, killed bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.cfg.Clock.Now()
	c.Stopped = true
	switch c.State {
	case stateRunning:
		l := c.last()
		l.End, l.Ended, l.ExitCode = now, true, 143
		if killed {
			l.ExitCode = 137
		}
	case stateRestarting:
	default:
		return e.save()
	}
	c.State, c.health = stateExited, healthNone
	e.releasePorts(c)
	e.note(c, EntryStopped, now)
	e.touch(c, drivers.ChangeExited, now)
	e.arm(c)
	return e.save()
}

// remove removes a container. With unstarted, one that ever ran is left alone.
func (e *Engine) remove(c *container, unstarted bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.removed || (unstarted && len(c.Lives) > 0) {
		return nil
	}
	now := e.cfg.Clock.Now()
	if c.State == stateRunning {
		l := c.last()
		l.End, l.Ended, l.ExitCode = now, true, 137
		e.note(c, EntryStopped, now)
	}
	e.releasePorts(c)
	c.removed, c.State = true, stateExited
	delete(e.containers, c.ID)
	delete(e.byName, c.Name)
	rest := slices.DeleteFunc(slices.Clone(e.byWorkload[c.Workload]), func(o *container) bool { return o == c })
	if len(rest) == 0 {
		delete(e.byWorkload, c.Workload)
	} else {
		e.byWorkload[c.Workload] = rest
	}
	e.note(c, EntryRemoved, now)
	e.touch(c, drivers.ChangeRemoved, now)
	e.arm(c)
	return e.save()
}

// of returns the containers of a workload on a node, in order of creation.
func (e *Engine) of(workloadID, node string) []*container {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]*container, 0, len(e.byWorkload[workloadID]))
	for _, c := range e.byWorkload[workloadID] {
		if c.Node == node {
			out = append(out, c)
		}
	}
	return out
}

// workloads returns the IDs of the workloads of a node, of one namespace or, when it
// is empty, of all, in order.
func (e *Engine) workloads(namespace, node string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var ids []string
	for id, cs := range e.byWorkload {
		if namespace != "" && !hasNamespace(id, namespace) {
			continue
		}
		if slices.ContainsFunc(cs, func(c *container) bool { return c.Node == node && c.Role == drivers.RoleInstance }) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func hasNamespace(id, namespace string) bool {
	return len(id) > len(namespace) && id[:len(namespace)] == namespace && id[len(namespace)] == '/'
}

// setDesired records how many instances a workload should have.
func (e *Engine) setDesired(workloadID string, n int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.desired[workloadID] = n
	return e.save()
}

// ContainerInfo is a container as a person looking at the engine would see it.
type ContainerInfo struct {
	ID, Name, WorkloadID, Node string
	Labels                     map[string]string
	Running                    bool
	// Starts is how often it was started.
	Starts int
}

// Containers returns all containers, whoever owns them, in order of name.
func (e *Engine) Containers() []ContainerInfo {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]ContainerInfo, 0, len(e.containers))
	for _, c := range e.containers {
		// A spec that came through Validate always marshals.
		spec, _ := json.Marshal(c.Spec)
		out = append(out, ContainerInfo{ID: c.ID, Name: c.Name, WorkloadID: c.Workload, Node: c.Node,
			Labels: c.labels(string(spec)), Running: c.State == stateRunning, Starts: c.Dropped + len(c.Lives)})
	}
	slices.SortFunc(out, func(a, b ContainerInfo) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Volumes returns the names of the volumes the engine holds, in order.
func (e *Engine) Volumes() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.volumes))
}

// Networks returns the names of the networks the engine holds, in order.
func (e *Engine) Networks() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.networks))
}

// Get answers for what listens on a host port: the body that SIM_BODY gives it, or its
// workload ID. Errors: ErrUnavailable when nothing of ours that runs listens.
func (e *Engine) Get(port int, protocol string) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, ok := e.containers[e.ports[hostPort{port, cmp.Or(protocol, "tcp")}]]
	if !ok || c.State != stateRunning {
		return "", &drivers.Error{Class: drivers.ErrUnavailable, Op: fmt.Sprintf("connect to port %d", port), Err: fmt.Errorf("connection refused")}
	}
	return cmp.Or(c.steer.body, c.Workload), nil
}
