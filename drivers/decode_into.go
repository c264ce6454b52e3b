package drivers

import (
	"reflect"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// into stores a node in a field. null fits none: who means the default leaves the field
// out.
func (d *decoder) into(path string, n node, to reflect.Value) {
	switch target := to.Addr().Interface().(type) {
	case *Duration:
		d.readDuration(path, n, target)
		return
	case *resource.Quantity:
		d.readQuantity(path, n, target)
		return
	}
	switch to.Kind() {
	case reflect.Pointer:
		v := reflect.New(to.Type().Elem())
		d.into(path, n, v.Elem())
		to.Set(v)
	case reflect.Struct:
		d.object(path, n, to)
	case reflect.Map:
		d.mapping(path, n, to)
	case reflect.Slice:
		d.list(path, n, to)
	case reflect.String:
		if d.is(path, n, kindString) {
			to.SetString(n.text)
		}
	case reflect.Bool:
		if d.is(path, n, kindBool) {
			to.SetBool(n.truth)
		}
	case reflect.Int, reflect.Int64:
		d.integer(path, n, to)
	default:
		// A test walks all fields of the spec, so that none ends here.
		d.add(path, "cannot be read by this version")
	}
}

func (d *decoder) is(path string, n node, want kind) bool {
	if n.kind != want {
		d.add(path, "want %s, got %s", want, n.kind)
	}
	return n.kind == want
}

func (d *decoder) object(path string, n node, to reflect.Value) {
	if !d.is(path, n, kindObject) {
		return
	}
	names, index := fieldNames(to.Type())
	seen := make(map[string]bool, len(n.members))
	for _, m := range n.members {
		i, known := index[m.key]
		if !known {
			hint := ""
			if !d.full() {
				hint = suggestField(m.key, names)
			}
			d.add(FieldPath(path, m.key), "is not a field%s", hint)
			continue
		}
		if field := joinPath(path, m.key); seen[m.key] {
			d.add(field, "is given twice")
		} else {
			d.into(field, m.value, to.Field(i))
		}
		seen[m.key] = true
	}
}

// mapping stores an object whose keys are the user's.
func (d *decoder) mapping(path string, n node, to reflect.Value) {
	if !d.is(path, n, kindObject) {
		return
	}
	m := reflect.MakeMapWithSize(to.Type(), len(n.members))
	for _, entry := range n.members {
		field, k := FieldPath(path, entry.key), reflect.ValueOf(entry.key)
		if m.MapIndex(k).IsValid() {
			d.add(field, "is given twice")
			continue
		}
		v := reflect.New(to.Type().Elem()).Elem()
		d.into(field, entry.value, v)
		m.SetMapIndex(k, v)
	}
	to.Set(m)
}

func (d *decoder) list(path string, n node, to reflect.Value) {
	if !d.is(path, n, kindArray) {
		return
	}
	list := reflect.MakeSlice(to.Type(), len(n.items), len(n.items))
	for i, item := range n.items {
		d.into(IndexPath(path, i), item, list.Index(i))
	}
	to.Set(list)
}

func (d *decoder) integer(path string, n node, to reflect.Value) {
	if n.kind != kindNumber {
		d.add(path, "want a whole number, got %s", n.kind)
		return
	}
	v, err := strconv.ParseInt(n.text, 10, to.Type().Bits())
	if err != nil {
		d.add(path, "want a whole number of at most %d bits, got %s", to.Type().Bits(), quote(n.text))
		return
	}
	to.SetInt(v)
}

func (d *decoder) readDuration(path string, n node, to *Duration) {
	const want = "a duration with its unit, such as \"30s\" or \"1m30s\""
	if n.kind != kindString {
		d.add(path, "want %s, got %s", want, n.kind)
		return
	}
	v, err := time.ParseDuration(n.text)
	if err != nil {
		d.add(path, "want %s, got %s", want, quote(n.text))
		return
	}
	*to = Duration(v)
}

// readQuantity takes numbers too, as Kubernetes does.
func (d *decoder) readQuantity(path string, n node, to *resource.Quantity) {
	const want = "a quantity such as \"500m\", \"2\" or \"256Mi\""
	if n.kind != kindString && n.kind != kindNumber {
		d.add(path, "want %s, got %s", want, n.kind)
		return
	}
	if !isQuantity(n.text) {
		d.add(path, "want %s, got %s", want, quote(n.text))
		return
	}
	v, err := resource.ParseQuantity(n.text)
	if err != nil {
		d.add(path, "want %s, got %s", want, quote(n.text))
		return
	}
	*to = v
}
