package workers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// door decides whether a message is a command this worker may carry out. Everything
// that reaches a driver has passed it.
type door struct {
	node           string
	defaultBackend string
	backends       map[string]*pool
	deadline       time.Duration
	policy         drivers.Policy
	schemas        *schemas
}

// arrival is a message as it came from a stream.
type arrival struct {
	subject   string
	header    nats.Header
	data      []byte
	seq       uint64
	published time.Time
	assigned  bool
}

// headers returns the message's headers as far as they fit a dead letter.
func (a *arrival) headers() map[string][]string {
	size, out := 0, make(map[string][]string, len(a.header))
	for name, values := range a.header {
		for _, v := range values {
			if size += len(name) + len(v); size > maxLetterBytes {
				return out
			}
			out[name] = append(out[name], v)
		}
	}
	return out
}

// refusal is a command turned away: it becomes a rejected result, and a dead letter
// when the command could not be understood at all.
type refusal struct {
	command command
	reason  string
	message string
	fields  []subjects.FieldFault
	// unreadable says that the message is not a CloudEvent.
	unreadable bool
}

func (r *refusal) Error() string { return r.reason + ": " + r.message }

// open reads and checks a message. The error, when there is one, is a *refusal whose
// command is filled in as far as it could be read, so that a result can be addressed.
func (d *door) open(ctx context.Context, in arrival) (cmd command, err error) {
	cmd = command{subject: in.subject, seq: in.seq, published: in.published, deadline: d.deadline, assigned: in.assigned}
	defer func() {
		// A message must not be able to end the process: it would do so again at every
		// redelivery.
		if p := recover(); p != nil {
			cmd.raw = &in
			err = &refusal{command: cmd, reason: "Unreadable", message: fmt.Sprintf("reading the command panicked: %v", p), unreadable: true}
		}
	}()
	refuse := func(reason string, fault error) error {
		r := &refusal{command: cmd, reason: reason, message: fault.Error()}
		var fields *drivers.FieldErrors
		if errors.As(fault, &fields) {
			for _, f := range fields.Fields {
				r.fields = append(r.fields, subjects.FieldFault(f))
			}
		}
		return r
	}
	field := func(path, format string, args ...any) error {
		f := &drivers.FieldErrors{Class: drivers.ErrInvalidSpec}
		f.Add(path, format, args...)
		return refuse("Invalid", f)
	}

	s, subjectErr := subjects.Parse(in.subject)
	cmd.w = s.Workload
	if subjectErr != nil {
		cmd.w = salvage(in.subject)
	}
	e, eventErr := subjects.Decode(in.header, in.data)
	if eventErr != nil {
		// Without source and id the command is known by its place in the stream.
		cmd.id = subjects.CommandID(subjects.StreamCommands, fmt.Sprint(in.seq))
		cmd.raw = &in
		return cmd, &refusal{command: cmd, reason: "Unreadable", message: eventErr.Error(), unreadable: true}
	}
	cmd.event = e
	cmd.id = subjects.CommandID(e.Source(), e.ID())
	cmd.redriveOf, cmd.force = extension(e, subjects.ExtRedriveOf), extension(e, subjects.ExtForce) == "true"
	for _, a := range []struct{ name, value string }{
		{"source", e.Source()}, {"id", e.ID()}, {"type", e.Type()}, {"subject", e.Subject()},
		{subjects.ExtTraceParent, extension(e, subjects.ExtTraceParent)}, {subjects.ExtTraceState, extension(e, subjects.ExtTraceState)},
	} {
		if len(a.value) > maxAttribute {
			return cmd, field(a.name, "is %d bytes long, want at most %d", len(a.value), maxAttribute)
		}
	}
	if subjectErr != nil {
		return cmd, refuse("InvalidSubject", subjectErr)
	}
	cmd.verb = subjects.Verb(s.Last)
	if want := subjects.CommandType(cmd.verb); e.Type() != want {
		return cmd, field("type", "is %q, but the subject asks for %q, which is type %q", e.Type(), cmd.verb, want)
	}
	if cmd.w.Backend == subjects.Any {
		if d.defaultBackend == "" {
			return cmd, field("backend", "none is named and this runtime has no default; publish to a backend's subject")
		}
		cmd.w.Backend = d.defaultBackend
	}
	pool := d.backends[cmd.w.Backend]
	if pool == nil {
		return cmd, field("backend", "no worker serves %q here; served: %s", cmd.w.Backend, d.served())
	}
	if cmd.w.Node != subjects.Any && cmd.w.Node != d.node {
		return cmd, field("node", "is %q, and no worker for %q has ever served there; this is %q", cmd.w.Node, cmd.w.Backend, d.node)
	}
	cmd.w.Node = d.node
	if e.Subject() != "" && e.Subject() != cmd.w.ID() {
		return cmd, field("subject", "is %q, but the command was published for %q", e.Subject(), cmd.w.ID())
	}
	switch cmd.verb {
	case subjects.Deploy:
		err = d.openDeploy(&cmd, pool, s.Workload.Backend)
	default:
		err = d.openOperation(&cmd)
	}
	if err == nil {
		return cmd, nil
	}
	var fields *drivers.FieldErrors
	switch {
	case errors.As(err, &fields) && errors.Is(err, drivers.ErrDenied):
		return cmd, refuse("Denied", err)
	case errors.Is(err, drivers.ErrUnsupported):
		return cmd, refuse("Unsupported", err)
	}
	return cmd, refuse("Invalid", err)
}

