package docker

import (
	"strconv"

	"github.com/docker/docker/api/types/container"
)

// rotation is what can be known about the rotation of a container's log. It matters to
// those who follow: when the engine rotates, its followers skip what was written between
// their last read and the rotation, and say nothing (engines up to 22.06), or skip whole
// files when several rotations come at once (all engines; moby issue 39235 tells of
// followers that hang).
type rotation uint8

const (
	// rotatesNever: what a follower delivers is complete.
	rotatesNever rotation = iota
	// rotatesVisibly: the log is a file on this host, and whether it is still the same
	// one can be seen.
	rotatesVisibly
	// rotatesUnseen: any line a follower delivers may come after a gap.
	rotatesUnseen
)

// fileIdentity tells a file from another that later has its path. The birth time is
// part of it because file systems use the numbers of removed files again at once.
type fileIdentity struct {
	device, inode uint64
	bornSec       int64
	bornNsec      uint32
}

// rotationOf judges a container's log by its configuration.
func rotationOf(c container.InspectResponse) rotation {
	config := c.HostConfig.LogConfig
	switch config.Type {
	case "json-file":
		if size := config.Config["max-size"]; size == "" || size == "-1" {
			return rotatesNever
		}
		if files, err := strconv.Atoi(config.Config["max-file"]); err != nil || files < 2 {
			return rotatesUnseen // the one file is emptied and written again
		}
		if _, ok := identify(c.LogPath); ok {
			return rotatesVisibly
		}
		return rotatesUnseen
	case "local":
		return rotatesUnseen // it rotates by default, and its path is not told
	}
	// Other drivers' logs are read from the journal, or from a cache of the engine's that
	// is a "local" log.
	if config.Type == "journald" {
		return rotatesNever
	}
	return rotatesUnseen
}
