package config

import (
	"fmt"
	"iter"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// EnvPrefix starts every variable of the configuration.
const EnvPrefix = "KRANIX_"

// Bytes is a size, written as Kubernetes writes quantities: "512Ki", "1Gi", "1000".
type Bytes int64

// String writes the size with a binary suffix.
func (b Bytes) String() string { return resource.NewQuantity(int64(b), resource.BinarySI).String() }

// key is one setting: a field of a section.
type key struct {
	// path is "<section>.<key>".
	path  string
	value reflect.Value
}

// env is the variable that overrides the key.
func (k key) env() string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(k.path, ".", "_"))
}

// section is a top-level mapping of the file.
type section struct {
	name string
	keys []key
}

// sections lists the settings of cfg, which the values point into.
func sections(cfg *Config) []section {
	root := reflect.ValueOf(cfg).Elem()
	out := make([]section, 0, root.NumField())
	for i := range root.NumField() {
		s := section{name: root.Type().Field(i).Tag.Get("key")}
		fields := root.Field(i)
		for j := range fields.NumField() {
			name := fields.Type().Field(j).Tag.Get("key")
			s.keys = append(s.keys, key{path: s.name + "." + name, value: fields.Field(j)})
		}
		out = append(out, s)
	}
	return out
}

func keysByPath(cfg *Config) map[string]key {
	out := map[string]key{}
	for _, s := range sections(cfg) {
		for _, k := range s.keys {
			out[k.path] = k
		}
	}
	return out
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	bytesType    = reflect.TypeFor[Bytes]()
	quantityType = reflect.TypeFor[*resource.Quantity]()
)

// setText sets a scalar from its text. The error says what the key wants and what it
// got; a Secret is a text, which is never wrong, so no error holds one.
func setText(v reflect.Value, text string) error {
	switch {
	case v.Type() == durationType:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("want a duration such as \"30s\" or \"2h\", got %q", text)
		}
		v.SetInt(int64(d))
		return nil
	case v.Type() == bytesType:
		q, err := resource.ParseQuantity(text)
		if err != nil || q.Sign() < 0 || q.CmpInt64(math.MaxInt64) >= 0 {
			return fmt.Errorf("want a size such as \"512Mi\" or \"1Gi\", got %q", text)
		}
		v.SetInt(q.Value())
		return nil
	case v.Type() == quantityType:
		if text == "" {
			v.SetZero()
			return nil
		}
		q, err := resource.ParseQuantity(text)
		if err != nil || q.Sign() < 0 {
			return fmt.Errorf("want a quantity such as \"500m\" or \"4Gi\", got %q", text)
		}
		v.Set(reflect.ValueOf(&q))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		switch text {
		case "true":
			v.SetBool(true)
		case "false":
			v.SetBool(false)
		default:
			return fmt.Errorf("want true or false, got %q", text)
		}
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("want a whole number, got %q", text)
		}
		v.SetInt(int64(n))
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("want a number, got %q", text)
		}
		v.SetFloat(f)
	default:
		return fmt.Errorf("want %s, not a single value", shape(v))
	}
	return nil
}

// setVariable sets a key from a variable's text: lists are comma separated, maps are
// comma separated key=value pairs.
func setVariable(v reflect.Value, text string) error {
	switch v.Kind() {
	case reflect.Slice:
		v.Set(reflect.ValueOf(splitList(text)))
		return nil
	case reflect.Map:
		m := reflect.MakeMap(v.Type())
		for _, pair := range splitList(text) {
			name, value, ok := strings.Cut(pair, "=")
			if !ok {
				return fmt.Errorf("want name=value pairs separated by commas, got %q", pair)
			}
			if err := setEntry(m, strings.TrimSpace(name), strings.TrimSpace(value)); err != nil {
				return fmt.Errorf("%s: %w", strings.TrimSpace(name), err)
			}
		}
		v.Set(m)
		return nil
	default:
		return setText(v, strings.TrimSpace(text))
	}
}

func setEntry(m reflect.Value, name, text string) error {
	e := reflect.New(m.Type().Elem()).Elem()
	if err := setText(e, text); err != nil {
		return err
	}
	m.SetMapIndex(reflect.ValueOf(name), e)
	return nil
}

func splitList(text string) []string {
	out := []string{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// shape names what a key holds, for messages.
func shape(v reflect.Value) string {
	switch {
	case v.Type() == durationType:
		return "a duration"
	case v.Type() == bytesType:
		return "a size"
	case v.Type() == quantityType:
		return "a quantity"
	}
	switch v.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list"
	case reflect.Map:
		return "a mapping"
	default:
		return "a text"
	}
}

// yamlText writes a value as one line of YAML.
func yamlText(v reflect.Value) string {
	if v.Kind() == reflect.Map {
		var parts []string
		for _, name := range slices.Sorted(keysOf(v)) {
			parts = append(parts, strconv.Quote(name)+": "+yamlText(v.MapIndex(reflect.ValueOf(name))))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	switch x := v.Interface().(type) {
	case time.Duration:
		return strconv.Quote(durationText(x))
	case Bytes:
		return strconv.Quote(x.String())
	case *resource.Quantity:
		if x == nil {
			return `""`
		}
		return strconv.Quote(x.String())
	case Secret:
		return strconv.Quote(x.String())
	case string:
		return strconv.Quote(x)
	case []string:
		quoted := make([]string, len(x))
		for i, s := range x {
			quoted[i] = strconv.Quote(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	default:
		return fmt.Sprint(x)
	}
}

func keysOf(m reflect.Value) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, k := range m.MapKeys() {
			if !yield(k.String()) {
				return
			}
		}
	}
}

// durationText drops the zero units that time.Duration prints: "1h", not "1h0m0s".
func durationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// plain is a value as JSON should write it.
func plain(v any) any {
	switch x := v.(type) {
	case time.Duration:
		return durationText(x)
	case Bytes:
		return x.String()
	case Secret:
		return x.String()
	case []string:
		if x == nil {
			return []string{}
		}
		return x
	case map[string]time.Duration:
		out := map[string]string{}
		for k, d := range x {
			out[k] = durationText(d)
		}
		return out
	case map[string]string:
		if x == nil {
			return map[string]string{}
		}
		return x
	default:
		return v
	}
}
