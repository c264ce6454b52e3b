// Package rig gives tests, the demo and the benchmarks real engines to work on, and the
// images to run there.
//
// An engine that answers is used as it is: the one KRANIX_TEST_DOCKER_HOST names, the
// one DOCKER_HOST or the default socket leads to, or one the rig has started before.
// Only UpDocker goes further: as root on Debian or Ubuntu it installs the packages that
// are missing and starts a daemon with its own data, sockets and process id under one
// state folder, which Down stops and removes again. Tests themselves never install or
// start anything: RequireDocker finds an engine, skips by name, or fails where
// KRANIX_REQUIRE_ENGINES lists the engine.
//
// # Invariants
//
//   - A second daemon is never started in a network namespace that has one: two of them
//     rewrite each other's packet filter chains.
//   - Only a process that the rig started is ended; a process id that was given to
//     another process meanwhile is recognised by its start time.
//   - Down removes processes, files, mounts and the bridge. Packages stay installed, and
//     the engine's packet filter chains stay, as they do when any Docker is stopped:
//     removing rules could hit someone else's.
//   - On a shared engine only objects with a label the caller names are removed.
package rig
