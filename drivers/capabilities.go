package drivers

import "strings"

const allCapabilities = "ALL"

// bareCapability is the name as a spec writes it.
func bareCapability(name string) string {
	return strings.TrimPrefix(strings.ToUpper(name), "CAP_")
}
