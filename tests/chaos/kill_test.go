//go:build integration

package chaos

import (
	"fmt"
	"testing"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// kills is how many random points of a command the runtime is killed at.
const kills = 50

// TestKilledAtAnyPoint kills the runtime, embedded NATS and all, with SIGKILL at random
// points of deploys, updates, restarts and destroys, and starts it again: one result
// each, one workload each, nothing astray (fault 1, invariants 1 to 3).
func TestKilledAtAnyPoint(t *testing.T) {
	random := seed(t)
	node := fmt.Sprintf("kill-%x", random.Uint32())
	docker := newEngine(t, node)
	p := newProcess(t, node, "", "docker")
	p.env = append(p.env, "KRANIX_DOCKER_HOST="+docker.host)
	p.start()
	c := newCore(t, p.url)

	// How long one takes undisturbed is the span the kills are spread over.
	began := time.Now()
	probe := c.send("docker", subjects.Deploy, "probe", docker.spec("probe", nil))
	if r := c.result(probe); r.Outcome != subjects.Done {
		t.Fatalf("an undisturbed deploy ended %s: %s", r.Outcome, r.Message)
	}
	span := time.Since(began) + 100*time.Millisecond

	alive := []string{"probe"}
	want := map[string]string{"probe": ""} // the version each shall run
	for i := range kills {
		var cmd command
		restarting := ""
		switch kind := random.IntN(10); {
		case kind < 5:
			name := fmt.Sprintf("w%d", i)
			spec := docker.spec(name, map[string]string{"VERSION": "1"})
			spec.Volumes = []drivers.Volume{{Source: "data", Target: "/data"}}
			spec.Networks = []drivers.Network{{Name: "net" + name}}
			cmd = c.send("docker", subjects.Deploy, name, spec)
			alive, want[name] = append(alive, name), "1"
		case kind < 8:
			name, version := alive[random.IntN(len(alive))], fmt.Sprint("u", i)
			cmd = c.send("docker", subjects.Deploy, name, docker.spec(name, map[string]string{"VERSION": version}))
			want[name] = version
		case kind < 9:
			restarting = alive[random.IntN(len(alive))]
			cmd = c.send("docker", subjects.Restart, restarting, nil)
		default:
			at := random.IntN(len(alive))
			cmd = c.send("docker", subjects.Destroy, alive[at], nil)
			delete(want, alive[at])
			alive = append(alive[:at], alive[at+1:]...)
			if len(alive) == 0 {
				alive, want["probe"] = []string{"probe"}, ""
				c.result(c.send("docker", subjects.Deploy, "probe", docker.spec("probe", nil)))
			}
		}
		after := time.Duration(random.Int64N(int64(span)))
		<-time.After(after)
		p.kill()
		p.start()
		if r := c.result(cmd); r.Outcome != subjects.Done {
			t.Fatalf("kill %d, %s after %s %s was acknowledged: it ended %s: %s", i, after, cmd.verb, cmd.name, r.Outcome, r.Message)
		}
		list := docker.containers(cmd.name)
		switch {
		case cmd.verb == subjects.Destroy && len(list) != 0:
			t.Fatalf("kill %d, %s after the destroy of %s: %d containers are left", i, after, cmd.name, len(list))
		case cmd.verb != subjects.Destroy && (len(list) != 1 || list[0].State != "running"):
			t.Fatalf("kill %d, %s after %s %s: %d containers, want one that runs: %+v", i, after, cmd.verb, cmd.name, len(list), list)
		}
	}
	for name, version := range want {
		list := docker.containers(name)
		if len(list) != 1 {
			t.Errorf("%s has %d containers", name, len(list))
			continue
		}
		inspect, err := docker.cli.ContainerInspect(t.Context(), list[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, e := range inspect.Config.Env {
			fmt.Sscanf(e, "VERSION=%s", &got)
		}
		if got != version {
			t.Errorf("%s runs version %q, the last deploy asked for %q", name, got, version)
		}
	}
	if n, m := len(docker.containers("")), len(want); n != m {
		t.Errorf("%d containers for %d workloads", n, m)
	}
	for name := range want {
		if r := c.result(c.send("docker", subjects.Destroy, name, nil)); r.Outcome != subjects.Done {
			t.Errorf("destroy %s: %s", name, r.Message)
		}
	}
	docker.nothingLeft()
	p.terminate()
}

// nothingLeft checks that the node owns nothing on the engine.
func (e *engine) nothingLeft() {
	e.t.Helper()
	mine := filters.NewArgs(filters.Arg("label", drivers.LabelNode+"="+e.node))
	for _, c := range e.containers("") {
		e.t.Errorf("container %v is left", c.Names)
	}
	networks, err := e.cli.NetworkList(e.t.Context(), network.ListOptions{Filters: mine})
	if err != nil {
		e.t.Fatal(err)
	}
	for _, n := range networks {
		e.t.Errorf("network %s is left", n.Name)
	}
	volumes, err := e.cli.VolumeList(e.t.Context(), volume.ListOptions{Filters: mine})
	if err != nil {
		e.t.Fatal(err)
	}
	for _, v := range volumes.Volumes {
		e.t.Errorf("volume %s is left", v.Name)
	}
}
