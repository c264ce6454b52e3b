package subjects

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var cart = Workload{Backend: "docker", Node: "n1", Namespace: "shop", Name: "cart"}

func TestSubjectsOfTheContract(t *testing.T) {
	command := CommandID("/core", "1")
	for _, tc := range []struct {
		name  string
		build func() (string, error)
		want  string
	}{
		{"command", func() (string, error) { return Command(cart, Deploy) }, "kranix.cmd.docker.n1.shop.cart.deploy"},
		{"command to the pool", func() (string, error) { return Command(cart.On(Any), Destroy) }, "kranix.cmd.docker._.shop.cart.destroy"},
		{"command to the default", func() (string, error) {
			return Command(Workload{Any, Any, "shop", "cart"}, Restart)
		}, "kranix.cmd._._.shop.cart.restart"},
		{"assignment", func() (string, error) { return Assignment(cart) }, "kranix.asg.docker.n1.shop.cart"},
		{"event", func() (string, error) { return Event(cart, "rolling-back") }, "kranix.evt.docker.n1.shop.cart.rolling-back"},
		{"result", func() (string, error) { return Result(cart, command) }, "kranix.res.docker.n1.shop.cart." + command},
		{"log", func() (string, error) { return Log(cart, 12) }, "kranix.log.docker.n1.shop.cart.12"},
		{"metric", func() (string, error) { return Metric(cart) }, "kranix.metric.docker.n1.shop.cart"},
		{"dead letter", func() (string, error) { return DeadLetter(cart) }, "kranix.dlq.docker.n1.shop.cart"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tc.build()
			if err != nil || got != tc.want {
				t.Fatalf("got %q, %v, want %q", got, err, tc.want)
			}
			s, err := Parse(got)
			if err != nil || s.String() != got {
				t.Fatalf("parsed back as %+v, %v", s, err)
			}
		})
	}
	if got, err := Node("n1", "heartbeat"); err != nil || got != "kranix.node.n1.heartbeat" {
		t.Errorf("Node: %q, %v", got, err)
	}
}

