package subjects

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// checkStructured checks the shape of a JSON event before the SDK reads it, which takes
// much on trust: it panics on some values of data_base64 that are no string, cuts
// numbers that are no integers, loses errors, and of two members of one name mixes up
// both. It returns the payload, without the attributes that are null, which means absent
// (CloudEvents JSON format, section 2.2), and with data_base64 free of the escapes that
// some encoders put there and the SDK does not expect. Errors: ErrEvent.
func checkStructured(data []byte) ([]byte, error) {
	members, err := readMembers(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEvent, err)
	}
	rewrite := false
	for _, name := range slices.Sorted(maps.Keys(members)) {
		value := members[name]
		if name == "data" {
			continue
		}
		if string(value) == "null" {
			delete(members, name)
			rewrite = true
			continue
		}
		if err := checkMember(name, value); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrEvent, err)
		}
	}
	encoded, ok := members["data_base64"]
	if _, plain := members["data"]; ok && plain {
		return nil, fmt.Errorf("%w: data and data_base64 exclude each other", ErrEvent)
	}
	if bytes.IndexByte(encoded, '\\') >= 0 {
		var s string
		if err := json.Unmarshal(encoded, &s); err != nil {
			return nil, fmt.Errorf("%w: data_base64: %w", ErrEvent, err)
		}
		members["data_base64"] = []byte(`"` + s + `"`) // base64 needs no escapes
		rewrite = true
	}
	var missing []string
	for _, name := range []string{"specversion", "id", "source", "type"} {
		if _, ok := members[name]; !ok {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%w: missing required attributes: %s", ErrEvent, strings.Join(missing, ", "))
	}
	if !rewrite {
		return data, nil
	}
	return json.Marshal(members)
}

// readMembers splits a JSON object and refuses names that occur twice.
func readMembers(data []byte) (map[string]json.RawMessage, error) {
	if !json.Valid(data) {
		return nil, errors.New("the payload is not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, errors.New("the payload is not a JSON object")
	}
	members := map[string]json.RawMessage{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("read the payload: %w", err)
		}
		name, ok := key.(string)
		if !ok {
			return nil, fmt.Errorf("the payload has a member named %v", key)
		}
		if _, twice := members[name]; twice {
			return nil, fmt.Errorf("%q is given more than once", name)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, fmt.Errorf("read %q: %w", name, err)
		}
		members[name] = value
	}
	return members, nil
}

func checkMember(name string, value json.RawMessage) error {
	switch name {
	case "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data_base64":
		var s string
		if err := json.Unmarshal(value, &s); err != nil {
			return fmt.Errorf("%s must be a string", name)
		}
		if name == "data_base64" {
			if _, err := base64.StdEncoding.DecodeString(s); err != nil {
				return fmt.Errorf("data_base64: %w", err)
			}
		}
		return nil
	}
	if !isAttributeName(name) {
		return fmt.Errorf("attribute name %q may only have a-z and 0-9", name)
	}
	var v any
	if err := json.Unmarshal(value, &v); err != nil {
		return fmt.Errorf("attribute %s: %w", name, err)
	}
	switch v.(type) {
	case string, bool:
		return nil
	case float64:
		var n int32
		if json.Unmarshal(value, &n) == nil {
			return nil
		}
		return fmt.Errorf("attribute %s: %s is not a 32-bit integer; write it as a string", name, value)
	}
	return fmt.Errorf("attribute %s must be a string, a boolean or an integer", name)
}

func isAttributeName(name string) bool {
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}
