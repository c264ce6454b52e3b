package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// The output formats.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

// outputFlag adds -o to a command.
func outputFlag(cmd *cobra.Command, value *string, formats ...string) {
	cmd.Flags().StringVarP(value, "output", "o", formats[0], "format: "+strings.Join(formats, ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // fails for unknown flags only
	before := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		for _, f := range formats {
			if *value == f {
				if before != nil {
					return before(cmd, args)
				}
				return nil
			}
		}
		return exitf(exitUsage, "--output %q is not one of %s", *value, strings.Join(formats, ", "))
	}
}

// writeValue writes v as indented JSON or as YAML.
func writeValue(w io.Writer, format string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	if format == formatYAML {
		if text, err = yaml.JSONToYAML(text); err != nil {
			return fmt.Errorf("encode output: %w", err)
		}
		_, err = w.Write(append([]byte("---\n"), text...))
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

// writeLine writes v as one line of JSON.
func writeLine(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

// terminal says whether w is one.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}

// painter colours words where the reader can see colours.
type painter struct{ on bool }

func (a *app) painter(w io.Writer) painter {
	return painter{on: !a.noColor && a.host.Getenv("NO_COLOR") == "" && a.host.Getenv("TERM") != "dumb" && terminal(w)}
}

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	dim    = "2"
)

func (p painter) paint(colour, text string) string {
	if !p.on || colour == "" || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// wordColour is the colour of a phase or an outcome.
func wordColour(word string) string {
	switch word {
	case string(drivers.PhaseHealthy), string(drivers.PhaseRunning), string(drivers.PhaseCompleted), string(subjects.Done):
		return green
	case string(drivers.PhaseFailed), string(drivers.PhaseUnhealthy), string(drivers.PhaseCrashed), string(drivers.PhaseOOMKilled),
		string(subjects.Rejected):
		return red
	case string(drivers.PhaseStopped), string(drivers.PhaseDestroyed):
		return dim
	default:
		return yellow
	}
}

// plainText makes text that came from elsewhere safe to print: control characters,
// which could move the cursor or change the terminal, become visible; line ends and
// tabs stay.
func plainText(s string) string {
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			fmt.Fprintf(&b, "\\x%02x", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func hidden(r rune) bool {
	return r != '\n' && r != '\t' && (unicode.IsControl(r) || r == '\u202e' || r == '\u2066')
}

// oneLine is plainText without line ends.
func oneLine(s string) string {
	return plainText(strings.NewReplacer("\r\n", " ", "\n", " ", "\t", " ").Replace(strings.TrimSpace(s)))
}

// cell is a value of a table.
type cell struct {
	text   string
	colour string
}

func text(s string) cell { return cell{text: oneLine(s)} }

func word(s string) cell { return cell{text: oneLine(s), colour: wordColour(s)} }

// table writes rows in aligned columns under a head, two spaces apart.
func table(w io.Writer, p painter, head []string, rows [][]cell) error {
	widths := make([]int, len(head))
	for i, h := range head {
		widths[i] = utf8.RuneCountInString(h)
	}
	for _, row := range rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	var b bytes.Buffer
	line := func(cells []cell) {
		end := 0
		for i, c := range cells {
			if i > 0 {
				b.WriteString("  ")
			}
			b.WriteString(p.paint(c.colour, c.text))
			if c.text != "" {
				end = b.Len()
			}
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)))
		}
		b.Truncate(max(end, b.Len()-trailingSpaces(b.Bytes())))
		b.WriteByte('\n')
	}
	cells := make([]cell, len(head))
	for i, h := range head {
		cells[i] = cell{text: h, colour: dim}
	}
	line(cells)
	for _, row := range rows {
		line(row)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func trailingSpaces(b []byte) int { return len(b) - len(bytes.TrimRight(b, " ")) }
