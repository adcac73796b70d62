#!/bin/sh
#
# The option that lets pytest use every core: nothing where pytest-xdist is not installed.
cd "$(dirname "$0")/.." || exit 1
if .venv/bin/python -c 'import xdist' 2>/dev/null; then echo '-n auto'; fi
