package subjects

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ConsumerOptions are what a worker may choose about its consumers.
type ConsumerOptions struct {
	// AckWait is how long the server waits for an acknowledgement or a sign of
	// progress before it delivers a command to someone else; 30s by default. It is how
	// fast a dead worker is noticed.
	AckWait time.Duration
	// InactiveThreshold is when the server removes the consumer of a node that asks for
	// nothing, so that nodes which are gone for good leave nothing behind. It is
	// DefaultCommandAge when 0 and never when below 0. It must not be below
	// Settings.CommandAge: then every command the consumer had acknowledged is gone too,
	// and a node that comes back later starts anew and misses nothing. The consumer of a
	// pool is never removed.
	InactiveThreshold time.Duration
}

func (o ConsumerOptions) withDefaults() ConsumerOptions {
	if o.AckWait <= 0 {
		o.AckWait = 30 * time.Second
	}
	switch {
	case o.InactiveThreshold == 0:
		o.InactiveThreshold = DefaultCommandAge
	case o.InactiveThreshold < 0:
		o.InactiveThreshold = 0
	}
	return o
}

// PoolConsumer is the consumer of StreamCommands that all workers of a backend share:
// commands for no particular node. isDefault adds the commands that name no backend;
// exactly one backend of an environment is the default, otherwise such a command is
// delivered once to each.
func PoolConsumer(backend string, isDefault bool, o ConsumerOptions) jetstream.ConsumerConfig {
	c := consumer("pool-"+backend, o)
	c.Description = "Commands for any node of " + backend
	c.InactiveThreshold = 0
	c.FilterSubjects = consumed(KindCommand, backend, Any, isDefault)
	return c
}

// NodeConsumer is the consumer of StreamCommands of one node: commands that name it.
func NodeConsumer(backend, node string, isDefault bool, o ConsumerOptions) jetstream.ConsumerConfig {
	c := consumer("node-"+node+"-"+backend, o)
	c.Description = "Commands for node " + node + " of " + backend
	c.FilterSubjects = consumed(KindCommand, backend, node, isDefault)
	return c
}

// AssignmentConsumer is the consumer of StreamAssignments of one node. An assignment
// names the backend that was chosen, so there is no default.
func AssignmentConsumer(backend, node string, o ConsumerOptions) jetstream.ConsumerConfig {
	c := consumer("node-"+node+"-"+backend, o)
	c.Description = "Assignments to node " + node + " of " + backend
	c.FilterSubjects = consumed(KindAssignment, backend, node, false)
	return c
}

// consumer is what all of them have in common. Nothing limits deliveries: attempts are
// counted in the workload's record, and only those that the engine failed. There is no
// BackOff: it would override AckWait and make a plain nak be ignored.
func consumer(name string, o ConsumerOptions) jetstream.ConsumerConfig {
	o = o.withDefaults()
	return jetstream.ConsumerConfig{
		Durable:           name,
		DeliverPolicy:     jetstream.DeliverAllPolicy,
		AckPolicy:         jetstream.AckExplicitPolicy,
		AckWait:           o.AckWait,
		MaxDeliver:        -1,
		MaxAckPending:     -1,
		ReplayPolicy:      jetstream.ReplayInstantPolicy,
		InactiveThreshold: o.InactiveThreshold,
	}
}

// consumed lists the subjects of a node's or a pool's consumer. They do not overlap,
// which a server would refuse.
func consumed(k Kind, backend, node string, isDefault bool) []string {
	prefix := Root + "." + string(k) + "."
	subjects := []string{prefix + backend + "." + node + ".>"}
	if isDefault {
		subjects = append(subjects, prefix+Any+"."+node+".>")
	}
	return subjects
}
