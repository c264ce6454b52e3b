package drivers

import (
	"bytes"
	"encoding/json"
)

// DecodeSpec reads a spec from JSON, strictly.
func DecodeSpec(data []byte) (*WorkloadSpec, error) {
	var f faults
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	s := new(WorkloadSpec)
	if err := dec.Decode(s); err != nil {
		f.add("", "%v", err)
		return nil, f.err(ErrInvalidSpec)
	}
	return s, nil
}
