// Package drivers is the contract between the runtime and the engines that run
// workloads: the RuntimeDriver interface, the specification a caller writes, the
// status a driver reports, the error classes a caller acts on, and the registry
// that opens a driver by name.
//
// It drives no engine itself. Each child package (docker, sim, ...) implements the
// contract for one engine and may import this package and its own SDK, never a
// sibling. SDK types and SDK errors stop at the child's edge.
//
// # Vocabulary
//
// A workload is what a user asks for; its identity on one backend is
// "<namespace>/<name>", which every method takes as workloadID. An instance is one
// running copy, numbered from 0 (its ordinal). A revision is one version of a
// workload's template: the spec without the number of replicas, and the image it
// resolved to. Deploy is a reconciliation: instances of the wanted revision are kept
// or started, all others are replaced.
//
// # Invariants
//
//   - Every method may be called concurrently. Calls for one workload are made one at
//     a time by the worker that holds its claim; a driver does not rely on it for
//     safety, only for progress.
//   - Deploy, Destroy and Restart are idempotent for one command (see WithCommand): a
//     repeated call adopts what an interrupted one left half made.
//   - Nothing runs before the fence of the command has been passed (see Command.Fence).
//   - No secret value appears in a label, a name, an argument or an error.
package drivers