// openDeploy reads the spec of a deploy.
func (d *door) openDeploy(cmd *command, pool *pool, subjectBackend string) error {
	data := cmd.event.Data()
	if len(data) == 0 {
		f := &drivers.FieldErrors{Class: drivers.ErrInvalidSpec}
		f.Add("data", "is missing: a deploy carries the workload's spec")
		return f
	}
	spec, err := drivers.DecodeSpec(data)
	if err != nil {
		return err
	}
	f := &drivers.FieldErrors{Class: drivers.ErrInvalidSpec}
	if spec.Name != cmd.w.Name {
		f.Add("name", "is %q, but the command was published for %q", spec.Name, cmd.w.Name)
	}
	if ns := spec.Namespace; ns != "" && ns != cmd.w.Namespace {
		f.Add("namespace", "is %q, but the command was published for %q", ns, cmd.w.Namespace)
	}
	if b := spec.Backend; b != "" && b != cmd.w.Backend {
		f.Add("backend", "is %q, but the command was published for %q", b, subjectBackend)
	}
	if err := f.ErrOrNil(); err != nil {
		return err
	}
	spec.Namespace, spec.Backend = cmd.w.Namespace, cmd.w.Backend
	spec = spec.WithDefaults()
	if err := spec.Validate(); err != nil {
		return err
	}
	if err := d.schemas.check(subjects.TypeDeploy, data); err != nil {
		return err
	}
	if err := d.policy.Check(spec); err != nil {
		return err
	}
	if checker, ok := pool.driver.(drivers.SpecChecker); ok {
		if err := checker.CheckSpec(spec); err != nil {
			return err
		}
	}
	cmd.spec, cmd.specJSON = spec, data
	if spec.Deadline > 0 {
		cmd.deadline = spec.Deadline.D()
	}
	return nil
}

// openOperation reads the data of a destroy or restart, which may be absent.
func (d *door) openOperation(cmd *command) error {
	data := cmd.event.Data()
	if len(data) == 0 {
		return nil
	}
	if err := d.schemas.check(cmd.event.Type(), data); err != nil {
		return err
	}
	var op subjects.RestartData // a destroy's has the same form
	if err := json.Unmarshal(data, &op); err != nil {
		return fmt.Errorf("%w: read data: %w", drivers.ErrInvalidSpec, err)
	}
	if op.Deadline == "" {
		return nil
	}
	v, err := time.ParseDuration(op.Deadline)
	if err != nil || v <= 0 {
		f := &drivers.FieldErrors{Class: drivers.ErrInvalidSpec}
		f.Add("deadline", "want a positive duration such as \"5m\", got %q", op.Deadline)
		return f
	}
	cmd.deadline = v
	return nil
}

// served lists the backends for a message.
func (d *door) served() string {
	names := make([]string, 0, len(d.backends))
	for _, b := range subjects.Backends() {
		if d.backends[b] != nil {
			names = append(names, b)
		}
	}
	return strings.Join(names, ", ")
}

// salvage makes a workload that can be addressed of a subject that is not valid, so
// that even such a command gets its result. Tokens that are no labels are made into
// one.
func salvage(subject string) subjects.Workload {
	tokens := strings.Split(subject, ".")
	token := func(i int, fallback string) string {
		if i >= len(tokens) {
			return fallback
		}
		if l := subjects.NodeLabel(tokens[i]); l != "" {
			return l
		}
		return fallback
	}
	return subjects.Workload{
		Backend:   token(2, subjects.Any),
		Node:      subjects.Any,
		Namespace: token(4, "invalid"),
		Name:      token(5, "invalid"),
	}
}

// extension reads an extension attribute as text.
func extension(e event.Event, name string) string {
	s, _ := e.Extensions()[name].(string)
	return s
}
