#!/usr/bin/env bash
# go test, and at its end the names of the tests that were not run because what
# they need is not on this machine.
# Usage: test.sh GO-TEST-ARGUMENTS...
set -uo pipefail

# A new name each time: go test takes results of tests that looked at it from its
# cache no longer, so that the list is whole.
list=$(mktemp)
trap 'rm -f "$list"' EXIT
WEIR_NOT_RUN=$list go test "$@"
status=$?
if [ -s "$list" ]; then
	echo "not run:"
	sort -u "$list" | sed 's/^/  /'
fi
exit $status
