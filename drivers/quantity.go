package drivers

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// quantityText writes a quantity without touching it: Quantity.String keeps what it
// wrote inside the quantity, which races when a spec is shared.
func quantityText(q *resource.Quantity) string {
	c := q.DeepCopy()
	return c.String()
}

// isQuantity checks the grammar of resource.Quantity before its parser sees the text:
// that computes powers of ten as large as an exponent of a few bytes asks for.
func isQuantity(s string) bool {
	const (
		maxText     = 32
		maxExponent = 30
	)
	if len(s) > maxText {
		return false
	}
	s = strings.TrimLeft(s, "+-")
	number := len(s) - len(strings.TrimLeft(s, "0123456789."))
	suffix := s[number:]
	mantissa := s[:number]
	if strings.Count(mantissa, ".") > 1 || strings.Trim(mantissa, ".") == "" {
		return false
	}
	switch suffix {
	case "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei":
		return true
	}
	if suffix[0] != 'e' && suffix[0] != 'E' {
		return false
	}
	exponent := suffix[1:]
	if exponent != "" && (exponent[0] == '+' || exponent[0] == '-') {
		exponent = exponent[1:]
	}
	n, ok := digits(exponent)
	return ok && len(exponent) <= 2 && n <= maxExponent
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
