package drivers

// LabelPrefix starts every label the runtime puts on what it creates. Labels in a spec
// may not use it.
const LabelPrefix = "io.kranix."

// The labels every driver puts on everything it creates, in the engine's own notation
// for labels. They are how a driver finds what it owns; nothing else is ever touched.
const (
	// LabelWorkload is the workload ID, "<namespace>/<name>".
	LabelWorkload  = LabelPrefix + "workload"
	LabelNamespace = LabelPrefix + "namespace"
	LabelName      = LabelPrefix + "name"
	// LabelNode is the node that owns the object: a second node on the same engine
	// neither sees nor touches it.
	LabelNode = LabelPrefix + "node"
	// LabelSequence and LabelCommand name the command that created the object.
	LabelSequence = LabelPrefix + "sequence"
	LabelCommand  = LabelPrefix + "command"
	// LabelInstance is the ordinal of the instance.
	LabelInstance = LabelPrefix + "instance"
	// LabelRevision is the revision of the workload's template.
	LabelRevision = LabelPrefix + "revision"
	// LabelRole is "instance" or "hook".
	LabelRole = LabelPrefix + "role"
	// LabelSpec is the spec as JSON. It holds references to secrets, never values.
	LabelSpec = LabelPrefix + "spec"
)

// The values of LabelRole.
const (
	RoleInstance = "instance"
	RoleHook     = "hook"
)
