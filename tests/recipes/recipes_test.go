package recipes

import (
	"reflect"
	"strings"
	"testing"
)

func TestExtract(t *testing.T) {
	t.Parallel()
	doc := strings.Join([]string{
		"# Title", "```sh", "not a recipe", "```",
		"```sh recipe", "echo a", "echo b", "```", "and prints", "```text", "a", "", "  b", "```",
		"```sh recipe watch", "tail -f x", "```", "```text", "x…", "```", "",
	}, "\n")
	got, err := Extract(doc)
	if err != nil {
		t.Fatal(err)
	}
	want := []Recipe{
		{Line: 5, Script: "echo a\necho b", Want: []string{"a", "b"}},
		{Line: 15, Script: "tail -f x", Watch: true, Want: []string{"x…"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("recipes %+v, want %+v", got, want)
	}
}

func TestExtractRefuses(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]string{
		"no output":    "```sh recipe\necho\n```\n",
		"other output": "```sh recipe\necho\n```\n```sh recipe\necho\n```\n```text\nx\n```\n",
		"empty output": "```sh recipe\necho\n```\n```text\n\n```\n",
		"not ended":    "```sh recipe\necho\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := Extract(doc); err == nil {
				t.Errorf("recipes %+v, want an error", got)
			}
		})
	}
}

func TestMissing(t *testing.T) {
	t.Parallel()
	const output = "10:00 start\n  {\"a\":1,\"b\":2}\nend\n"
	for name, tc := range map[string]struct {
		want    []string
		missing string
	}{
		"all":            {[]string{"10:00 start", "end"}, ""},
		"any text":       {[]string{"…start", `{…"b":…}`, "e…d"}, ""},
		"order":          {[]string{"end", "10:00 start"}, "10:00 start"},
		"twice":          {[]string{"end", "end"}, "end"},
		"part of a line": {[]string{"start"}, "start"},
		"wrong end":      {[]string{"…star"}, "…star"},
		"overlap":        {[]string{"en…nd"}, "en…nd"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := Missing(tc.want, output); got != tc.missing {
				t.Errorf("missing %q, want %q", got, tc.missing)
			}
		})
	}
}
