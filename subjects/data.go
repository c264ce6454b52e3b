package subjects

import (
	"encoding/json"
	"time"
)

// The event types. Each has a data type below and a JSON Schema (Schema).
const (
	TypeDeploy  = "io.kranix.command.deploy.v1"
	TypeDestroy = "io.kranix.command.destroy.v1"
	TypeRestart = "io.kranix.command.restart.v1"

	typeWorkloadPrefix = "io.kranix.workload."
	typeResultPrefix   = "io.kranix.result."
	typeSuffix         = ".v1"

	TypeAssignment = "io.kranix.assignment.v1"
	TypeLog        = "io.kranix.log.v1"
	TypeMetric     = "io.kranix.metric.v1"
	TypeDeadLetter = "io.kranix.deadletter.v1"
)

// CommandType is the event type of a verb: TypeDeploy, TypeDestroy or TypeRestart.
func CommandType(v Verb) string { return "io.kranix.command." + string(v) + typeSuffix }

// WorkloadType is the event type of a phase, for example
// "io.kranix.workload.running.v1".
func WorkloadType(phase string) string { return typeWorkloadPrefix + phase + typeSuffix }

// ResultType is the event type of a result.
func ResultType(o Outcome) string { return typeResultPrefix + string(o) + typeSuffix }

// The extension attributes.
const (
	// ExtSequence is the sequence of the command in its stream, zero-padded to 20
	// digits so that it sorts as text.
	ExtSequence = "sequence"
	// ExtCommandID is the CommandID of the command that caused an event.
	ExtCommandID = "commandid"
	// ExtRedriveOf is, on a redriven command, the CommandID of the one it repeats.
	ExtRedriveOf = "redriveof"
	// ExtForce, "true" on a redriven command, lets it override newer commands.
	ExtForce = "force"
	// ExtTraceParent and ExtTraceState are W3C trace context (CloudEvents distributed
	// tracing extension).
	ExtTraceParent = "traceparent"
	ExtTraceState  = "tracestate"
)

// The data of TypeDeploy is a drivers.WorkloadSpec as JSON, kept raw here.

// DestroyData is the data of TypeDestroy. It may be absent.
type DestroyData struct {
	// Deadline is a duration such as "5m"; empty is the runtime's default.
	Deadline string `json:"deadline,omitempty"`
}

// RestartData is the data of TypeRestart. It may be absent.
type RestartData struct {
	// Deadline is a duration such as "5m"; empty is the runtime's default.
	Deadline string `json:"deadline,omitempty"`
}

// AssignmentData is the data of TypeAssignment: it refers to the command, which the
// node reads itself.
type AssignmentData struct {
	// Sequence is the command's sequence in KRANIX_COMMANDS.
	Sequence uint64 `json:"sequence"`
}

// WorkloadEvent is the data of the io.kranix.workload.<phase>.v1 types.
type WorkloadEvent struct {
	// Phase is the last token of the subject.
	Phase string `json:"phase"`
	// Reason is a word for machines, Message a sentence for people.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Instance is the ordinal the event is about; absent for the whole workload.
	Instance *int `json:"instance,omitempty"`
	ExitCode *int `json:"exitCode,omitempty"`
	// Attempt is the attempt of the command, from 1; absent on observations.
	Attempt int `json:"attempt,omitempty"`
	// Progress counts bytes of a pull or instances of a rollout; Total is 0 when
	// unknown.
	Progress *ProgressData `json:"progress,omitempty"`
	// Status is the drivers.WorkloadStatus at that moment, when known.
	Status json.RawMessage `json:"status,omitempty"`
}

// ProgressData is how far a step has come.
type ProgressData struct {
	Current int64 `json:"current"`
	Total   int64 `json:"total,omitempty"`
}

// Outcome is how a command ended.
type Outcome string

// The outcomes. Every acknowledged command ends in exactly one.
const (
	// Done: what the command asked for is so.
	Done Outcome = "done"
	// Failed: tried and given up; a dead letter holds the evidence.
	Failed Outcome = "failed"
	// Superseded: a newer command for the workload came first.
	Superseded Outcome = "superseded"
	// Rejected: refused at the door; nothing was done.
	Rejected Outcome = "rejected"
	// Expired: its deadline passed before it could be carried out.
	Expired Outcome = "expired"
)

// Outcomes lists all outcomes.
func Outcomes() []Outcome { return []Outcome{Done, Failed, Superseded, Rejected, Expired} }

