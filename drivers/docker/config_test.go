package docker

import (
	"strings"
	"testing"
)

func TestConfigValidate(t *testing.T) {
	cases := []struct {
		name string
		cfg  Config
		want []string
	}{
		{"zero", Config{}, nil},
		{"full", Config{Host: "tcp://engine.example:2375", APIVersion: "1.45", Mirrors: []string{"https://mirror.example/"}}, nil},
		{"host without scheme", Config{Host: "/var/run/docker.sock"}, []string{"host"}},
		{"relative socket", Config{Host: "unix://docker.sock"}, []string{"host"}},
		{"scheme", Config{Host: "ssh://user@host"}, []string{"host"}},
		{"tcp without port", Config{Host: "tcp://engine.example"}, []string{"host"}},
		{"all at once", Config{Host: "npipe://x", APIVersion: "latest", Mirrors: []string{"mirror.example", "https://u:p@m.example", "https://m.example/path"},
			PingTimeout: -1, CallTimeout: -1},
			[]string{"host", "api_version", "registry_mirrors[0]", "registry_mirrors[1]", "registry_mirrors[2]", "ping_timeout", "call_timeout"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := c.cfg.Validate()
			var got []string
			if err != nil {
				for _, line := range strings.Split(err.Error(), "\n") {
					key, _, _ := strings.Cut(line, ": ")
					got = append(got, key)
				}
				if strings.Contains(err.Error(), "u:p") {
					t.Errorf("the error repeats credentials: %v", err)
				}
			}
			if strings.Join(got, " ") != strings.Join(c.want, " ") {
				t.Errorf("faults of %v, want %v", got, c.want)
			}
		})
	}
}
