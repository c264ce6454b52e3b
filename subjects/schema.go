package subjects

import (
	"embed"
	"strings"
)

// schemaFiles holds the JSON Schema of the data of each event type.
//
//go:embed schemas/*.json
var schemaFiles embed.FS

// anyPhase stands for every phase in SchemaTypes.
const anyPhase = "*"

// Schema returns the JSON Schema (draft 2020-12) of the data of an event type, and
// whether there is one. The caller must not change it. All phases share one schema, and
// so do all outcomes.
func Schema(eventType string) ([]byte, bool) {
	name, ok := schemaName(eventType)
	if !ok {
		return nil, false
	}
	b, err := schemaFiles.ReadFile("schemas/" + name + ".json")
	return b, err == nil
}

func schemaName(eventType string) (string, bool) {
	switch eventType {
	case TypeDeploy, TypeDestroy, TypeRestart, TypeAssignment, TypeLog, TypeMetric, TypeDeadLetter:
		return strings.TrimPrefix(eventType, typePrefix), true
	}
	if phase, ok := between(eventType, typeWorkloadPrefix, typeSuffix); ok {
		return "workload" + typeSuffix, isLabel(phase) || phase == anyPhase
	}
	if outcome, ok := between(eventType, typeResultPrefix, typeSuffix); ok {
		for _, o := range Outcomes() {
			if string(o) == outcome {
				return "result" + typeSuffix, true
			}
		}
	}
	return "", false
}

const typePrefix = "io.kranix."

func between(s, prefix, suffix string) (string, bool) {
	s, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return "", false
	}
	return strings.CutSuffix(s, suffix)
}

// SchemaTypes lists the event types that have a schema; WorkloadType("*") stands for
// the types of all phases. Schema accepts each of them.
func SchemaTypes() []string {
	types := []string{TypeDeploy, TypeDestroy, TypeRestart, TypeAssignment, TypeLog, TypeMetric, TypeDeadLetter, WorkloadType(anyPhase)}
	for _, o := range Outcomes() {
		types = append(types, ResultType(o))
	}
	return types
}
