package docker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"golang.org/x/sync/errgroup"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// parallelCalls bounds how many engine calls one operation has under way.
const parallelCalls = 8

// object is a container of ours as the engine lists it.
type object struct {
	id, name string
	// state is the engine's word: container.StateRunning and so on.
	state      string
	workloadID string
	role       string
	revision   string
	// ordinal is -1 for a hook.
	ordinal  int
	sequence uint64
	labels   map[string]string
	// networks are the names of the networks it is attached to.
	networks []string
	created  int64
}

// up says whether the object has processes, or will have again by itself.
func (o object) up() bool {
	return o.state == container.StateRunning || o.state == container.StateRestarting || o.state == container.StatePaused
}

// subject names the object in a sentence.
func (o object) subject() string {
	if o.ordinal == hook {
		return "the pre-deploy hook"
	}
	return "instance " + strconv.Itoa(o.ordinal)
}

// spec is what the object was made from, or nil when its label cannot be read.
func (o object) spec() *drivers.WorkloadSpec {
	spec, err := decodeSpec(o.labels[drivers.LabelSpec])
	if err != nil {
		return nil
	}
	return spec
}

func newObject(c container.Summary) object {
	o := object{
		id: c.ID, state: c.State, labels: c.Labels, created: c.Created,
		workloadID: c.Labels[drivers.LabelWorkload],
		role:       c.Labels[drivers.LabelRole],
		revision:   c.Labels[drivers.LabelRevision],
		ordinal:    hook,
		sequence:   sequenceOf(c.Labels),
	}
	if len(c.Names) > 0 {
		o.name = c.Names[0]
		if o.name != "" && o.name[0] == '/' {
			o.name = o.name[1:]
		}
	}
	if n, err := strconv.Atoi(c.Labels[drivers.LabelInstance]); err == nil && o.role == drivers.RoleInstance {
		o.ordinal = n
	}
	if c.NetworkSettings != nil {
		for name := range c.NetworkSettings.Networks {
			o.networks = append(o.networks, name)
		}
	}
	return o
}

func sequenceOf(labels map[string]string) uint64 {
	n, err := strconv.ParseUint(labels[drivers.LabelSequence], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// owned filters for what this node made for a workload; for any workload when
// workloadID is empty.
func (d *Driver) owned(workloadID string) filters.Args {
	args := filters.NewArgs(filters.Arg("label", drivers.LabelNode+"="+d.env.Node))
	if workloadID == "" {
		args.Add("label", drivers.LabelWorkload)
	} else {
		args.Add("label", drivers.LabelWorkload+"="+workloadID)
	}
	return args
}

// observe lists the containers of a workload, in whatever state, the instances by
// ordinal and then by age.
func (d *Driver) observe(ctx context.Context, workloadID string) ([]object, error) {
	return d.list(ctx, "list containers of "+workloadID, d.owned(workloadID))
}

func (d *Driver) list(ctx context.Context, op string, args filters.Args) ([]object, error) {
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	found, err := d.cli.ContainerList(ctx, container.ListOptions{All: true, Filters: args})
	if err != nil {
		return nil, classify(op, err)
	}
	objects := make([]object, 0, len(found))
	for _, c := range found {
		objects = append(objects, newObject(c))
	}
	slices.SortFunc(objects, func(a, b object) int {
		return cmp.Or(cmp.Compare(a.workloadID, b.workloadID), cmp.Compare(a.ordinal, b.ordinal),
			cmp.Compare(a.created, b.created), cmp.Compare(a.sequence, b.sequence))
	})
	return objects, nil
}

// inspected is an object with the engine's full account of it.
type inspected struct {
	object
	container.InspectResponse
}

// inspectAll reads the objects in parallel. Those that have gone meanwhile are left
// out.
func (d *Driver) inspectAll(ctx context.Context, objects []object) ([]inspected, error) {
	found := make([]*inspected, len(objects))
	err := parallel(ctx, len(objects), func(ctx context.Context, i int) error {
		r, err := d.inspect(ctx, objects[i].id)
		if cerrdefs.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return classify("inspect container "+objects[i].name, err)
		}
		found[i] = &inspected{object: objects[i], InspectResponse: r}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]inspected, 0, len(objects))
	for _, f := range found {
		if f != nil {
			out = append(out, *f)
		}
	}
	return out, nil
}

// inspect returns the engine's error as it is, so that callers can tell a container
// that has gone.
func (d *Driver) inspect(ctx context.Context, id string) (container.InspectResponse, error) {
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	r, err := d.cli.ContainerInspect(ctx, id)
	if err == nil && (r.ContainerJSONBase == nil || r.State == nil || r.Config == nil || r.HostConfig == nil) {
		return r, fmt.Errorf("the engine's account of container %s is incomplete", id)
	}
	return r, err
}

// callContext bounds one engine call.
func (d *Driver) callContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d.cfg.CallTimeout)
}

// parallel calls fn for 0..n-1, a bounded number at a time, and returns the first
// error, which cancels the others.
func parallel(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	if n == 1 {
		return fn(ctx, 0)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelCalls)
	for i := range n {
		g.Go(func() error { return fn(ctx, i) })
	}
	return g.Wait() //nolint:wrapcheck // fn's errors say what they are about
}

// keyedLock locks by name. The zero value is ready.
type keyedLock struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

// lock waits for the name to be free, or for ctx to end.
func (k *keyedLock) lock(ctx context.Context, name string) (unlock func(), err error) {
	for {
		k.mu.Lock()
		wait, taken := k.held[name]
		if !taken {
			free := make(chan struct{})
			if k.held == nil {
				k.held = make(map[string]chan struct{})
			}
			k.held[name] = free
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.held, name)
				k.mu.Unlock()
				close(free)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s: %w", name, context.Cause(ctx))
		}
	}
}
