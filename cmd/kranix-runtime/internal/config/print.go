package config

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Write prints the effective configuration as YAML that Load takes again, secrets
// masked. With sources, each line ends in a comment that says where its value came
// from.
func (l *Loaded) Write(w io.Writer, sources bool) error {
	b := bufio.NewWriter(w)
	for i, s := range sections(l.Config) {
		if i > 0 {
			fmt.Fprintln(b)
		}
		fmt.Fprintf(b, "%s:\n", s.name)
		for _, k := range s.keys {
			line := "  " + strings.TrimPrefix(k.path, s.name+".") + ": " + yamlText(k.value)
			if sources {
				line = fmt.Sprintf("%-48s # %s", line, l.Source(k.path))
			}
			fmt.Fprintln(b, line)
		}
	}
	return b.Flush()
}

// Values is the effective configuration as plain values by section and key, secrets
// masked, for JSON.
func (l *Loaded) Values() map[string]map[string]any {
	out := map[string]map[string]any{}
	for _, s := range sections(l.Config) {
		out[s.name] = map[string]any{}
		for _, k := range s.keys {
			out[s.name][strings.TrimPrefix(k.path, s.name+".")] = plain(k.value.Interface())
		}
	}
	return out
}
