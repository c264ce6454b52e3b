package subjects

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

// checkStructured checks the shape of a JSON event before the SDK reads it, which takes
// much on trust: a data_base64 that is no string makes it panic, a number that is no
// integer is cut, an error of an attribute can be lost. It returns the payload, without
// the attributes that are null, which means absent (CloudEvents JSON format, section
// 2.2). Errors: ErrEvent.
func checkStructured(data []byte) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return nil, fmt.Errorf("%w: the payload is not a JSON object: %w", ErrEvent, err)
	}
	nulls := false
	for _, name := range sortedNames(members) {
		value := members[name]
		if name == "data" {
			continue
		}
		if string(value) == "null" {
			delete(members, name)
			nulls = true
			continue
		}
		if err := checkMember(name, value); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrEvent, err)
		}
	}
	_, plain := members["data"]
	if _, encoded := members["data_base64"]; encoded && plain {
		return nil, fmt.Errorf("%w: data and data_base64 exclude each other", ErrEvent)
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
	if !nulls {
		return data, nil
	}
	return json.Marshal(members)
}

func sortedNames(members map[string]json.RawMessage) []string {
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
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
