package drivers

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxFaults bounds a report: it travels in a result event, and a hostile spec can hold
// a fault per byte.
const maxFaults = 100

// faults collects what is wrong with a spec.
type faults struct {
	fields []FieldError
	more   int
}

func (f *faults) add(path, format string, args ...any) {
	if f.full() {
		f.more++
		return
	}
	f.fields = append(f.fields, FieldError{Path: path, Message: fmt.Sprintf(format, args...)})
}

// full says that further faults are only counted.
func (f *faults) full() bool { return len(f.fields) >= maxFaults }

// err returns what was collected as *FieldErrors of the class, or nil.
func (f *faults) err(class error) error {
	if len(f.fields) == 0 {
		return nil
	}
	fields := f.fields
	if f.more > 0 {
		fields = append(fields, FieldError{Message: fmt.Sprintf("%d more faults are not listed", f.more)})
	}
	return &FieldErrors{Class: class, Fields: fields}
}

// IndexPath is the path of an element of the list at path: "ports[0]".
func IndexPath(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// FieldPath is the path of a field or an entry of the object at path: "env.HOME". A key
// that could be taken for more than one step is quoted: `labels["a.b"]`.
func FieldPath(path, k string) string {
	for i, c := range []byte(k) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '-'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return path + "[" + quote(k) + "]"
		}
	}
	if k == "" || len(k) > maxQuoted {
		return path + "[" + quote(k) + "]"
	}
	return joinPath(path, k)
}

// joinPath is the path of a field of the object at path.
func joinPath(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

// maxQuoted is how many bytes of a user's text a message repeats.
const maxQuoted = 64

// quote writes a user's text so that it can neither flood nor forge a message.
func quote(s string) string {
	if len(s) <= maxQuoted {
		return strconv.Quote(s)
	}
	cut := maxQuoted
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.Quote(s[:cut]) + "..."
}

// plain reports a value that is too long or holds what no line of text does.
func (f *faults) plain(path, value string, limit int) bool {
	return f.text(path, value, limit, "")
}

// prose is plain for values that may have several lines.
func (f *faults) prose(path, value string, limit int) bool {
	return f.text(path, value, limit, "\n\r\t")
}

// text never repeats the value: it may be a password that is in the wrong place.
func (f *faults) text(path, value string, limit int, allowed string) bool {
	if len(value) > limit {
		f.add(path, "is %d bytes long, at most %d are allowed", len(value), limit)
		return false
	}
	for i, r := range value {
		switch {
		case r == utf8.RuneError && invalidAt(value, i):
			f.add(path, "is not valid UTF-8 at byte %d", i)
			return false
		case unicode.IsControl(r) && !strings.ContainsRune(allowed, r):
			f.add(path, "holds the control character %U at byte %d", r, i)
			return false
		}
	}
	return true
}

func invalidAt(s string, i int) bool {
	_, size := utf8.DecodeRuneInString(s[i:])
	return size == 1
}

// oneOf reports a word that is none of the allowed ones.
func (f *faults) oneOf(path, value string, allowed ...string) {
	for _, a := range allowed {
		if value == a {
			return
		}
	}
	f.add(path, "want %s, got %s", strings.Join(allowed, ", "), quote(value))
}

// within reports a number outside of its bounds.
func within[T int | int64](f *faults, path string, value, low, high T) bool {
	if value < low || value > high {
		f.add(path, "want %d to %d, got %d", low, high, value)
		return false
	}
	return true
}
