package docker

import "golang.org/x/sys/unix"

// identify reads the identity of a file; ok is false when it is not on this host or its
// file system keeps no birth times.
func identify(path string) (id fileIdentity, ok bool) {
	if path == "" {
		return fileIdentity{}, false
	}
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_SYNC_AS_STAT, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return fileIdentity{}, false
	}
	if st.Mask&unix.STATX_BTIME == 0 {
		return fileIdentity{}, false
	}
	return fileIdentity{
		device: uint64(st.Dev_major)<<32 | uint64(st.Dev_minor), inode: st.Ino,
		bornSec: st.Btime.Sec, bornNsec: st.Btime.Nsec,
	}, true
}
