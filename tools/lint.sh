#!/usr/bin/env bash
# Each check here is named with its reason. All of them run, so that one run shows everything.
set -uo pipefail
cd "$(dirname "$0")/.."

go=${GO:-go}
failed=0
check() {
	echo "lint: $*"
	"$@" || { failed=1; echo "lint: failed: $*" >&2; }
}

formatted() {
	local bad
	bad=$(gofmt -l .)
	[ -z "$bad" ] || { echo "$bad"; return 1; }
}

check formatted
check "$go" vet ./...
# The tests and checks that are built only with a tag.
check "$go" vet -tags conformance ./test/...
check "$go" vet -tags poison ./...
# The goroutine driver is all there is elsewhere, and must build there.
for system in darwin windows; do
	check env GOOS=$system CGO_ENABLED=0 "$go" vet ./...
done
# Other modules of this repository.
for mod in test/interop internal/bench/mochi; do
	check env -C $mod "$go" vet ./...
done
check "$go" tool -modfile=tools/go.mod staticcheck -checks inherit,ST1005,ST1016,ST1020 ./...
# What nobody calls, tests counted as callers, is taken out.
dead=$("$go" tool -modfile=tools/go.mod deadcode -test ./...) || failed=1
if [ -n "$dead" ]; then
	echo "$dead"
	echo "lint: failed: deadcode found functions that nothing calls" >&2
	failed=1
fi
exit $failed
