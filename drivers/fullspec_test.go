package drivers

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
)

// fullSpec has every field set to something that is not its zero value, found by
// reflection so that a field added later is covered at once. It is not valid.
func fullSpec(t testing.TB) *WorkloadSpec {
	t.Helper()
	s := new(WorkloadSpec)
	n := 0
	fillValue(t, reflect.ValueOf(s).Elem(), &n)
	return s
}

func fillValue(t testing.TB, v reflect.Value, n *int) {
	t.Helper()
	*n++
	if q, ok := v.Addr().Interface().(*resource.Quantity); ok {
		*q = resource.MustParse(fmt.Sprintf("%dMi", *n))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("v%d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillValue(t, v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fillValue(t, v.Index(0), n)
		fillValue(t, v.Index(1), n)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fillValue(t, k, n)
		fillValue(t, e, n)
		v.SetMapIndex(k, e)
	case reflect.Struct:
		for i := range v.NumField() {
			fillValue(t, v.Field(i), n)
		}
	default:
		t.Fatalf("a spec holds a %s, which nothing here can fill", v.Type())
	}
}

// walkLeaves calls fn for every leaf of a spec with its path. fn may change the leaf.
func walkLeaves(path string, v reflect.Value, fn func(path string, leaf reflect.Value)) {
	if _, ok := v.Addr().Interface().(*resource.Quantity); ok {
		fn(path, v)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			walkLeaves(path, v.Elem(), fn)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walkLeaves(IndexPath(path, i), v.Index(i), fn)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			e := reflect.New(v.Type().Elem()).Elem()
			e.Set(v.MapIndex(k))
			walkLeaves(path, e, fn)
			v.SetMapIndex(k, e)
		}
	case reflect.Struct:
		names, index := fieldNames(v.Type())
		for _, name := range names {
			walkLeaves(joinPath(path, name), v.Field(index[name]), fn)
		}
	default:
		fn(path, v)
	}
}

// change makes a leaf differ from what it was.
func change(leaf reflect.Value) {
	if q, ok := leaf.Addr().Interface().(*resource.Quantity); ok {
		q.Add(resource.MustParse("1Mi"))
		return
	}
	switch leaf.Kind() {
	case reflect.String:
		leaf.SetString(leaf.String() + "x")
	case reflect.Bool:
		leaf.SetBool(!leaf.Bool())
	default:
		leaf.SetInt(leaf.Int() + 1)
	}
}

// collectStrings calls fn with the path of every string of s that is not a map's value.
func collectStrings(s *WorkloadSpec, fn func(path string)) {
	walkLeaves("", reflect.ValueOf(s).Elem(), func(path string, leaf reflect.Value) {
		if leaf.Kind() == reflect.String {
			fn(path)
		}
	})
}

// setString sets the string at a path.
func setString(s *WorkloadSpec, path, value string) {
	walkLeaves("", reflect.ValueOf(s).Elem(), func(p string, leaf reflect.Value) {
		if p == path && leaf.Kind() == reflect.String {
			leaf.SetString(value)
		}
	})
}

// faultsAt returns the messages about a path or something around it.
func faultsAt(err error, path string) []string {
	var messages []string
	if fields, ok := err.(*FieldErrors); ok {
		for _, f := range fields.Fields {
			if strings.HasPrefix(path, f.Path) || strings.HasPrefix(f.Path, path) {
				messages = append(messages, f.Path+": "+f.Message)
			}
		}
	}
	return messages
}
