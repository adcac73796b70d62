#!/bin/sh
#
# The options that let pytest use every core: nothing where pytest-xdist is not installed.
#
#   tools/parallel.sh          each test where there is room
#   tools/parallel.sh files    the tests of a file one after the other; these wait more than they compute, so one file
#                              more than there are cores is under way, and four at most
cd "$(dirname "$0")/.." || exit 1
.venv/bin/python -c 'import xdist' 2>/dev/null || exit 0
case ${1:-} in
files)
	cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || getconf NPROCESSORS_ONLN)
	files=$((cores < 4 ? cores + 1 : 4))
	echo "-n $files --dist loadfile"
	;;
*) echo '-n auto' ;;
esac
