// Package compliance is the suite every driver must pass: the promises of
// drivers.RuntimeDriver and its optional interfaces, one case each, run against a real
// engine or a simulated one.
//
// A driver's test builds a Harness and calls Run. The cases are an explicit list
// (Cases), so a case that was lost shows. Nothing is skipped: what a backend does not
// do is declared in Features, and the suite then asserts that it refuses. Deliberately
// broken drivers prove, in this package's own tests, that each promise is checked.
package compliance

import (
	"context"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// T is what a case needs of a *testing.T. It is an interface so that the suite's own
// tests can watch a case fail.
type T interface {
	Helper()
	Name() string
	Context() context.Context
	TempDir() string
	Cleanup(func())
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Harness is one backend under test. All functions are set.
type Harness struct {
	// Open makes a driver for a node; calling it again for the same node is a worker's
	// restart: the engine is the same. It closes the driver with the test.
	Open func(t T, node string, secrets drivers.SecretResolver) drivers.RuntimeDriver
	// Node is the node's name, Prefix starts the namespaces of the cases.
	Node, Prefix string
	Workloads    Workloads
	Features     Features
	Timeouts     Timeouts
	// Parallel runs the cases side by side.
	Parallel bool
	// ManyWorkloads is how many the listing case deploys.
	ManyWorkloads int

	// MissingImage is not found where it is pulled from, DeniedImage is denied, and
	// AbsentImage could be pulled but is not on the engine.
	MissingImage, DeniedImage, AbsentImage string
	// Get fetches a path from a published port.
	Get func(ctx context.Context, port drivers.PublishedPort, path string) (string, error)
	// TakePort occupies a host port until the test ends and returns it.
	TakePort func(t T) int
	// Kill ends an instance from outside, as a crash does.
	Kill func(t T, instanceID string)
	// Texts is all that anybody who may look at the engine's objects of a namespace can
	// read: names, labels and arguments. The environment of a process is not part of it.
	Texts func(t T, namespace string) []string
	// Leftovers names what the engine holds that belongs to a namespace: containers,
	// hooks, networks, volumes.
	Leftovers func(t T, namespace string) []string
	// Purge removes what Leftovers names.
	Purge func(t T, namespace string)
	// Neighbour makes something that is not ours and looks like it: the labels of the
	// given workload, but another node's, and a name close to ours. The function it
	// returns says what became of it, "" when it is untouched.
	Neighbour func(t T, workloadID string) (fate func() string)
}

// Workloads makes the specs of workloads that behave in a certain way. Every spec has
// the given name and neither namespace nor update settings.
type Workloads interface {
	// Sleeper runs until it is asked to stop, then ends at once. Two versions are two
	// revisions.
	Sleeper(name string, version int) *drivers.WorkloadSpec
	// Exits ends by itself with a code, some time after its start.
	Exits(name string, after time.Duration, code int) *drivers.WorkloadSpec
	// Prints prints lines at each start and then runs on. "err:" in front of a line
	// sends the rest of it to stderr.
	Prints(name string, lines ...string) *drivers.WorkloadSpec
	// PrintsAndExits prints lines and ends at once with a code.
	PrintsAndExits(name string, code int, lines ...string) *drivers.WorkloadSpec
	// LongLine prints one line of n times 'x', then the line "end", and runs on.
	LongLine(name string, n int) *drivers.WorkloadSpec
	// Ticks prints lines about ten milliseconds apart, each with a number that rises
	// within one life and no other digits before it: "tick 7".
	Ticks(name string) *drivers.WorkloadSpec
	// ShowsEnv prints "<name>=<value>" for variables and "<path>=<content>" for files,
	// and runs on.
	ShowsEnv(name string, variables, files []string) *drivers.WorkloadSpec
	// Serves answers HTTP on container port 8080 with body at "/".
	Serves(name, body string) *drivers.WorkloadSpec
	// Fetches fetches http://<host>:8080/ until it is answered, prints "got=<body>" and
	// runs on.
	Fetches(name, host string) *drivers.WorkloadSpec
	// Becomes has a health check of the kind ("exec", "http", "tcp") that passes some
	// time after the start, or never when after is negative.
	Becomes(name, kind string, after time.Duration) *drivers.WorkloadSpec
	// NeverHealthy adds a health check that fails.
	NeverHealthy(spec *drivers.WorkloadSpec) *drivers.WorkloadSpec
	// IgnoresTerm does not end when it is asked to.
	IgnoresTerm(name string) *drivers.WorkloadSpec
	// OutOfMemory has a memory limit and, some time after its start, needs more.
	OutOfMemory(name string, after time.Duration) *drivers.WorkloadSpec
	// Counts appends to a file in the named volume "data" at each start, prints
	// "starts=<lines>" and runs on. Its hook, when it has one by WithHook, appends too.
	Counts(name string, version int) *drivers.WorkloadSpec
	// WithHook adds a pre-deploy hook that ends with a code after it appended to the
	// volume "data", where the spec has it.
	WithHook(spec *drivers.WorkloadSpec, code int) *drivers.WorkloadSpec
}

// Features is what a backend does. What is false must be refused or absent.
type Features struct {
	// Watch, Logs, Stats, Images, SpecCheck, Identity are the optional interfaces.
	Watch, Logs, Stats, Images, SpecCheck, Identity bool
	// OOM: memory limits are enforced.
	OOM bool
	// Refused are spec fields, by path, that the backend cannot honour, with a function
	// that sets them: deploying one must be ErrUnsupported and name the path.
	Refused map[string]func(*drivers.WorkloadSpec)
}

// Timeouts are what a backend is given. An engine in memory is faster than a real one.
type Timeouts struct {
	// Step bounds whatever is waited for.
	Step time.Duration
	// Monitor is the monitor window of the specs.
	Monitor time.Duration
	// Event bounds the time from a crash to its Change.
	Event time.Duration
	// Slack is what an operation may take above the times its spec asks for.
	Slack time.Duration
}
