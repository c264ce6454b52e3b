package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// past is what a verb's success is called.
func past(v subjects.Verb) string {
	switch v {
	case subjects.Deploy:
		return "deployed"
	case subjects.Destroy:
		return "destroyed"
	case subjects.Restart:
		return "restarted"
	default:
		return string(v)
	}
}

// resultText is a result for people: one line, and below it what helps to go on. sent is
// when the command was published, by the server's clock, zero when that is not known.
func resultText(p painter, workload, backend string, r subjects.ResultData, timeline string, sent time.Time) string {
	var b strings.Builder
	var status drivers.WorkloadStatus
	hasStatus := len(r.Status) > 0 && json.Unmarshal(r.Status, &status) == nil && status.Phase != ""

	if r.Outcome == subjects.Done {
		fmt.Fprintf(&b, "%s %s", workload, p.paint(green, past(r.Verb)))
		if hasStatus && r.Verb != subjects.Destroy {
			fmt.Fprintf(&b, ": %s, %d/%d ready", p.paint(wordColour(string(status.Phase)), string(status.Phase)), status.Ready, status.Desired)
		}
	} else {
		fmt.Fprintf(&b, "%s %s %s", workload, r.Verb, p.paint(wordColour(string(r.Outcome)), string(r.Outcome)))
		if r.Reason != "" && len(r.Fields) == 0 {
			b.WriteString(": " + oneLine(r.Reason))
		}
	}
	if hasStatus && status.Backend != "" {
		backend = status.Backend
	}
	if backend == subjects.Any || r.Outcome == subjects.Rejected {
		backend = "" // who turned it away need not serve it
	}
	if on := join("/", backend, r.Node); on != "" {
		b.WriteString(" on " + on)
	}
	if d := r.FinishedAt.Sub(r.StartedAt); !r.StartedAt.IsZero() && d >= 0 {
		fmt.Fprintf(&b, " in %s", seconds(d))
	}
	if timeline != "" {
		fmt.Fprintf(&b, " (%s)", timeline)
	}
	if r.FinishedAt.Before(sent) {
		fmt.Fprintf(&b, "; that was %s ago, the same command is not carried out twice", age(r.FinishedAt, sent))
	}
	b.WriteByte('\n')
	if r.Outcome != subjects.Done {
		writeFault(&b, r)
		return b.String()
	}
	if hasStatus && r.Verb != subjects.Destroy {
		var ports []drivers.PublishedPort
		for _, i := range status.Instances {
			ports = append(ports, i.Ports...)
		}
		if len(ports) > 0 {
			fmt.Fprintf(&b, "  ports: %s\n", oneLine(portsText(ports)))
		}
	}
	return b.String()
}

// writeFault adds why a command was not done.
func writeFault(b *strings.Builder, r subjects.ResultData) {
	for _, f := range r.Fields {
		fmt.Fprintf(b, "  %s\n", oneLine(join(": ", f.Path, f.Message)))
	}
	if len(r.Fields) == 0 && r.Message != "" {
		fmt.Fprintf(b, "  %s\n", oneLine(r.Message))
	}
	if r.SupersededBy > 0 {
		fmt.Fprintf(b, "  the newer command has sequence %d\n", r.SupersededBy)
	}
	if r.RolledBack {
		b.WriteString("  what ran before runs again\n")
	}
	if r.Attempts > 1 {
		fmt.Fprintf(b, "  given up after %d attempts\n", r.Attempts)
	}
	writeEvidence(b, r.Evidence)
	if r.Outcome == subjects.Failed && r.CommandID != "" {
		fmt.Fprintf(b, "  more: kranix-runtime dead-letters show %s\n", r.CommandID)
	}
}

// writeEvidence adds what the workload itself said before it was given up.
func writeEvidence(b *strings.Builder, raw json.RawMessage) {
	var e drivers.RolloutError
	if len(raw) == 0 || json.Unmarshal(raw, &e) != nil {
		return
	}
	if e.RollbackError != "" {
		fmt.Fprintf(b, "  what ran before could not be put back: %s\n", oneLine(e.RollbackError))
	}
	if e.HealthOutput != "" {
		b.WriteString("  the last health check printed:\n")
		indent(b, strings.Split(strings.TrimRight(e.HealthOutput, "\n"), "\n"))
	}
	if len(e.LastLogs) > 0 {
		b.WriteString("  the last log lines:\n")
		indent(b, e.LastLogs)
	}
}

func indent(b *strings.Builder, lines []string) {
	for _, l := range lines {
		fmt.Fprintf(b, "    %s\n", plainText(strings.TrimRight(l, "\r\n")))
	}
}
