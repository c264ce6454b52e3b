//go:build integration

package integration

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/tests/compliance"
)

// busyboxWorkloads are shell scripts in an image with busybox. All of them run as
// process 1, which the kernel shields from signals it does not handle: so they trap.
type busyboxWorkloads struct{ image string }

var _ compliance.Workloads = busyboxWorkloads{}

// rest ends a script: it waits for the signal to stop, and ends at once.
const rest = "\nwhile :; do sleep 3600 & wait $!; done\n"

func (w busyboxWorkloads) script(name string, lines ...string) *drivers.WorkloadSpec {
	return &drivers.WorkloadSpec{Name: name, Image: w.image, Env: map[string]string{},
		Command: []string{"/bin/sh", "-c", "trap 'exit 0' TERM\n" + strings.Join(lines, "\n")}}
}

// quote makes one word of the shell of s.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func prints(lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		text, isErr := strings.CutPrefix(l, "err:")
		fmt.Fprintf(&b, "printf '%%s\\n' %s", quote(text))
		if isErr {
			b.WriteString(" >&2")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 3, 64) }

func (w busyboxWorkloads) Sleeper(name string, version int) *drivers.WorkloadSpec {
	s := w.script(name, rest)
	s.Env["VERSION"] = strconv.Itoa(version)
	return s
}

func (w busyboxWorkloads) Exits(name string, after time.Duration, code int) *drivers.WorkloadSpec {
	return w.script(name, "sleep "+seconds(after)+" & wait $!", "exit "+strconv.Itoa(code))
}

func (w busyboxWorkloads) Prints(name string, lines ...string) *drivers.WorkloadSpec {
	return w.script(name, prints(lines), rest)
}

func (w busyboxWorkloads) PrintsAndExits(name string, code int, lines ...string) *drivers.WorkloadSpec {
	return w.script(name, prints(lines), "exit "+strconv.Itoa(code))
}

func (w busyboxWorkloads) LongLine(name string, n int) *drivers.WorkloadSpec {
	return w.script(name, fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x; echo; echo end", n), rest)
}

func (w busyboxWorkloads) Ticks(name string) *drivers.WorkloadSpec {
	return w.script(name, "n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.01; done")
}

func (w busyboxWorkloads) ShowsEnv(name string, variables, files []string) *drivers.WorkloadSpec {
	var b strings.Builder
	for _, v := range variables {
		fmt.Fprintf(&b, "printf '%%s\\n' \"%s=$%s\"\n", v, v)
	}
	for _, f := range files {
		fmt.Fprintf(&b, "printf '%%s\\n' \"%s=$(cat %s)\"\n", f, f)
	}
	return w.script(name, b.String(), rest)
}

// serve answers HTTP on port 8080 and stays in the foreground.
func serve(body string) string {
	return "mkdir -p /tmp/www; printf '%s' " + quote(body) + " > /tmp/www/index.html; httpd -f -p 8080 -h /tmp/www & wait $!"
}

func (w busyboxWorkloads) Serves(name, body string) *drivers.WorkloadSpec {
	return w.script(name, serve(body))
}

func (w busyboxWorkloads) Fetches(name, host string) *drivers.WorkloadSpec {
	// A static busybox cannot resolve names by the C library (nor use -T), but its nslookup asks the
	// network's DNS server itself.
	return w.script(name,
		"until ip=$(nslookup -type=a "+host+" 127.0.0.11 2>/dev/null | sed -n '/^Name:/,$s/^Address: *//p' | head -n 1) && [ -n \"$ip\" ] &&",
		"got=$(wget -q -O - http://$ip:8080/ 2>/dev/null); do sleep 0.1; done; echo \"got=$got\"", rest)
}

func (w busyboxWorkloads) Becomes(name, kind string, after time.Duration) *drivers.WorkloadSpec {
	if after < 0 {
		return w.NeverHealthy(w.script(name, rest))
	}
	s := w.script(name, "sleep "+seconds(after)+" & wait $!; touch /tmp/healthy; "+serve("ok"))
	s.Health = &drivers.HealthCheck{Interval: drivers.Duration(200 * time.Millisecond), Timeout: drivers.Duration(time.Second),
		StartPeriod: drivers.Duration(after + time.Minute)}
	switch kind {
	case "exec":
		s.Health.Exec = []string{"/bin/test", "-f", "/tmp/healthy"}
	case "http":
		s.Health.HTTP = &drivers.HTTPProbe{Port: 8080}
	case "tcp":
		s.Health.TCP = &drivers.TCPProbe{Port: 8080}
	}
	return s
}

func (busyboxWorkloads) NeverHealthy(s *drivers.WorkloadSpec) *drivers.WorkloadSpec {
	s.Health = &drivers.HealthCheck{Exec: []string{"/bin/sh", "-c", "echo not today; exit 1"},
		Interval: drivers.Duration(200 * time.Millisecond), Timeout: drivers.Duration(time.Second), Retries: 2}
	return s
}

func (w busyboxWorkloads) IgnoresTerm(name string) *drivers.WorkloadSpec {
	s := w.script(name)
	s.Command = []string{"/bin/sh", "-c", "trap '' TERM\n" + rest}
	return s
}

func (w busyboxWorkloads) OutOfMemory(name string, after time.Duration) *drivers.WorkloadSpec {
	// The shell itself grows, so that process 1 is what the kernel kills.
	s := w.script(name, "sleep "+seconds(after)+" & wait $!", "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done")
	limit := resource.MustParse("16Mi")
	s.Resources.Memory = &limit
	return s
}

func (w busyboxWorkloads) Counts(name string, version int) *drivers.WorkloadSpec {
	s := w.script(name, "echo x >> /data/starts; echo starts=$(wc -l < /data/starts)", rest)
	s.Env["VERSION"] = strconv.Itoa(version)
	s.Volumes = []drivers.Volume{{Source: "data", Target: "/data"}}
	return s
}

func (busyboxWorkloads) WithHook(s *drivers.WorkloadSpec, code int) *drivers.WorkloadSpec {
	s.PreDeploy = &drivers.Hook{Command: []string{"/bin/sh", "-c", "[ ! -d /data ] || echo x >> /data/starts; exit " + strconv.Itoa(code)}}
	return s
}
