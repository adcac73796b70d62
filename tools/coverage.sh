#!/bin/sh
#
# Which branches of the daemon's top floor no quick test takes: a figure for each room, then the lines by
# module. No gate: a number that must not fall is met by tests that assert nothing. Called by `make coverage`.
#
#   tools/coverage.sh        by the tests of `make check`: some minutes on two quiet cores
#   tools/coverage.sh slow   by the slow ones too; not by those that need root, Garage or servers of others
set -u

cd "$(dirname "$0")/.." || exit 1
if ! .venv/bin/python -c 'import pytest_cov' 2>/dev/null; then
	echo "coverage: pytest-cov is missing: run make setup (FreeBSD: pkg install py311-pytest-cov)" >&2
	exit 2
fi
but=' and not slow'
[ "${1:-}" != slow ] || but=
# shellcheck disable=SC2046 # no word or two
.venv/bin/python -m pytest $(sh tools/parallel.sh) -m "not root and not garage and not kernel and not real$but" \
	--cov --cov-report=
code=$?
for room in daemon control host exchange; do
	printf '%-9s %s %%\n' "$room" "$(.venv/bin/python -m coverage report --format=total --include="meshd/$room/*")"
done
.venv/bin/python -m coverage report
exit "$code"
