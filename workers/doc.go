// Package workers carries out commands: it takes them in from JetStream, puts those of
// one workload in order, claims the workload, calls the driver, settles each command
// in exactly one result, and reports what it observes of the engine.
//
// The way of a command:
//
//	intake ──▶ door ──▶ lane ──▶ claim ──▶ driver
//	(pull)   (refuse)  (order)  (fence)     │
//	   ▲                                    ▼
//	   └── ack ◀── record ◀── result ◀── settle          observer ──▶ status, events
//
// A lane is the queue of one workload inside this process; a claim, a compare-and-set
// on the workload's record, is what holds between processes. A claim is proved again
// (the fence) before anything starts, so that a worker that lost it without noticing
// runs nothing.
//
// The package drives no engine itself and knows no backend by name. It does not ship
// logs or metrics, it tells a tracker which workloads there are.
//
// Invariants: a command that was acknowledged to its publisher ends in exactly one
// result; the result is published before the record is updated, the record before the
// command is acknowledged, so that a crash anywhere is followed by a redelivery that
// finds out how far its predecessor came; only the holder of a claim acts on the
// engine.
package workers
