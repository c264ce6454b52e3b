package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

func TestTable(t *testing.T) {
	rows := [][]cell{
		{text("shop/web"), word("running"), text("")},
		{text("a/b"), word("failed"), text("näher\n\x1b[31m")},
	}
	head := []string{"WORKLOAD", "PHASE", "WHY"}
	tests := map[string]struct {
		p    painter
		want string
	}{
		"plain": {painter{}, "" +
			"WORKLOAD  PHASE    WHY\n" +
			"shop/web  running\n" +
			"a/b       failed   näher \\x1b[31m\n"},
		"colours": {painter{on: true}, "" +
			"\x1b[2mWORKLOAD\x1b[0m  \x1b[2mPHASE\x1b[0m    \x1b[2mWHY\x1b[0m\n" +
			"shop/web  \x1b[32mrunning\x1b[0m\n" +
			"a/b       \x1b[31mfailed\x1b[0m   näher \\x1b[31m\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := table(&b, tt.p, head, rows); err != nil {
				t.Fatal(err)
			}
			if b.String() != tt.want {
				t.Errorf("got\n%q\nwant\n%q", b.String(), tt.want)
			}
		})
	}
}

func TestUptime(t *testing.T) {
	now := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	const started, finished = "2026-01-02T15:04:00Z", "2026-01-02T15:04:02Z"
	tests := map[string]struct {
		instance drivers.InstanceStatus
		want     string
	}{
		"running":       {drivers.InstanceStatus{StartedAt: started}, "5s"},
		"ended":         {drivers.InstanceStatus{StartedAt: started, FinishedAt: finished}, "-"},
		"never started": {drivers.InstanceStatus{}, "-"},
	}
	for name, tt := range tests {
		if got := uptime(tt.instance, now); got != tt.want {
			t.Errorf("%s: uptime is %q, want %q", name, got, tt.want)
		}
	}
}

