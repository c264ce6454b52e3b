package docker

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// usage is one reading of a control group.
type usage struct {
	cpuNanoseconds, memoryBytes, memoryLimitBytes, pids uint64
}

// cgroups is where this host's control group hierarchies are mounted. A hybrid host has
// both the version 1 controllers and an empty version 2 hierarchy, so each controller is
// looked up by itself.
type cgroups struct {
	// v1 has the mounts of version 1 by controller, v2 that of version 2, if any.
	v1 map[string]cgroupMount
	v2 *cgroupMount
	// files opens files below the root directory, without the leading slash.
	files fs.FS
}

// cgroupMount is a mounted hierarchy: root is the group that is seen at the mount point
// (it is "/" except inside a container).
type cgroupMount struct {
	point, root string
}

// v1Unlimited is where version 1 has a limit that is none: the largest number of whole
// pages, with pages of up to 64 KiB.
const v1Unlimited = 1<<63 - 64<<10

var errNoCgroup = errors.New("control group is not readable here")

// hostCgroups reads where the hierarchies are mounted.
func hostCgroups() (*cgroups, error) {
	return readCgroups(os.DirFS("/"))
}

func readCgroups(files fs.FS) (*cgroups, error) {
	f, err := files.Open("proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	defer f.Close() //nolint:errcheck // opened for reading
	g := &cgroups{files: files}
	if g.v1, g.v2, err = parseMounts(f); err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	if len(g.v1) == 0 && g.v2 == nil {
		return nil, errNoCgroup
	}
	return g, nil
}

// parseMounts finds the hierarchies in a mountinfo (proc(5)): the fields are id, parent,
// device, root, mount point, options, any number of tags, "-", type, source and the
// options of the file system, which for version 1 name the controllers.
func parseMounts(r io.Reader) (v1 map[string]cgroupMount, v2 *cgroupMount, err error) {
	v1 = make(map[string]cgroupMount)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		dash := slices.Index(fields, "-")
		if dash < 6 || len(fields) < dash+4 {
			continue
		}
		m := cgroupMount{root: unescapeMount(fields[3]), point: unescapeMount(fields[4])}
		switch fields[dash+1] {
		case "cgroup":
			for _, option := range strings.Split(fields[dash+3], ",") {
				if _, known := v1[option]; !known {
					v1[option] = m
				}
			}
		case "cgroup2":
			if v2 == nil {
				v2 = &m
			}
		}
	}
	return v1, v2, lines.Err()
}

// unescapeMount undoes the octal escapes of mountinfo.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// membership is the groups of a process by controller; "" is version 2's.
type membership map[string]string

// parseMembership reads a /proc/<pid>/cgroup (cgroups(7)): "<id>:<controllers>:<path>".
func parseMembership(b []byte) membership {
	m := make(membership)
	for _, l := range bytes.Split(b, []byte{'\n'}) {
		parts := strings.SplitN(string(l), ":", 3)
		if len(parts) != 3 || !strings.HasPrefix(parts[2], "/") {
			continue
		}
		for _, controller := range strings.Split(parts[1], ",") {
			m[controller] = parts[2]
		}
	}
	return m
}

