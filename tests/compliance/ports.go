package compliance

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func portCases() []Case {
	return []Case{
		{"PortIsPublished", "a published port is in the status and answers", published},
		{"FixedPortSurvivesUpdate", "an update of a workload with a fixed port keeps the port", fixedPort},
		{"TakenPortIsConflict", "a port somebody else has is ErrConflict, names the port and leaves nothing", takenPort},
	}
}

func (r *run) wantServed(id, body string) drivers.PublishedPort {
	r.Helper()
	in := r.instance(id)
	if len(in.Ports) == 0 {
		r.Fatalf("want a published port, got %+v", in)
	}
	p := in.Ports[0]
	if p.ContainerPort != 8080 || p.HostPort == 0 || p.Protocol != "tcp" || p.Name != "http" {
		r.Errorf("want http, 8080/tcp on a host port, got %+v", p)
	}
	r.eventually(fmt.Sprintf("port %d answers", p.HostPort), func() error {
		got, err := r.h.Get(r.timed(), p, "/")
		if err == nil && strings.TrimSpace(got) != body {
			err = fmt.Errorf("got %q", got)
		}
		return err
	})
	return p
}

func published(r *run) {
	s := r.h.Workloads.Serves("web", "here I am")
	s.Ports = []drivers.Port{{Name: "http", ContainerPort: 8080, Publish: true, HostAddress: "127.0.0.1"}}
	s = r.spec(s)
	r.deploy(s)
	if p := r.wantServed(s.ID(), "here I am"); p.HostAddress != "127.0.0.1" {
		r.Errorf("want host address 127.0.0.1, got %+v", p)
	}
}

func fixedPort(r *run) {
	// A port that was just free is free again, as good as always.
	probe := r.h.Workloads.Serves("probe", "x")
	probe.Ports = []drivers.Port{{Name: "http", ContainerPort: 8080, Publish: true, HostAddress: "127.0.0.1"}}
	probe = r.spec(probe)
	r.deploy(probe)
	ports := r.instance(probe.ID()).Ports
	if len(ports) != 1 {
		r.Fatalf("want one port, got %+v", ports)
	}
	port := ports[0].HostPort
	r.destroy(probe.ID())
	for _, body := range []string{"one", "two"} {
		s := r.h.Workloads.Serves("web", body)
		s.Ports = []drivers.Port{{Name: "http", ContainerPort: 8080, HostPort: port, HostAddress: "127.0.0.1"}}
		s = r.spec(s)
		r.deploy(s)
		if p := r.wantServed(s.ID(), body); p.HostPort != port {
			r.Errorf("want host port %d, got %+v", port, p)
		}
	}
}

func takenPort(r *run) {
	port := r.h.TakePort(r.T)
	s := r.h.Workloads.Serves("web", "never")
	s.Ports = []drivers.Port{{Name: "http", ContainerPort: 8080, HostPort: port, HostAddress: "127.0.0.1"}}
	s = r.spec(s)
	_, err := r.tryDeploy(s)
	r.wantClass("deploy", err, drivers.ErrConflict)
	if err != nil && !strings.Contains(err.Error(), strconv.Itoa(port)) {
		r.Errorf("want port %d named, got %v", port, err)
	}
	r.wantGone(s.ID())
	r.wantNothingLeft()
}
