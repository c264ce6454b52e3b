// Package docker runs workloads on a Docker engine over its API.
//
// It owns what carries its node's label and a workload's label, and touches nothing
// else on the engine. It keeps no state of its own: everything it must know after a
// restart is in the labels of what it made (drivers.LabelSpec holds the spec), so a
// second driver on the same node takes over where the first one stopped.
//
// # What it makes
//
// An instance is a container named "kranix.<namespace>.<name>.<revision>.<ordinal>";
// the name makes creation idempotent, since the engine gives a name to one container
// only. A hook's container ends in ".hook.<sequence>" instead. Networks are named
// "kranix.<namespace>.<network>" and shared by the namespace; volumes
// "kranix.<namespace>.<name>.<volume>" and owned by the workload. An empty volume
// "kranix.<namespace>.<name>.record.<sequence>" keeps what was asked for last where no
// container's labels can say it, as for a workload with no instances (record.go).
//
// # What it does not do
//
// It allocates no GPUs by type or memory, applies no policy (that is the worker's
// part) and builds no images.
package docker