// ofProcess is the membership of a process. It must mention the container: a process ID
// from an engine on another host, or from another PID namespace, is somebody else's here.
func (g *cgroups) ofProcess(pid int, containerID string) (membership, error) {
	b, err := fs.ReadFile(g.files, path.Join("proc", strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return nil, errNoCgroup
	}
	m := parseMembership(b)
	for _, p := range m {
		if strings.Contains(p, containerID) {
			return m, nil
		}
	}
	return nil, errNoCgroup
}

// guesses are where an engine puts a container unless it is told otherwise: with the
// cgroupfs driver and with systemd's. They save asking for the process.
func guesses(containerID string) []membership {
	var out []membership
	for _, p := range []string{"/docker/" + containerID, "/system.slice/docker-" + containerID + ".scope"} {
		out = append(out, membership{"": p, "cpuacct": p, "memory": p, "pids": p})
	}
	return out
}

// read reads a group's use. Errors: errNoCgroup when there is no such group, or none of
// a kind that is known here.
func (g *cgroups) read(m membership) (usage, error) {
	if _, ok := g.v1["memory"]; ok {
		return g.readV1(m)
	}
	return g.readV2(m)
}

func (g *cgroups) readV1(m membership) (usage, error) {
	var u usage
	cpu, err := g.number(g.v1["cpuacct"], m["cpuacct"], "cpuacct.usage")
	if err != nil {
		return u, err
	}
	used, err := g.number(g.v1["memory"], m["memory"], "memory.usage_in_bytes")
	if err != nil {
		return u, err
	}
	cache, err := g.field(g.v1["memory"], m["memory"], "memory.stat", "total_inactive_file")
	if err != nil {
		return u, err
	}
	limit, err := g.number(g.v1["memory"], m["memory"], "memory.limit_in_bytes")
	if err != nil {
		return u, err
	}
	if limit >= v1Unlimited {
		limit = 0
	}
	u = usage{cpuNanoseconds: cpu, memoryBytes: workingSet(used, cache), memoryLimitBytes: limit}
	// The pids controller may be missing on old kernels.
	u.pids, _ = g.number(g.v1["pids"], m["pids"], "pids.current")
	return u, nil
}

func (g *cgroups) readV2(m membership) (usage, error) {
	var u usage
	if g.v2 == nil {
		return u, errNoCgroup
	}
	cpu, err := g.field(*g.v2, m[""], "cpu.stat", "usage_usec")
	if err != nil {
		return u, err
	}
	used, err := g.number(*g.v2, m[""], "memory.current")
	if err != nil {
		return u, err
	}
	cache, err := g.field(*g.v2, m[""], "memory.stat", "inactive_file")
	if err != nil {
		return u, err
	}
	limit, err := g.number(*g.v2, m[""], "memory.max") // "max" reads as 0
	if err != nil {
		return u, err
	}
	u = usage{cpuNanoseconds: cpu * 1000, memoryBytes: workingSet(used, cache), memoryLimitBytes: limit}
	u.pids, _ = g.number(*g.v2, m[""], "pids.current")
	return u, nil
}

// workingSet is what the kubelet calls so: what cannot be reclaimed at once.
func workingSet(used, inactiveFile uint64) uint64 {
	return used - min(used, inactiveFile)
}

// file reads a file of a group.
func (g *cgroups) file(m cgroupMount, group, name string) ([]byte, error) {
	if m.point == "" || group == "" {
		return nil, errNoCgroup
	}
	rest := group
	if m.root != "/" {
		var ok bool
		if rest, ok = strings.CutPrefix(group, m.root); !ok {
			return nil, errNoCgroup
		}
	}
	b, err := fs.ReadFile(g.files, strings.TrimPrefix(path.Join(m.point, rest, name), "/"))
	if err != nil {
		return nil, errNoCgroup
	}
	return b, nil
}

// number reads a file that holds one number; "max" is 0.
func (g *cgroups) number(m cgroupMount, group, name string) (uint64, error) {
	b, err := g.file(m, group, name)
	if err != nil {
		return 0, err
	}
	s := string(bytes.TrimSpace(b))
	if s == "max" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: want a number, got %q", name, s)
	}
	return n, nil
}

// field reads a number from a file of lines "<key> <number>".
func (g *cgroups) field(m cgroupMount, group, name, key string) (uint64, error) {
	b, err := g.file(m, group, name)
	if err != nil {
		return 0, err
	}
	for l := range bytes.Lines(b) {
		k, v, ok := bytes.Cut(bytes.TrimSpace(l), []byte{' '})
		if !ok || string(k) != key {
			continue
		}
		n, err := strconv.ParseUint(string(v), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read %s of %s: %w", key, name, err)
		}
		return n, nil
	}
	return 0, fmt.Errorf("read %s: no %s in it", name, key)
}
