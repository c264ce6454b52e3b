package docker

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// labelRetain marks a volume that outlives its workload.
const labelRetain = drivers.LabelPrefix + "retain"

// The roles besides those of containers.
const (
	roleVolume  = "volume"
	roleNetwork = "network"
	// roleRecord is a volume that holds nothing: see record.go.
	roleRecord = "record"
)

const namePrefix = "kranix."

func instanceName(spec *drivers.WorkloadSpec, revision string, ordinal int) string {
	return namePrefix + spec.Namespace + "." + spec.Name + "." + revision + "." + strconv.Itoa(ordinal)
}

func hookName(spec *drivers.WorkloadSpec, revision string, sequence uint64) string {
	return namePrefix + spec.Namespace + "." + spec.Name + "." + revision + ".hook." + strconv.FormatUint(sequence, 10)
}

func networkName(namespace, network string) string { return namePrefix + namespace + "." + network }

func volumeName(spec *drivers.WorkloadSpec, volume string) string {
	return namePrefix + spec.Namespace + "." + spec.Name + "." + volume
}

func recordName(spec *drivers.WorkloadSpec, sequence uint64) string {
	return namePrefix + spec.Namespace + "." + spec.Name + ".record." + strconv.FormatUint(sequence, 10)
}

// ownerLabels are on everything a workload owns.
func ownerLabels(node string, spec *drivers.WorkloadSpec, cmd drivers.Command, role string) map[string]string {
	return map[string]string{
		drivers.LabelWorkload:  spec.ID(),
		drivers.LabelNamespace: spec.Namespace,
		drivers.LabelName:      spec.Name,
		drivers.LabelNode:      node,
		drivers.LabelSequence:  strconv.FormatUint(cmd.Sequence, 10),
		drivers.LabelCommand:   cmd.ID,
		drivers.LabelRole:      role,
	}
}

// encodeSpec is the value of drivers.LabelSpec.
func encodeSpec(spec *drivers.WorkloadSpec) (string, error) {
	b, err := json.Marshal(spec)
	if err != nil {
		return "", fmt.Errorf("encode spec: %w", err)
	}
	return string(b), nil
}

// decodeSpec reads drivers.LabelSpec. The label was written by this package, perhaps by
// another version of it, so unknown fields are let pass.
func decodeSpec(label string) (*drivers.WorkloadSpec, error) {
	var spec drivers.WorkloadSpec
	if err := json.Unmarshal([]byte(label), &spec); err != nil {
		return nil, fmt.Errorf("decode spec label: %w", err)
	}
	return spec.WithDefaults(), nil
}