func TestBuildersRefuseAndNameTheToken(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, tc := range []struct {
		name  string
		build func() (string, error)
		token string
	}{
		{"empty backend", func() (string, error) { return Command(Workload{"", "n", "a", "b"}, Deploy) }, "backend"},
		{"wildcard node", func() (string, error) { return Command(Workload{"docker", "*", "a", "b"}, Deploy) }, "node"},
		{"dots in the namespace", func() (string, error) { return Metric(Workload{"docker", "n", "a.b", "c"}) }, "namespace"},
		{"any as the namespace", func() (string, error) { return Metric(Workload{"docker", "n", Any, "c"}) }, "namespace"},
		{"a long name", func() (string, error) { return Metric(Workload{"docker", "n", "a", long}) }, "name"},
		{"upper case", func() (string, error) { return Metric(Workload{"docker", "n", "a", "Cart"}) }, "name"},
		{"a dash at the end", func() (string, error) { return Metric(Workload{"docker", "n", "a", "cart-"}) }, "name"},
		{"a line break", func() (string, error) { return Metric(Workload{"docker", "n", "a", "cart\r\nPUB"}) }, "name"},
		{"unknown verb", func() (string, error) { return Command(cart, "scale") }, "verb"},
		{"full wildcard phase", func() (string, error) { return Event(cart, ">") }, "phase"},
		{"short command token", func() (string, error) { return Result(cart, "abc") }, "command"},
		{"negative instance", func() (string, error) { return Log(cart, -1) }, "instance"},
		{"node kind", func() (string, error) { return Node("n1", "a.b") }, "kind"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tc.build()
			if !errors.Is(err, ErrSubject) || !strings.Contains(err.Error(), tc.token) {
				t.Fatalf("got %q, %v, want ErrSubject naming %q", got, err, tc.token)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, s := range []string{
		"", ".", "kranix", "kranix.cmd", "kranix.cmd.docker.n1.shop", "kranix.cmd.docker.n1.shop.cart",
		"kranix.cmd.docker.n1.shop.cart.", "kranix.cmd.docker.n1.shop.cart.deploy.now",
		"other.cmd.docker.n1.shop.cart.deploy", "kranix.xyz.docker.n1.shop.cart.deploy",
		"kranix.cmd.*.n1.shop.cart.deploy", "kranix.metric.docker.n1.shop.cart.0", "kranix.metric.docker.n1.shop.cart.",
		"kranix.log.docker.n1.shop.cart.007", "kranix.log.docker.n1.shop.cart.100000",
		"kranix.node.n1.heartbeat.a.b", "kranix.evt.docker.n1.shop.cart", "kranix.evt.docker..shop.cart.running",
	} {
		if got, err := Parse(s); !errors.Is(err, ErrSubject) {
			t.Errorf("%q: got %+v, %v, want ErrSubject", s, got, err)
		}
	}
}

func labels() *rapid.Generator[string] {
	return rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?`)
}

func workloads() *rapid.Generator[Workload] {
	return rapid.Custom(func(t *rapid.T) Workload {
		token := rapid.OneOf(labels(), rapid.Just(Any))
		return Workload{
			Backend: token.Draw(t, "backend"), Node: token.Draw(t, "node"),
			Namespace: labels().Draw(t, "namespace"), Name: labels().Draw(t, "name"),
		}
	})
}

func TestSubjectRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Subject{Workload: workloads().Draw(t, "workload")}
		s.Kind = rapid.SampledFrom([]Kind{KindCommand, KindAssignment, KindEvent, KindResult, KindLog, KindMetric, KindDeadLetter}).Draw(t, "kind")
		switch s.Kind {
		case KindCommand:
			s.Last = string(rapid.SampledFrom(Verbs()).Draw(t, "verb"))
		case KindEvent:
			s.Last = labels().Draw(t, "phase")
		case KindResult:
			s.Last = CommandID(rapid.String().Draw(t, "source"), rapid.String().Draw(t, "id"))
		case KindLog:
			s.Last = rapid.StringMatching(`0|[1-9][0-9]{0,4}`).Draw(t, "instance")
		}
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		if got, err := Parse(s.String()); err != nil || got != s {
			t.Fatalf("parsed %q as %+v, %v, want %+v", s, got, err, s)
		}
		if got, err := ParseKey(s.Workload.Key()); err != nil || got != s.Workload {
			t.Fatalf("parsed key %q as %+v, %v", s.Workload.Key(), got, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"kranix.cmd.docker._.shop.cart.deploy", "kranix.log._.n.a.b.0", "kranix.res.a.b.c.d.", "a.b.c.d.e.f.g", "..\r\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, subject string) {
		s, err := Parse(subject)
		if err != nil {
			if !errors.Is(err, ErrSubject) {
				t.Fatalf("%q: %v is not ErrSubject", subject, err)
			}
			return
		}
		if s.String() != subject {
			t.Fatalf("%q was parsed as %q", subject, s)
		}
		if strings.ContainsAny(subject, "*> \t\r\n") {
			t.Fatalf("%q was accepted", subject)
		}
	})
}

func TestCommandID(t *testing.T) {
	seen := map[string]string{}
	for _, pair := range [][2]string{{"a", "b"}, {"a|", "b"}, {"a", "|b"}, {"ab", ""}, {"", "ab"}, {"1|a", "b"}, {"a", "b "}} {
		id := CommandID(pair[0], pair[1])
		if !isCommandID(id) {
			t.Errorf("%q is no token", id)
		}
		if other, taken := seen[id]; taken {
			t.Errorf("%q and %q share %s", pair, other, id)
		}
		seen[id] = strings.Join(pair[:], " and ")
	}
	// The token is in subjects and labels that outlive a release: it must not change.
	if got, want := CommandID("/kranix/core", "01"), "6wcaxox6suu46wl6jpoivtomiu"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestNodeLabel(t *testing.T) {
	for host, want := range map[string]string{
		"web-1": "web-1", "Web_1.example.COM": "web-1-example-com", "--x--": "x", "": "", "???": "",
		strings.Repeat("a", 62) + ".b": strings.Repeat("a", 62), "zürich": "z--rich",
	} {
		got := NodeLabel(host)
		if got != want || (got != "" && !isLabel(got)) {
			t.Errorf("%q: got %q, want %q", host, got, want)
		}
	}
}

func TestKeys(t *testing.T) {
	if got, err := InstanceKey(cart, 3); err != nil || got != "docker.n1.shop.cart.3" {
		t.Errorf("InstanceKey: %q, %v", got, err)
	}
	for _, instance := range []int{-1, 100000} {
		if _, err := InstanceKey(cart, instance); !errors.Is(err, ErrSubject) {
			t.Errorf("instance %d: %v", instance, err)
		}
	}
	if _, err := InstanceKey(cart.On("*"), 0); !errors.Is(err, ErrSubject) {
		t.Errorf("wildcard: %v", err)
	}
	for _, key := range []string{"", "docker.n1.shop", "docker.n1.shop.cart.0", "docker.*.shop.cart", "docker.n1.shop."} {
		if _, err := ParseKey(key); !errors.Is(err, ErrSubject) {
			t.Errorf("%q: %v", key, err)
		}
	}
	if got := cart.Identity().Key(); got != "docker._.shop.cart" {
		t.Errorf("identity: %q", got)
	}
}

// matches is the server's rule for subjects and filters.
func matches(filter, subject string) bool {
	f, s := strings.Split(filter, "."), strings.Split(subject, ".")
	for i, token := range f {
		if token == ">" {
			return len(s) > i
		}
		if i >= len(s) || (token != "*" && token != s[i]) {
			return false
		}
	}
	return len(f) == len(s)
}

func TestFilters(t *testing.T) {
	id := CommandID("/core", "1")
	mine := func(s string, _ error) string { return s }
	subjects := []string{
		mine(Command(cart, Deploy)), mine(Command(cart.On(Any), Restart)), mine(Command(Workload{Any, Any, "shop", "cart"}, Deploy)),
		mine(Event(cart, "running")), mine(Event(cart.On("n2"), "failed")), mine(Event(Workload{"sim", "n1", "shop", "web"}, "running")),
		mine(Result(cart, id)), mine(Result(cart.On("n2"), id)), mine(Result(cart, CommandID("/core", "2"))),
		mine(Log(cart, 0)), mine(Log(cart, 1)), mine(Metric(cart)), mine(DeadLetter(cart)), mine(Assignment(cart)),
	}
	for _, tc := range []struct {
		name   string
		filter string
		err    error
		want   []int
	}{
		{name: "ResultFilter", filter: ResultFilter(id), want: []int{6, 7}},
		{name: "ResultFilterOf", filter: ResultFilterOf(Workload{Any, Any, "shop", "cart"}, id), want: []int{6, 7}},
		{name: "ResultFilterOf another", filter: ResultFilterOf(Workload{"docker", "n1", "shop", "web"}, id), want: nil},
		{name: "ResultsOf", filter: ResultsOf(cart), want: []int{6, 7, 8}},
		{name: "CommandsOf", filter: CommandsOf(cart), want: []int{0, 1}},
		{name: "CommandsOf default", filter: CommandsOf(Workload{Any, Any, "shop", "cart"}), want: []int{2}},
		{name: "EventsOf", filter: EventsOf(cart), want: []int{3, 4}},
		{name: "LogsOf", filter: LogsOf(cart), want: []int{9, 10}},
		{name: "EventsFilter all", filter: mine(EventsFilter("", "", "", "", "")), want: []int{3, 4, 5}},
		{name: "EventsFilter phase", filter: mine(EventsFilter("", "", "shop", "", "running")), want: []int{3, 5}},
		{name: "CommandsFilter pool", filter: mine(CommandsFilter("", Any, "", "", "")), want: []int{1, 2}},
		{name: "CommandsFilter verb", filter: mine(CommandsFilter("", "", "", "cart", Deploy)), want: []int{0, 2}},
		{name: "ResultsFilter", filter: mine(ResultsFilter("docker", "n2", "", "", "")), want: []int{7}},
		{name: "LogsFilter any", filter: mine(LogsFilter("", "", "shop", "cart", -1)), want: []int{9, 10}},
		{name: "LogsFilter one", filter: mine(LogsFilter("", "", "shop", "cart", 1)), want: []int{10}},
		{name: "MetricsFilter", filter: mine(MetricsFilter("docker", "", "", "")), want: []int{11}},
		{name: "DeadLettersFilter", filter: mine(DeadLettersFilter("", "", "", "cart")), want: []int{12}},
		{name: "AssignmentsFilter", filter: mine(AssignmentsFilter("docker", "n1", "", "")), want: []int{13}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []int
			for i, s := range subjects {
				if matches(tc.filter, s) {
					got = append(got, i)
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("%q matches %v, want %v", tc.filter, got, tc.want)
			}
		})
	}
	if got := mine(StatusKeyFilter("", "n1", "", "")); got != "*.n1.*.*" {
		t.Errorf("StatusKeyFilter: %q", got)
	}
	if got := mine(WorkloadKeyFilter("docker", "shop", "")); got != "docker._.shop.*" {
		t.Errorf("WorkloadKeyFilter: %q", got)
	}
}

func TestFiltersRefuse(t *testing.T) {
	for name, build := range map[string]func() (string, error){
		"wildcard":    func() (string, error) { return EventsFilter("", "", ">", "", "") },
		"dots":        func() (string, error) { return LogsFilter("", "", "shop.cart", "", -1) },
		"phase":       func() (string, error) { return EventsFilter("", "", "", "", "a.b") },
		"verb":        func() (string, error) { return CommandsFilter("", "", "", "", "scale") },
		"result":      func() (string, error) { return ResultsFilter("", "", "", "", "x") },
		"any as name": func() (string, error) { return StatusKeyFilter("", "", "", Any) },
		"key":         func() (string, error) { return WorkloadKeyFilter("do cker", "", "") },
	} {
		if got, err := build(); !errors.Is(err, ErrSubject) {
			t.Errorf("%s: %q, %v, want ErrSubject", name, got, err)
		}
	}
}
