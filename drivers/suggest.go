package drivers

import (
	"fmt"
	"strings"
)

// didYouMean proposes the known word a mistyped one is closest to, as the end of a
// message, or is empty when none is close.
func didYouMean(word string, known []string) string {
	// Beyond this length nothing is close, and the distance is quadratic.
	if len(word) > maxQuoted {
		return ""
	}
	best, bestDistance := "", 3
	for _, k := range known {
		a, b := fold(word), fold(k)
		switch {
		case a == b:
			return meaning(k)
		case len(b) >= 3 && strings.HasPrefix(a, b), len(a) >= 3 && strings.HasPrefix(b, a):
			if bestDistance > 1 {
				best, bestDistance = k, 1
			}
		default:
			if d := distance(a, b); d < bestDistance && d < len(a) && d < len(b) {
				best, bestDistance = k, d
			}
		}
	}
	if best == "" {
		return ""
	}
	return meaning(best)
}

func meaning(word string) string { return fmt.Sprintf("; did you mean %q?", word) }

// fold drops what people vary: case, '_' and '-'.
func fold(s string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			row[j+1] = min(cost, above+1, row[j]+1)
			diagonal = above
		}
	}
	return row[len(b)]
}
