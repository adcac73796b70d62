#!/bin/sh
#
# What every change has to pass, in under two minutes on two quiet cores: the static checks, then every
# test that takes under a second, needs no root and no Garage. Says how long it took. Called by `make check`.
set -u

cd "$(dirname "$0")/.." || exit 1
# Each worker, and each program that a test starts, would compile all that it imports, every time.
unset PYTHONDONTWRITEBYTECODE
began_at=$(date +%s)

# shellcheck disable=SC2046 # no word or two
sh tools/static.sh &&
	.venv/bin/python -m pytest $(sh tools/parallel.sh) -m 'not root and not garage and not kernel and not slow'
code=$?
printf 'check: %s s on %s cores\n' "$(($(date +%s) - began_at))" "$(getconf _NPROCESSORS_ONLN)"
exit "$code"
