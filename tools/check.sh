#!/bin/sh
#
# What every change has to pass, in under a minute on two quiet cores: the static checks, and beside them
# every test that takes under a fifth of a second and needs no root, no Garage and no server. Says how long
# it took. Called by `make check`.
set -u

cd "$(dirname "$0")/.." || exit 1
# Each worker, and each program that a test starts, would compile all that it imports, every time.
unset PYTHONDONTWRITEBYTECODE
began_at=$(date +%s)
said=$(mktemp "${TMPDIR:-/tmp}/meshd-check.XXXXXX") || exit 1
trap 'rm -f "$said"' EXIT

sh tools/static.sh >"$said" 2>&1 &
# shellcheck disable=SC2046 # no word or two
.venv/bin/python -m pytest $(sh tools/parallel.sh) \
	-m 'not root and not garage and not kernel and not real and not slow'
code=$?
wait $!
static=$?
cat "$said"
printf 'check: %s s on %s cores\n' "$(($(date +%s) - began_at))" "$(getconf _NPROCESSORS_ONLN)"
[ "$code" = 0 ] && [ "$static" = 0 ]
