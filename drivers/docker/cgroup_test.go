package docker

import (
	"errors"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

// tree makes a file system of paths and contents.
func tree(files map[string]string) fs.FS {
	m := make(fstest.MapFS)
	for name, content := range files {
		m[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return m
}

const (
	mountsV1 = `31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
`
	mountsHybrid = mountsV1 + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	mountsV2     = "41 31 0:38 / /sys/fs/cgroup rw,nosuid master:1 shared:2 - cgroup2 cgroup2 rw,nsdelegate\n"
)

func v1Files(prefix string) map[string]string {
	return map[string]string{
		"sys/fs/cgroup/cpu,cpuacct" + prefix + "/cpuacct.usage":    "123456789\n",
		"sys/fs/cgroup/memory" + prefix + "/memory.usage_in_bytes": "5000\n",
		"sys/fs/cgroup/memory" + prefix + "/memory.limit_in_bytes": "9223372036854771712\n",
		"sys/fs/cgroup/memory" + prefix + "/memory.stat":           "inactive_file 1\ntotal_inactive_file 2000\n",
		"sys/fs/cgroup/pids" + prefix + "/pids.current":            "7\n",
	}
}

func v2Files(prefix string) map[string]string {
	return map[string]string{
		"sys/fs/cgroup" + prefix + "/cpu.stat":       "usage_usec 1500\nuser_usec 1000\n",
		"sys/fs/cgroup" + prefix + "/memory.current": "5000\n",
		"sys/fs/cgroup" + prefix + "/memory.max":     "67108864\n",
		"sys/fs/cgroup" + prefix + "/memory.stat":    "anon 1\ninactive_file 6000\n",
		"sys/fs/cgroup" + prefix + "/pids.current":   "3\n",
	}
}

func TestCgroups(t *testing.T) {
	v1 := usage{cpuNanoseconds: 123456789, memoryBytes: 3000, pids: 7}
	v2 := usage{cpuNanoseconds: 1500000, memoryLimitBytes: 64 << 20, pids: 3}
	tests := []struct {
		name       string
		mounts     string
		files      map[string]string
		membership string
		want       usage
		err        error
	}{
		{"version 1", mountsV1, v1Files("/docker/abc"), "9:pids:/docker/abc\n4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n", v1, nil},
		{"hybrid", mountsHybrid, v1Files("/docker/abc"), "9:pids:/docker/abc\n4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/docker/abc\n", v1, nil},
		{"version 2, limit, more cache than use", mountsV2, v2Files("/system.slice/docker-abc.scope"), "0::/system.slice/docker-abc.scope\n", v2, nil},
		{"mounted from below", strings.ReplaceAll(mountsV2, "0:38 / ", "0:38 /outer "), v2Files("/docker/abc"), "0::/outer/docker/abc\n", v2, nil},
		{"outside of what is mounted", strings.ReplaceAll(mountsV2, "0:38 / ", "0:38 /outer "), v2Files("/docker/abc"), "0::/docker/abc\n", usage{}, errNoCgroup},
		{"another container's process", mountsV2, v2Files("/docker/xyz"), "0::/docker/xyz\n", usage{}, errNoCgroup},
		{"gone", mountsV2, nil, "0::/docker/abc\n", usage{}, errNoCgroup},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{"proc/self/mountinfo": tt.mounts, "proc/42/cgroup": tt.membership}
			for k, v := range tt.files {
				files[k] = v
			}
			g, err := readCgroups(tree(files))
			if err != nil {
				t.Fatal(err)
			}
			var got usage
			m, err := g.ofProcess(42, "abc")
			if err == nil {
				got, err = g.read(m)
			}
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %+v, %v, want %+v, %v", got, err, tt.want, tt.err)
			}
		})
	}
	if _, err := readCgroups(tree(map[string]string{"proc/self/mountinfo": "31 23 0:28 / / rw - ext4 /dev/sda rw\n"})); !errors.Is(err, errNoCgroup) {
		t.Errorf("a host without control groups: %v", err)
	}
}

func TestCgroupGuesses(t *testing.T) {
	for _, prefix := range []string{"/docker/abc", "/system.slice/docker-abc.scope"} {
		files := v1Files(prefix)
		files["proc/self/mountinfo"] = mountsV1
		g, err := readCgroups(tree(files))
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, m := range guesses("abc") {
			if _, err := g.read(m); err == nil {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%s: %d guesses are right, want 1", prefix, found)
		}
	}
}

func TestCgroupFilesThatLie(t *testing.T) {
	for file, content := range map[string]string{"cpu.stat": "user_usec 1\n", "memory.current": "lots\n", "memory.stat": "inactive_file -1\n"} {
		files := v2Files("/docker/abc")
		files["proc/self/mountinfo"] = mountsV2
		files["sys/fs/cgroup/docker/abc/"+file] = content
		g, err := readCgroups(tree(files))
		if err != nil {
			t.Fatal(err)
		}
		if u, err := g.read(membership{"": "/docker/abc"}); err == nil {
			t.Errorf("%s of %q: got %+v and no error", file, content, u)
		}
	}
}

func FuzzCgroupParsers(f *testing.F) {
	f.Add(mountsHybrid, "2:cpu,cpuacct:/docker/abc\n0::/docker/abc\n")
	f.Add("a b c d e f g - cgroup", "::\n:::/\n")
	f.Fuzz(func(t *testing.T, mounts, member string) {
		v1, v2, err := parseMounts(strings.NewReader(mounts))
		again, v2Again, errAgain := parseMounts(strings.NewReader(mounts))
		if (err == nil) != (errAgain == nil) || !reflect.DeepEqual(v1, again) || !reflect.DeepEqual(v2, v2Again) {
			t.Fatal("not the same twice")
		}
		for controller, path := range parseMembership([]byte(member)) {
			if !strings.HasPrefix(path, "/") || strings.Contains(controller, ",") {
				t.Fatalf("%q in %q", controller, path)
			}
		}
	})
}
