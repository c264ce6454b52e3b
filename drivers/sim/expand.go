package sim

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// expand replaces the ${...} of a printed line, see the package documentation.
func (e *Engine) expand(c *container, l life, line string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(line, "${")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		name, after, ok := strings.Cut(rest, "}")
		if !ok {
			b.WriteString("${" + rest)
			return b.String()
		}
		b.WriteString(e.value(c, l, name))
		line = after
	}
}

func (e *Engine) value(c *container, l life, name string) string {
	word, arg, _ := strings.Cut(name, ":")
	switch word {
	case "starts":
		return strconv.Itoa(l.Starts)
	case "x":
		n, err := parseInt(arg, 0, 8<<20)
		if err != nil {
			return ""
		}
		return strings.Repeat("x", n)
	case "http":
		return e.fetch(c, arg)
	}
	return cmp.Or(c.secrets[name], c.Spec.Env[name])
}

// fetch is what a host answers to a container that shares a network with it.
func (e *Engine) fetch(from *container, host string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	ns, _, _ := drivers.ParseWorkloadID(from.Workload)
	for _, c := range e.containers {
		their, name, _ := drivers.ParseWorkloadID(c.Workload)
		if c.State != stateRunning || c.Node != from.Node {
			continue
		}
		for _, n := range c.Spec.Networks {
			joined := slices.ContainsFunc(from.Spec.Networks, func(m drivers.Network) bool {
				return networkName(ns, m) == networkName(their, n)
			})
			if joined && (name == host || slices.Contains(n.Aliases, host)) {
				return cmp.Or(c.steer.body, c.Workload)
			}
		}
	}
	return ""
}
