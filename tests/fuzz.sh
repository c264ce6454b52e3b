#!/usr/bin/env bash
# Runs every fuzz target of the module for the time given, one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."
fuzztime=${1:-5s}

found=0
while IFS=: read -r file name; do
	[[ -n $name ]] || continue
	found=$((found + 1))
	go test -run '^$' -fuzz "^$name\$" -fuzztime "$fuzztime" "$(dirname "$file")"
done < <(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sed 's/:func /:/' | sort)

if [[ $found -eq 0 ]]; then
	echo "no fuzz target was found" >&2
	exit 1
fi
echo "fuzzed $found targets for $fuzztime each"
