package yamldoc

import (
	"strings"
	"testing"
)

func TestJSON(t *testing.T) {
	tests := map[string]struct{ yaml, want string }{
		"scalars":                     {"a: x\nb: 1\nc: true\nd: 1.50\ne: ~\nf:\ng: \"0400\"\n", `{"a":"x","b":1,"c":true,"d":1.50,"e":null,"f":null,"g":"0400"}`},
		"nested":                      {"a:\n  b:\n    - 1\n    - c: d\n", `{"a":{"b":[1,{"c":"d"}]}}`},
		"flow":                        {"a: {b: [1, two], c: {}}\n", `{"a":{"b":[1,"two"],"c":{}}}`},
		"words of YAML 1.1 are texts": {"a: yes\nb: no\nc: on\n", `{"a":"yes","b":"no","c":"on"}`},
		"block text":                  {"a: |\n  x\n  y\n", `{"a":"x\ny\n"}`},
		"alias":                       {"a: &x {k: 1}\nb: *x\n", `{"a":{"k":1},"b":{"k":1}}`},
		"merge":                       {"a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  k: 3\n", `{"a":{"k":1,"l":2},"b":{"k":3,"l":2}}`},
		"json":                        {`{"a": [1, {"b": "c\u00e4"}]}`, `{"a":[1,{"b":"cä"}]}`},
		"markup stays":                {"a: '<&>'\n", `{"a":"\u003c\u0026\u003e"}`},
		"env reference":               {"a: ${HOME}\n", `{"a":"${HOME}"}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			docs, err := Parse([]byte(tt.yaml))
			if err != nil {
				t.Fatal(err)
			}
			if len(docs) != 1 {
				t.Fatalf("got %d documents, want 1", len(docs))
			}
			got, err := docs[0].JSON()
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestDocuments(t *testing.T) {
	docs, err := Parse([]byte("# first\na: 1\n---\n---\nb: 2\n---\n# nothing\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(docs) != 2 || docs[1].Line != 5 {
		t.Fatalf("got %d documents (%+v), want 2, the second on line 5", len(docs), docs)
	}
}

func TestFaults(t *testing.T) {
	tests := map[string]struct{ yaml, want string }{
		"syntax":          {"a: 1\nb: [1\n", "line 2: not valid YAML"},
		"duplicate":       {"a: 1\nb: 2\na: 3\n", `line 3: key "a" is already on line 1`},
		"unknown alias":   {"a: 1\nb: *x\n", "line 2: alias *x names no anchor"},
		"tag":             {"a: 1\nb: !!binary aGk=\n", "line 2: tags such as !!binary"},
		"infinity":        {"a: .inf\n", "line 1: .inf is not a usable number"},
		"merge of a text": {"a:\n  <<: x\n", "line 2: << takes a mapping"},
		"two at once":     {"a: 1\na: 2\nb: *x\n", "line 3: alias"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(tt.yaml))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if len(Faults(err)) == 0 {
				t.Errorf("Faults finds none in %v", err)
			}
		})
	}
}

func TestNumbersThatReadersDisagreeOn(t *testing.T) {
	for _, text := range []string{"0x1f", "0o17", "017", "1_000", "+1"} {
		docs, err := Parse([]byte("a: 1\nmode: " + text + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := docs[0].JSON(); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%s: got %v, want a fault on line 2", text, err)
		}
	}
}

// A few lines of aliases must not become gigabytes.
func TestAliasBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 12; i++ {
		prev, name := "a"+string(rune('a'+i-1)), "a"+string(rune('a'+i))
		if i == 1 {
			prev = "a0"
		}
		b.WriteString(name + ": &" + name + " [" + strings.Repeat("*"+prev+", ", 9) + "*" + prev + "]\n")
	}
	if _, err := Parse([]byte(b.String())); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Fatalf("got %v, want a refusal", err)
	}
}

func TestLineOf(t *testing.T) {
	docs, err := Parse([]byte("name: web\nports:\n  - containerPort: 80\n  - containerPort: 81\n    hostPort: 1\nenv: {A: b}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		"name": 1, "ports": 2, "ports[0].containerPort": 3, "ports[1].hostPort": 5, "ports[1].protocol": 4,
		"ports[7]": 2, "env.A": 6, "image": 1, "": 1,
	} {
		if got := docs[0].LineOf(path); got != want {
			t.Errorf("%q: got line %d, want %d", path, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("a: &x {b: [1, 2]}\nc: *x\n---\n<<: {d: e}\n"))
	f.Add([]byte("a: |\n  b\n\t- c"))
	f.Fuzz(func(t *testing.T, text []byte) {
		docs, err := Parse(text)
		if err != nil {
			if len(Faults(err)) == 0 {
				t.Fatalf("error without a fault: %v", err)
			}
			return
		}
		for _, d := range docs {
			if _, err := d.JSON(); err != nil && len(Faults(err)) == 0 {
				t.Fatalf("JSON: %v", err)
			}
		}
	})
}
