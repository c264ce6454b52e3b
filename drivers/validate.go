package drivers

// Validate checks the whole spec and reports every fault at once, each with its path,
// as *FieldErrors (ErrInvalidSpec). Fields that are empty where a default exists pass.
// It knows no backend and no node: what a backend cannot honour is found by SpecChecker,
// what a node does not allow by Policy.
func (s *WorkloadSpec) Validate() error {
	var f faults
	if !IsLabel(s.Name) {
		f.add("name", "want a DNS-1123 label, got %s", quote(s.Name))
	}
	if s.Image == "" {
		f.add("image", "is required")
	}
	return f.err(ErrInvalidSpec)
}

func (f *faults) secretRef(path string, ref SecretRef) {
	if (ref.File == "") == (ref.Env == "") {
		f.add(path, "want exactly one of file and env")
	}
}
