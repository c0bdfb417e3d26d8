#!/usr/bin/env bash
# Runs every fuzz target of the project for the given time each (default 20s).
# Usage: fuzz.sh [DURATION]
set -euo pipefail
duration=${1:-20s}
targets=$(grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' . | sort)
[ -n "$targets" ] || { echo "no fuzz target found" >&2; exit 1; }
for file in $targets; do
	for target in $(sed -nE 's/^func (Fuzz[A-Za-z0-9_]+)\(.*/\1/p' "$file"); do
		echo "== $file $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$duration" -fuzzminimizetime 1x "./$(dirname "$file")"
	done
done
