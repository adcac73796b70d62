#!/bin/sh
#
# Linter, types and import contracts. On FreeBSD one that is not there is left out, and that is said: two of
# them are written in Rust and have no wheels there. Packages: ruff, py311-mypy.
set -u

cd "$(dirname "$0")/.." || exit 1
PATH=$PWD/.venv/bin:$PATH
code=0

for tool in 'ruff check .' 'ruff format --check .' mypy lint-imports; do
	name=${tool%% *}
	if command -v "$name" >/dev/null; then
		# shellcheck disable=SC2086 # a command and its arguments
		$tool || code=1
	elif [ "$(uname -s)" = FreeBSD ]; then
		echo "static: $name is not installed: left out"
	else
		echo "static: $name is missing: run make setup" >&2
		code=1
	fi
done
exit $code
