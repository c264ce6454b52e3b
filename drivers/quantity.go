package drivers

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"
)

// quantityText writes a quantity without touching it: Quantity.String keeps what it wrote
// inside the quantity, which races when a spec is shared.
func quantityText(q *resource.Quantity) string {
	c := q.DeepCopy()
	return c.String()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