// ResultData is the data of the io.kranix.result.<outcome>.v1 types.
type ResultData struct {
	Outcome Outcome `json:"outcome"`
	// CommandID is the command's token; Source and ID are the CloudEvent attributes it
	// is a hash of.
	CommandID string `json:"commandId"`
	Source    string `json:"source,omitempty"`
	ID        string `json:"id,omitempty"`
	Verb      Verb   `json:"verb,omitempty"`
	// Sequence is the command's place in KRANIX_COMMANDS.
	Sequence uint64 `json:"sequence"`
	// Reason is a word for machines, Message a sentence for people.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Fields names the faults of a rejected command.
	Fields []FieldFault `json:"fields,omitempty"`
	// SupersededBy is the sequence of the newer command.
	SupersededBy uint64 `json:"supersededBy,omitempty"`
	// RolledBack says that a failed deploy left running what ran before.
	RolledBack bool `json:"rolledBack,omitempty"`
	// Attempts is how often the engine was tried.
	Attempts int `json:"attempts,omitempty"`
	// Evidence says why a workload did not come up (drivers.RolloutError).
	Evidence json.RawMessage `json:"evidence,omitempty"`
	// Status is the drivers.WorkloadStatus after the command.
	Status json.RawMessage `json:"status,omitempty"`
	// StartedAt and FinishedAt bound the work; Node did it.
	StartedAt  time.Time `json:"startedAt,omitzero"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
	Node       string    `json:"node,omitempty"`
}

// Bare is the result without what may be large: how a command ended, and nothing more.
func (r ResultData) Bare() ResultData {
	r.Status, r.Evidence, r.Fields, r.Source, r.ID = nil, nil, nil, "", ""
	if len(r.Message) > 1024 {
		r.Message = ""
	}
	return r
}

// FieldFault is a fault of one field of a command.
type FieldFault struct {
	Path    string `json:"path"`
	Message string `json:"message"`
}

// LogData is the data of TypeLog: a batch of lines of one instance, in order.
type LogData struct {
	Instance int `json:"instance"`
	// InstanceID is the engine's identifier of the copy that printed the lines.
	InstanceID string     `json:"instanceId"`
	Lines      []LogEntry `json:"lines,omitempty"`
	// Gap, when set, declares lines that are lost, before Lines.
	Gap *LogGap `json:"gap,omitempty"`
	// Cursors say how far the logs of this ordinal are shipped, this batch included: one
	// for each output stream of the copy that printed it, and of the other copies that
	// have used the ordinal lately, as two do during an update. The last message of a
	// subject is therefore all a shipper needs to go on.
	Cursors []LogCursor `json:"cursors,omitempty"`
}

// LogCursor is how far one output stream of one copy of an instance is shipped. There
// is one per stream because an engine may store the lines of stdout and stderr in
// another order than that of their timestamps; within a stream they are in order.
type LogCursor struct {
	InstanceID string `json:"instanceId"`
	// Stream is "stdout" or "stderr".
	Stream string `json:"stream"`
	// Time is the timestamp of the last entry that was shipped or declared lost; Same
	// counts the entries with that very timestamp among them.
	Time time.Time `json:"time"`
	Same int       `json:"same,omitempty"`
}

// LogEntry is one line.
type LogEntry struct {
	Time time.Time `json:"time"`
	// Stream is "stdout" or "stderr".
	Stream string `json:"stream"`
	// Line is the text; bytes that are not UTF-8 are replaced, and then Base64 holds
	// the original.
	Line   string `json:"line"`
	Base64 []byte `json:"base64,omitempty"`
	// Truncated says that the line goes on in the next entry.
	Truncated bool `json:"truncated,omitempty"`
}

// LogGap declares lines that were not shipped.
type LogGap struct {
	// Lines is how many, 0 when unknown; then it may also be none.
	Lines int64     `json:"lines,omitempty"`
	From  time.Time `json:"from,omitzero"`
	To    time.Time `json:"to,omitzero"`
	// Reason is a word for machines: "rate-limit", "rotated" (the engine had dropped the
	// lines before they were read), "removed" (the instance was gone before they were
	// read).
	Reason string `json:"reason"`
}

// MetricData is the data of TypeMetric: one reading of all instances of a workload.
type MetricData struct {
	At        time.Time        `json:"at"`
	Instances []InstanceMetric `json:"instances"`
}

// InstanceMetric is one reading of one instance.
type InstanceMetric struct {
	Instance   int    `json:"instance"`
	InstanceID string `json:"instanceId"`
	// CPUNanoseconds is cumulative since the instance started; CPUPercent is the use
	// since the previous reading, 100 for one core, absent on the first reading.
	CPUNanoseconds uint64   `json:"cpuNanoseconds"`
	CPUPercent     *float64 `json:"cpuPercent,omitempty"`
	// MemoryBytes is the working set (usage less inactive file cache).
	MemoryBytes      uint64 `json:"memoryBytes"`
	MemoryLimitBytes uint64 `json:"memoryLimitBytes,omitempty"`
	PIDs             uint64 `json:"pids,omitempty"`
}

// DeadLetterData is the data of TypeDeadLetter: everything one needs to see why a
// command was given up, truncated to fit a message.
type DeadLetterData struct {
	// Subject is where the command was published, Sequence its place in KRANIX_COMMANDS.
	Subject  string `json:"subject"`
	Sequence uint64 `json:"sequence"`
	// CommandID is empty when the command could not be parsed that far.
	CommandID string `json:"commandId,omitempty"`
	Reason    string `json:"reason"`
	Message   string `json:"message,omitempty"`
	// Command is the original message: the event in structured mode, or, when it could
	// not be parsed, its raw payload in Raw with its headers.
	Command json.RawMessage     `json:"command,omitempty"`
	Raw     []byte              `json:"raw,omitempty"`
	Headers map[string][]string `json:"headers,omitempty"`
	// Truncated says that Raw, or the command's data, was cut.
	Truncated bool `json:"truncated,omitempty"`
	// Attempts holds the error of each attempt, oldest first.
	Attempts []AttemptData `json:"attempts,omitempty"`
	// Evidence is the drivers.RolloutError, Status the last drivers.WorkloadStatus.
	Evidence json.RawMessage `json:"evidence,omitempty"`
	Status   json.RawMessage `json:"status,omitempty"`
}

// AttemptData is one failed attempt.
type AttemptData struct {
	Attempt int       `json:"attempt"`
	At      time.Time `json:"at"`
	Error   string    `json:"error"`
}
