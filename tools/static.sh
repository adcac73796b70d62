#!/bin/sh
#
# Linter, types and import contracts, side by side. On FreeBSD one that is not there is left out, and that is
# reported: two of them are written in Rust and have no wheels there. Packages: ruff, py311-mypy.
set -u

cd "$(dirname "$0")/.." || exit 1
PATH=$PWD/.venv/bin:$PATH
results=$(mktemp -d "${TMPDIR:-/tmp}/meshd-static.XXXXXX") || exit 1
trap 'rm -rf "$results"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# run NAME COMMAND...: its output and its exit status in files.
run() {
	name=$1
	shift
	if command -v "$1" >/dev/null; then
		"$@" >"$results/$name.output" 2>&1
		echo "$?" >"$results/$name.status"
	elif [ "$(uname -s)" = FreeBSD ]; then
		echo "static: $1 is not installed: left out" >"$results/$name.output"
		echo 0 >"$results/$name.status"
	else
		echo "static: $1 is missing: run make setup" >"$results/$name.output"
		echo 1 >"$results/$name.status"
	fi
}

run types mypy &
run lint ruff check .
run format ruff format --check .
run contracts lint-imports
wait

code=0
for name in lint format contracts types; do
	cat "$results/$name.output"
	[ "$(cat "$results/$name.status")" = 0 ] || code=1
done
exit $code