func TestResultText(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	raw := func(v any) json.RawMessage {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	healthy := raw(drivers.WorkloadStatus{Backend: "docker", Phase: drivers.PhaseHealthy, Desired: 2, Ready: 2, Instances: []drivers.InstanceStatus{
		{Ports: []drivers.PublishedPort{{Name: "http", ContainerPort: 80, HostAddress: "127.0.0.1", HostPort: 8080, Protocol: "tcp"}}},
		{Ports: []drivers.PublishedPort{{ContainerPort: 53, HostAddress: "::", HostPort: 5353, Protocol: "udp"}}},
	}})
	tests := map[string]struct {
		result   subjects.ResultData
		timeline string
		sent     time.Time
		want     string
	}{
		"deployed": {subjects.ResultData{Outcome: subjects.Done, Verb: subjects.Deploy, Node: "n1", Status: healthy, StartedAt: at, FinishedAt: at.Add(1234 * time.Millisecond)},
			"pulling 0.80s, starting 0.40s", time.Time{},
			"shop/web deployed: healthy, 2/2 ready on docker/n1 in 1.23s (pulling 0.80s, starting 0.40s)\n" +
				"  ports: [::]:5353->53/udp, http 127.0.0.1:8080->80/tcp\n"},
		"deployed before": {subjects.ResultData{Outcome: subjects.Done, Verb: subjects.Destroy, Node: "n1", StartedAt: at, FinishedAt: at},
			"", at.Add(time.Hour),
			"shop/web destroyed on sim/n1 in 0.00s; that was 60m ago, the same command is not carried out twice\n"},
		"rejected": {subjects.ResultData{Outcome: subjects.Rejected, Verb: subjects.Deploy, Reason: "Invalid", Message: "all of it again", Node: "n1",
			Fields: []subjects.FieldFault{{Path: "ports[0].hostPort", Message: "is taken\nby you"}, {Message: "no path"}}},
			"", time.Time{},
			"shop/web deploy rejected on n1\n  ports[0].hostPort: is taken by you\n  no path\n"},
		"failed": {subjects.ResultData{Outcome: subjects.Failed, Verb: subjects.Deploy, Reason: "Crashed", Message: "instance 0 exited with code 1", Node: "n1",
			CommandID: "abc", Attempts: 3, RolledBack: true,
			Evidence: raw(drivers.RolloutError{HealthOutput: "HTTP 500\n", LastLogs: []string{"panic: \x1b[31mno", "exit\r"}})},
			"", time.Time{},
			"shop/web deploy failed: Crashed on sim/n1\n" +
				"  instance 0 exited with code 1\n" +
				"  what ran before runs again\n" +
				"  given up after 3 attempts\n" +
				"  the last health check printed:\n    HTTP 500\n" +
				"  the last log lines:\n    panic: \\x1b[31mno\n    exit\n" +
				"  more: kranix-runtime dead-letters show abc\n"},
		"superseded": {subjects.ResultData{Outcome: subjects.Superseded, Verb: subjects.Restart, SupersededBy: 12},
			"", time.Time{},
			"shop/web restart superseded on sim\n  the newer command has sequence 12\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := resultText(painter{}, "shop/web", "sim", tt.result, tt.timeline, tt.sent); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestOutcomeCodes(t *testing.T) {
	seen := map[int]subjects.Outcome{}
	for _, o := range subjects.Outcomes() {
		code := outcomeCode(subjects.ResultData{Outcome: o, Verb: subjects.Deploy})
		if other, ok := seen[code]; ok {
			t.Errorf("%s and %s both exit with %d", o, other, code)
		}
		seen[code] = o
	}
	if code := outcomeCode(subjects.ResultData{Outcome: subjects.Failed, Verb: subjects.Deploy, Reason: reasonNotFound}); code != exitFailed {
		t.Errorf("a deploy whose image is missing exits with %d", code)
	}
}

func TestFormats(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536 << 10: "1.5 MiB", 3 << 40: "3.0 TiB", 5 << 50: "5120.0 TiB"} {
		if got := byteCount(n); got != want {
			t.Errorf("byteCount(%d): got %q, want %q", n, got, want)
		}
	}
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{0: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m", 3 * time.Hour: "3h", 50 * time.Hour: "2d", -time.Hour: "0s"} {
		if got := age(now.Add(-d), now); got != want {
			t.Errorf("age(%s): got %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{345 * time.Millisecond: "0.34s", 12340 * time.Millisecond: "12.3s", 245 * time.Second: "4m5s", -1: "0s"} {
		if got := seconds(d); got != want {
			t.Errorf("seconds(%s): got %q, want %q", d, got, want)
		}
	}
	for s, want := range map[string]time.Time{"10m": now.Add(-10 * time.Minute), "2026-01-01T00:00:00Z": time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if got, err := instant(s, now); err != nil || !got.Equal(want) {
			t.Errorf("instant(%q): got %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "-5m", "yesterday", "5"} {
		if _, err := instant(s, now); codeOf(err) != exitUsage {
			t.Errorf("instant(%q): got %v, want wrong usage", s, err)
		}
	}
}

func TestRedact(t *testing.T) {
	got := redact("nats://u:p@ss@a:4222,tls://b:4222,c")
	if want := "nats://a:4222,tls://b:4222,c"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPlainText(t *testing.T) {
	for in, want := range map[string]string{
		"plain ä\tb\nc": "plain ä\tb\nc", "a\x1b]0;x\x07": "a\\x1b]0;x\\x07", "a\rb": "a\\x0db", "\u009bx": "\\x9bx", "a\u202eb": "a\\x202eb",
	} {
		if got := plainText(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := oneLine(" a\r\nb\tc "); got != "a b c" {
		t.Errorf("oneLine: got %q", got)
	}
	if strings.ContainsRune(plainText("\u2066"), '\u2066') {
		t.Error("a directional isolate is printed")
	}
}
