#!/bin/sh
#
# The tests, in stages that run even if an earlier one fails. First what needs nothing of the machine, on all
# cores. Then what needs parts of it: namespaces, packet captures, a real Garage, the services. These wait
# more than they compute, so a few files run side by side; tests of one file share a lab and follow one another.
# Then what needs the kernel's own WireGuard, in the kernel lab. The last line is the sum.
#
#   tools/test.sh        `make test`, after the static checks: under twenty minutes on two cores
#   tools/test.sh long   `make test-long`: the properties once more with the examples of the profile "thorough",
#                        and the tests marked "long"
set -u

MAX_SUSPECTS=3

cd "$(dirname "$0")/.." || exit 1
case ${1:-} in
'') profile=default anywhere='not long' machine='not long' kernel=$(uname -s) ;;
long) profile=thorough anywhere='(long or hypothesis)' machine=long kernel= ;;
*)
	echo "test.sh: unknown argument '$1': nothing or long expected" >&2
	exit 2
	;;
esac
anywhere="not kernel and not root and not garage and not real and $anywhere"
machine="not kernel and (root or garage or real) and $machine"
# Each worker, and each program that a test starts, would compile all that it imports, every time.
unset PYTHONDONTWRITEBYTECODE
results=$(mktemp -d "${TMPDIR:-/tmp}/meshd-test.XXXXXX") || exit 1
trap 'rm -rf "$results"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Continuous integration has to have a Garage: there its tests fail without one.
if [ "${CI:-}" = true ]; then
	sh tools/setup.sh garage && sh tools/garage.sh build || exit 1
	sh tools/setup.sh services || exit 1
fi

# stage NAME COMMAND...: the output on ours and in a file, the exit status beside it.
stage() {
	name=$1
	shift
	printf '\n== %s\n' "$name"
	{
		"$@" 2>&1
		echo "$?" >"$results/$name.status"
	} | tee "$results/$name.output"
}

# The sum of one outcome ("passed") over the closing lines of all stages.
count() {
	for output in "$results"/*.output; do
		grep -E '^[0-9]+ [a-z]+(, [0-9]+ [a-z]+)* +in [0-9.]+s' "$output" | tail -n 1
	done | tr ',' '\n' | awk -v word="$1" '$2 ~ "^" word "s?$" { sum += $1 } END { print sum + 0 }'
}

# limited SECONDS MARKS OPTION...: pytest, ended after so long.
limited() {
	seconds=$1
	marks=$2
	shift 2
	timeout --foreground -s INT -k 60 "$seconds" \
		.venv/bin/python -m pytest --hypothesis-profile=$profile -m "$marks" "$@"
}

# shellcheck disable=SC2046 # no word or two
stage anywhere limited 1800 "$anywhere" $(sh tools/parallel.sh)
# shellcheck disable=SC2046
stage machine limited 2400 "$machine" $(sh tools/parallel.sh files)
# Real networks have real deadlines, and the machine may be busy with something else: a few tests that fail beside
# others are run once more, by themselves. They are named at the end: each may be a fault that is seldom seen.
grep -E '^(FAILED|ERROR) ' "$results/machine.output" >"$results/beside-others"
suspects=$(wc -l <"$results/beside-others")
if [ "$(cat "$results/machine.status")" = 1 ] && [ "$suspects" -gt 0 ] && [ "$suspects" -le "$MAX_SUSPECTS" ]; then
	stage alone limited 900 "$machine" --last-failed --last-failed-no-failures none
	mv "$results/alone.status" "$results/machine.status"
	# What they were in the end is what counts, and that is in the output of the stage before this line.
	sed -E '/^[0-9]+ failed|^[0-9]+ passed/s/[0-9]+ (failed|errors?)(, )?//g; s/, in /  in /' \
		"$results/machine.output" >"$results/machine.rest"
	mv "$results/machine.rest" "$results/machine.output"
else
	: >"$results/beside-others"
fi
# The kernel lab starts a Linux; on FreeBSD the tests marked root have the kernel's own WireGuard.
if [ "$kernel" = Linux ]; then
	stage kernel-lab sh tools/kernel-lab.sh
else
	: >"$results/kernel-lab.output"
	echo 0 >"$results/kernel-lab.status"
fi
failures=$(($(count failed) + $(count error)))
for name in anywhere machine kernel-lab; do
	status=$(cat "$results/$name.status")
	[ "$status" = 0 ] && continue
	printf '%s: exit status %s\n' "$name" "$status"
	[ "$failures" -gt 0 ] || failures=1 # a stage that broke down without a verdict
done
if [ -s "$results/beside-others" ]; then
	printf '\nfailed beside others, and were run once more by themselves:\n'
	cat "$results/beside-others"
fi
printf '\n%s passed, %s failed, %s skipped\n' "$(count passed)" "$failures" "$(count skipped)"
[ "$failures" -eq 0 ]
