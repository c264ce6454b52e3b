// Package telemetry tells the outside what runs and how it does: the Shipper publishes
// the log lines of workloads on kranix.log, the Collector their use of cpu and memory
// on kranix.metric, and Metrics with Serve are the Prometheus side of both and of the
// workers.
//
// It starts, stops and judges no workload, and it stores nothing of its own: the
// engine's log is the spool, and the stream is the shipper's memory.
//
// # Invariants
//
//   - Lines shipped plus lines declared in gaps equal lines produced. What cannot be
//     shipped is declared (subjects.LogGap), what cannot be counted is declared with its
//     bounds.
//   - The cursor trails what the stream holds. It is the last message of an instance's
//     subject and nothing else, so a worker that was killed, a server that lost its
//     unsynced tail and a second worker that ships by mistake all come to the same
//     answer to "what is next".
//   - A workload never waits for telemetry, and telemetry never holds more than a
//     bounded number of lines: a reader that cannot publish stops reading.
package telemetry
