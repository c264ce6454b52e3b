// Package recipes runs the command lines of the documentation, so that what a reader
// copies works.
//
// A recipe is a fenced block of Markdown with the info string "sh recipe", followed by a
// "text" block: lines that its output has, in that order, with "…" for any text. A
// recipe that ends by itself must end with code 0. A "sh recipe watch" is what a reader
// runs in another terminal: it is started, goes on beside the recipes after it, and has
// until the end of the document to print its lines.
package recipes

import (
	"fmt"
	"strings"
)

// Recipe is one block of a document.
type Recipe struct {
	// Line is the line of the document that the block begins on.
	Line int
	// Script is for bash.
	Script string
	// Watch says that it runs beside what follows.
	Watch bool
	// Want are the lines its output has.
	Want []string
}

// The info strings.
const (
	infoRecipe = "sh recipe"
	infoWatch  = "sh recipe watch"
	infoOutput = "text"
)

// block is a fenced block.
type block struct {
	line  int
	info  string
	lines []string
}

// Extract returns the recipes of a Markdown document. A recipe without its expected
// output is an error, as is a block that does not end.
func Extract(document string) ([]Recipe, error) {
	blocks, err := fenced(document)
	if err != nil {
		return nil, err
	}
	var out []Recipe
	for i, b := range blocks {
		if b.info != infoRecipe && b.info != infoWatch {
			continue
		}
		if i+1 == len(blocks) || blocks[i+1].info != infoOutput {
			return nil, fmt.Errorf("line %d: a recipe needs a %q block with its output after it", b.line, infoOutput)
		}
		var want []string
		for _, l := range blocks[i+1].lines {
			if l = strings.TrimSpace(l); l != "" {
				want = append(want, l)
			}
		}
		if len(want) == 0 {
			return nil, fmt.Errorf("line %d: the recipe's output is empty, so it could not fail", b.line)
		}
		out = append(out, Recipe{Line: b.line, Script: strings.Join(b.lines, "\n"), Watch: b.info == infoWatch, Want: want})
	}
	return out, nil
}

// fenced returns the blocks between lines of three backquotes.
func fenced(document string) ([]block, error) {
	var blocks []block
	var open *block
	for i, line := range strings.Split(document, "\n") {
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && open == nil:
			open = &block{line: i + 1, info: strings.Join(strings.Fields(info), " ")}
		case fence:
			blocks = append(blocks, *open)
			open = nil
		case open != nil:
			open.lines = append(open.lines, line)
		}
	}
	if open != nil {
		return nil, fmt.Errorf("line %d: the block does not end", open.line)
	}
	return blocks, nil
}

// Missing returns the first of the wanted lines that output does not have, or "" when
// it has all of them in their order.
func Missing(want []string, output string) string {
	lines := strings.Split(output, "\n")
	next := 0
	for _, w := range want {
		for next < len(lines) && !matches(w, strings.TrimSpace(lines[next])) {
			next++
		}
		if next == len(lines) {
			return w
		}
		next++
	}
	return ""
}

// matches compares a line with a pattern in which "…" stands for any text.
func matches(pattern, line string) bool {
	parts := strings.Split(pattern, "…")
	if len(parts) == 1 {
		return line == pattern
	}
	line, ok := strings.CutPrefix(line, parts[0])
	if !ok {
		return false
	}
	last := len(parts) - 1
	for _, p := range parts[1:last] {
		_, after, ok := strings.Cut(line, p)
		if !ok {
			return false
		}
		line = after
	}
	return strings.HasSuffix(line, parts[last])
}
