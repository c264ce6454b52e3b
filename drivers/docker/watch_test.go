package docker

import (
	"fmt"
	"testing"

	"github.com/docker/docker/api/types/events"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func drain(q *changeQueue) []drivers.Change {
	var out []drivers.Change
	for {
		c, ok := q.peek()
		if !ok {
			return out
		}
		q.taken(c)
		out = append(out, c)
	}
}

func TestChangeQueue(t *testing.T) {
	q := newChangeQueue()
	exit := func(workload string, code int) drivers.Change {
		return drivers.Change{WorkloadID: workload, Kind: drivers.ChangeExited, ExitCode: code}
	}
	started := drivers.Change{WorkloadID: "a/a", Kind: drivers.ChangeStarted}
	q.push(exit("a/a", 1))
	q.push(exit("b/b", 2))
	q.push(started)
	q.push(exit("a/a", 3))
	got := drain(q)
	if len(got) != 3 || got[0] != exit("a/a", 3) || got[1] != exit("b/b", 2) || got[2] != started {
		t.Errorf("a newer change takes the place of an older one: %+v", got)
	}
	q.push(exit("a/a", 1))
	taken, _ := q.peek()
	q.push(exit("a/a", 2))
	q.taken(taken)
	if got := drain(q); len(got) != 1 || got[0] != exit("a/a", 2) {
		t.Errorf("a change that came while another was taken: %+v", got)
	}
	q.limit = 10
	for i := range 25 {
		q.push(exit(fmt.Sprintf("a/w%d", i), 0))
	}
	got = drain(q)
	if len(got) > 10 || !got[0].Resync {
		t.Errorf("beyond the bound: %d changes, the first %+v, want a resync", len(got), got[0])
	}
	if last := got[len(got)-1]; last.WorkloadID != "a/w24" {
		t.Errorf("what comes after the resync is kept: last %+v", last)
	}
}

func TestEventTranslator(t *testing.T) {
	event := func(action string, attrs ...string) events.Message {
		m := events.Message{Action: events.Action(action), TimeNano: 1, Actor: events.Actor{ID: "c1", Attributes: map[string]string{
			drivers.LabelWorkload: "a/b", drivers.LabelInstance: "2", drivers.LabelRole: drivers.RoleInstance}}}
		for i := 0; i < len(attrs); i += 2 {
			m.Actor.Attributes[attrs[i]] = attrs[i+1]
		}
		return m
	}
	die := func(code string) events.Message { return event("die", "exitCode", code) }
	tests := []struct {
		name string
		in   []events.Message
		want []string
	}{
		{"a life", []events.Message{event("start"), die("3"), event("destroy")}, []string{"started 0", "exited 3", "removed 0"}},
		{"killed for memory", []events.Message{event("start"), event("oom"), die("137")}, []string{"started 0", "other 0", "oom-killed 137"}},
		{"told of memory last", []events.Message{event("start"), die("137"), event("oom")}, []string{"started 0", "exited 137", "oom-killed 137"}},
		{"a child killed in an earlier life", []events.Message{event("oom"), event("start"), die("1")}, []string{"other 0", "started 0", "exited 1"}},
		{"health", []events.Message{event("health_status: healthy"), event("health_status: unhealthy")}, []string{"health 0", "health 0"}},
		{"others", []events.Message{event("pause"), event("update")}, []string{"other 0", "other 0"}},
		{"a hook", []events.Message{event("start", drivers.LabelRole, drivers.RoleHook)}, nil},
		{"nobody's", []events.Message{event("start", drivers.LabelWorkload, "")}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var tr eventTranslator
			var got []string
			for _, m := range tt.in {
				if c, ok := tr.translate(m); ok {
					if c.WorkloadID != "a/b" || c.Instance != 2 || c.InstanceID != "c1" || c.At.UnixNano() != 1 {
						t.Errorf("%+v", c)
					}
					got = append(got, fmt.Sprint(c.Kind, " ", c.ExitCode))
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
