#!/usr/bin/env bash
# Runs every fuzz target of the module for FUZZTIME (a minute), one after the other. Go fuzzes one target of one package
# at a time, so they are found by name.
set -euo pipefail
cd "$(dirname "$0")/.."

time=${FUZZTIME:-1m}
go=${GO:-go}
failed=0
targets=$(git ls-files --cached --others --exclude-standard '*_test.go' | xargs grep -HoE '^func Fuzz[A-Za-z0-9_]+' | sed 's/:func /:/' | sort)
[ -n "$targets" ] || { echo "fuzz.sh: no fuzz target found" >&2; exit 1; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT
for t in $targets; do
	folder=$(dirname "${t%%:*}")
	name=${t##*:}
	case $folder in test/interop*) continue ;; esac
	echo "== $folder $name, $time"
	if "$go" test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "./$folder" >"$log" 2>&1; then
		tail -n 3 "$log"
	elif grep -q 'context deadline exceeded' "$log" && ! grep -q 'Failing input' "$log"; then
		# Go sometimes reports the end of the time itself as a failure.
		tail -n 4 "$log"
	else
		cat "$log"
		failed=1
	fi
done
exit $failed
