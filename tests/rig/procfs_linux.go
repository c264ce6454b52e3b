package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
)

// otherDaemon returns the process id of a dockerd in this network namespace, or 0.
func otherDaemon() int {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return 0
	}
	for _, pid := range pids() {
		comm, err := os.ReadFile(procPath(pid, "comm"))
		if err != nil || strings.TrimSpace(string(comm)) != "dockerd" {
			continue
		}
		if _, err := startTime(pid); err != nil { // a zombie
			continue
		}
		if ns, err := os.Readlink(procPath(pid, "ns/net")); err == nil && ns == own {
			return pid
		}
	}
	return 0
}

// processesUsing returns the processes with a path below dir among their arguments:
// only what was started for that folder has one. Programs that merely look at it (an
// editor, this one) are told apart by their name.
func processesUsing(dir string) []process {
	var found []process
	for _, pid := range pids() {
		args, err := os.ReadFile(procPath(pid, "cmdline"))
		if err != nil || !isDaemon(args) {
			continue
		}
		for _, arg := range bytes.Split(args, []byte{0}) {
			if strings.HasPrefix(strings.TrimPrefix(string(arg), "unix://"), dir+"/") {
				if p, err := processOf(pid); err == nil {
					found = append(found, p)
				}
				break
			}
		}
	}
	return found
}

func isDaemon(cmdline []byte) bool {
	name, _, _ := bytes.Cut(cmdline, []byte{0})
	base := filepath.Base(string(name))
	return base == "dockerd" || base == "docker-proxy" || strings.HasPrefix(base, "containerd")
}

func procPath(pid int, file string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), file)
}

func pids() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// unmountBelow unmounts everything below dir, the deepest first.
func unmountBelow(dir string) error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("read mounts: %w", err)
	}
	points := mountsBelow(string(b), dir)
	for _, p := range points {
		if err := syscall.Unmount(p, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			return fmt.Errorf("unmount %s: %w", p, err)
		}
	}
	return nil
}

// mountsBelow picks the mount points below dir out of mountinfo (proc(5)), longest
// first.
func mountsBelow(mountinfo, dir string) []string {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var points []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if p := unescape.Replace(fields[4]); strings.HasPrefix(p, dir+"/") {
			points = append(points, p)
		}
	}
	sort.Slice(points, func(i, j int) bool { return len(points[i]) > len(points[j]) })
	return points
}

// removeBridge removes the bridge a stopped daemon has made. It stays when ip(8) is
// missing: an unused bridge harms nobody, and the next daemon takes it over.
func removeBridge(ctx context.Context, name string) {
	_ = exec.CommandContext(ctx, "ip", "link", "delete", name).Run()
}
