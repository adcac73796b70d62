#!/bin/sh
#
# Does wg-meshd work on this FreeBSD? Run it as root, on a host or in a virtual machine, from a checkout or
# beside an installed package, and paste what it prints into an issue:
#
#	sh contrib/freebsd-check.sh [-d] [-q] [-s] [-H hosts] [-t seconds] | tee report.txt
#	sh /usr/local/share/meshd/freebsd-check.sh ...		(of the package)
#
#	-d	also the demo: a whole mesh of jails on this machine
#	-q	quick: without the backend's conformance suite
#	-s	also the service: starts meshd if it does not run, reloads it, and stops it again if it did not run.
#		Without -s the host's own meshd is only looked at
#	-H	hosts in the demo (3)
#	-t	seconds that every step of the demo may take (600: enough for an emulated machine)
#
# What it makes: an interface wgN (N from 9) without address or routes, jails meshdcheckPID and in it shared, a
# pair of interfaces, and what `wgctl demo` makes. All of it is taken away again, also after Ctrl-C. Kernel
# modules that it loads stay loaded. Your own interfaces, jails, routes and settings are not touched.
#
# The backend's conformance suite is in a checkout only, and needs pytest and hypothesis (py311-pytest,
# py311-hypothesis; "make setup" installs them). In the environment: PYTHON, the interpreter that has
# meshd, where the first line of the command meshd does not name it.
#
# What takes too long is no failure of the product by itself: it is reported as "slow". Of what failed, the last
# 40 lines are in the report.
#
# Exit status: 0 all is well, 1 something failed, 2 it cannot run here, 3 nothing failed and something was slow.
set -u

PATH=$PATH:/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin
export LC_ALL=C

hosts=3
deadline=600
quick=no
with_demo=no
service=no
started=$(date +%s)
passed=0
failed=0
skipped=0
slow=0
lines=40
wg=
pair=
ours=no
demos=no
jail=meshdcheck$$
program=$0

usage() {
	sed -n 's/^#	//p' "$program" >&2
	exit 2
}

give_up() {
	printf 'freebsd-check: %s\n' "$1" >&2
	exit 2
}

positive() {
	case $1 in
	'' | *[!0-9]* | 0*) give_up "-$2 $1: a whole number above 0 expected" ;;
	esac
}

while getopts dqsH:t: option; do
	case $option in
	d) with_demo=yes ;;
	q) quick=yes ;;
	s) service=yes ;;
	H) positive "$OPTARG" H && hosts=$OPTARG ;;
	t) positive "$OPTARG" t && deadline=$OPTARG ;;
	*) usage ;;
	esac
done
shift $((OPTIND - 1))
[ $# -eq 0 ] || usage

[ "$(uname -s)" = FreeBSD ] || give_up "$(uname -s) seen, FreeBSD expected"
[ "$(id -u)" = 0 ] || give_up "user id $(id -u) seen, 0 expected: jails and interfaces need root"

# The programs: of this checkout if it has been set up, else the installed ones.
checkout=$(cd "$(dirname "$0")/.." && pwd -P) || exit 2
suite=tests/backend/conformance
if [ -x "$checkout/.venv/bin/meshd" ]; then
	python=$checkout/.venv/bin/python meshd=$checkout/.venv/bin/meshd wgctl=$checkout/.venv/bin/wgctl
	from="checkout $checkout"
else
	meshd=$(command -v meshd) || give_up "no meshd on PATH: install the package, or run make setup in the checkout"
	wgctl=$(command -v wgctl) || give_up "no wgctl on PATH: install the package"
	# The interpreter that the package was installed for.
	python=${PYTHON:-$(sed -n '1s/^#! *\([^ ]*\).*/\1/p' "$meshd")}
	from="installed as $meshd"
fi
"$python" -c 'import meshd.version' || give_up "${python:-nothing}: a Python that has meshd expected; PYTHON=... names it"

work=$(mktemp -d "${TMPDIR:-/tmp}/meshdcheck.XXXXXX") || exit 2

# report ---------------------------------------------------------------------------------------

fact() { printf '%-22s %s\n' "$1" "$2"; }

# What a command says in its first line; a dash when it fails.
first_line() { "$@" 2>/dev/null | sed -n '1p' | grep . || echo -; }

# The end of a file, short enough to be pasted.
indented() {
	all=$(wc -l <"$1")
	[ "$all" -le $lines ] || echo "    | ($((all - lines)) lines before these)"
	tail -n $lines "$1" | sed 's/^/    | /'
}

# Something had no end in time: a tool, or the whole step.
took_too_long() { [ "$1" -eq 124 ] || grep -q 'no end within [0-9.]* s' "$work/output"; }

# step NAME COMMAND...: a line for it, and below what it said if it failed.
step() {
	title=$1
	shift
	began=$(date +%s)
	"$@" >"$work/output" 2>&1 </dev/null
	status=$?
	took=$(($(date +%s) - began))
	if [ $status -eq 0 ]; then
		passed=$((passed + 1))
		printf 'ok       %-44s %4s s\n' "$title" "$took"
	elif took_too_long $status; then
		slow=$((slow + 1))
		printf 'slow     %-44s %4s s  exit %s: this machine is slow, was stopped, or a tool hangs\n' \
			"$title" "$took" "$status"
		indented "$work/output"
	else
		failed=$((failed + 1))
		printf 'FAILED   %-44s %4s s  exit %s\n' "$title" "$took" "$status"
		indented "$work/output"
	fi
	return $status
}

skip() {
	skipped=$((skipped + 1))
	printf 'skipped  %-44s %s\n' "$1" "$2"
}

# steps ----------------------------------------------------------------------------------------

load_modules() {
	code=0
	for module in if_wg if_epair if_bridge; do
		kldload -n "$module" || code=1
	done
	return $code
}

# The first of wg9 to wg99 that is free; wg0 to wg8 are left to people.
free_interface() {
	number=9
	while [ $number -le 99 ]; do
		case " $(ifconfig -l) " in
		*" wg$number "*) number=$((number + 1)) ;;
		*)
			echo "wg$number"
			return 0
			;;
		esac
	done
	echo "wg9 to wg99 are all taken" >&2
	return 1
}

# Made and gone within the step: no address, no peer, no route of this machine changes.
scratch_interface() {
	name=$(free_interface) || return 1
	ifconfig "$name" create || return 1
	wg=$name
	ifconfig "$wg" description meshd-check &&
		"$python" -c 'import base64, os; print(base64.b64encode(os.urandom(32)).decode())' >"$work/key" &&
		wg set "$wg" listen-port 0 private-key "$work/key" &&
		ifconfig "$wg" up &&
		ifconfig "$wg" &&
		ifconfig "$wg" | grep -q RUNNING &&
		wg show "$wg" listen-port
}

remove_interface() {
	[ -n "$wg" ] || return 0
	ifconfig "$wg" destroy && wg=
}

make_jails() {
	jail -c "name=$jail" vnet path=/ "host.hostname=$jail" children.max=8 allow.raw_sockets persist || return 1
	ours=yes
	pair=$(ifconfig epair create) || return 1
	ifconfig "${pair%a}b" vnet "$jail" &&
		jexec "$jail" ifconfig lo0 inet 127.0.0.1/8 up &&
		jexec "$jail" ifconfig lo0 inet 198.18.9.10/32 alias &&
		jexec "$jail" ifconfig "${pair%a}b" inet 198.18.9.1/24 up &&
		ifconfig "$pair" up &&
		jexec "$jail" jail -c name=shared path=/ host.hostname=shared ip4.addr=198.18.9.10 allow.raw_sockets persist
}

# As meshd asks for them; the scratch jails have to be among the answers.
list_jails() {
	jls --libxo json jid name vnet ip4.addr ip6.addr path >"$work/jails" && cat "$work/jails" || return 1
	"$python" - "$jail" "$work/jails" <<'PROGRAM'
import json, sys
name, path = sys.argv[1:]
jails = {jail["name"]: jail for jail in json.load(open(path))["jail-information"]["jail"]}
for wanted, vnet, addresses in ((name, "new", []), (name + ".shared", "inherit", ["198.18.9.10"])):
    seen = jails.get(wanted)
    if seen is None or (seen["vnet"], seen["ip4.addr"]) != (vnet, addresses):
        sys.exit(f"{wanted}: {seen} seen, vnet {vnet} and {addresses} expected")
PROGRAM
}

list_routes() {
	jexec "$jail" netstat -rnW -f inet --libxo json && jexec "$jail" netstat -rnW -f inet6 --libxo json
}

remove_jails() {
	code=0
	if [ $ours = yes ]; then
		jail -r "$jail" && ours=no || code=1
	fi
	# The far end comes back from the jail; destroying one end destroys both.
	if [ -n "$pair" ]; then
		ifconfig "$pair" destroy && pair= || code=1
	fi
	return $code
}

# Far more than anything takes, for what hangs: ends with 124. In our process group: Ctrl-C has to reach it.
bounded() { timeout --foreground -k 60 $((600 + 10 * deadline)) "$@"; }

# A suite of which everything was left out ends well, too: it has to say that something passed.
backend_suite() {
	cd "$checkout" || return 1
	code=0
	PYTHONDONTWRITEBYTECODE=1 bounded "$python" -m pytest -p no:cacheprovider --basetemp "$work/pytest" \
		"$suite" -k real-freebsd >"$work/suite" 2>&1 || code=$?
	cat "$work/suite"
	[ $code -eq 0 ] && grep -q '[0-9] passed' "$work/suite"
}

backend_smoke() { bounded jexec "$jail" "$python" -m meshd.lab.smoke wg9; }

sockets() { bounded jexec "$jail" "$python" -m meshd.lab.sockets 127.0.0.1 ::1 198.18.9.1; }

has_suite() { [ -e "$checkout/$suite" ]; }

has_pytest() { "$python" -c 'import pytest, hypothesis' 2>/dev/null; }

demo() {
	code=0
	demos=yes
	bounded "$wgctl" demo --hosts "$hosts" --deadline "$deadline" --check --json \
		>"$work/demo" 2>"$work/progress" || code=$?
	cat "$work/progress"
	return $code
}

# What it measured, without the matrix.
demo_summary() {
	"$python" - "$work/demo" <<'PROGRAM'
import json, sys
try:
    found = json.load(open(sys.argv[1]))
except ValueError:
    sys.exit(0)  # it ended before it had anything to say
shown = ("pairs", "jail_pairs", "converge_seconds", "add_host_seconds", "remove_host_seconds")
for name in shown:
    if name in found:
        print(f"{name} {found[name]:.1f}")
    elif name + "_total" in found:
        print(f"{name} {found[name + '_ok']} of {found[name + '_total']}")
for failure in found.get("failures", ()):
    print(f"failed: {failure}")
PROGRAM
}

nothing_left() {
	jls --libxo json jid name vnet ip4.addr ip6.addr path >"$work/after" || return 1
	if grep -o "\"name\":\"${jail}[^\"]*\"" "$work/after"; then return 1; fi
	for interface in $(ifconfig -l); do
		case $interface in
		"$pair" | "$wg") echo "interface $interface" && return 1 ;;
		esac
	done
	"$wgctl" demo --sweep >"$work/swept" && cat "$work/swept" && grep -q '^nothing was left' "$work/swept"
}

service_runs() { service meshd status; }

service_stays() {
	wg show interfaces >"$work/interfaces.before" && service meshd stop &&
		wg show interfaces >"$work/interfaces.after" && cmp "$work/interfaces.before" "$work/interfaces.after"
}

check_service() {
	if [ ! -x /usr/local/etc/rc.d/meshd ] || [ "$(sysrc -n meshd_enable 2>/dev/null)" != YES ]; then
		skip "service" "meshd_enable is not YES, or there is no rc script"
		return
	fi
	step "service meshd checkconfig" service meshd checkconfig
	if [ $service = no ]; then
		skip "service start, reload, stop" "not without -s"
		return
	fi
	if service_runs >/dev/null 2>&1; then ran=yes; else ran=no; fi
	[ $ran = yes ] || step "service meshd start" service meshd start
	step "service meshd status" service_runs
	step "wgctl status" "$wgctl" status
	step "service meshd reload" service meshd reload
	step "service meshd stop leaves the interfaces" service_stays
	[ $ran = no ] || step "service meshd start again" service meshd start
}

clean_up() {
	trap '' INT TERM HUP PIPE
	# A demo takes its own things away, unless it was killed.
	[ $demos = no ] || "$wgctl" demo --sweep >/dev/null 2>&1
	remove_jails >/dev/null 2>&1
	remove_interface >/dev/null 2>&1
	rm -rf "$work"
}

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
# Whoever read the report is gone.
trap 'exit 141' PIPE

facts() {
	fact system "$(uname -rm), $(first_line freebsd-version -ku)"
	for oid in kern.osreldate kern.features.vimage net.fibs net.route.multipath net.inet.icmp.icmplim hw.ncpu; do
		fact "$oid" "$(first_line sysctl -n "$oid")"
	done
	for module in if_wg if_epair if_bridge pf; do
		if kldstat -qm "$module"; then fact "module $module" loaded; else fact "module $module" -; fi
	done
	fact wg "$(first_line wg --version)"
	fact python "$(first_line "$python" --version)"
	fact meshd "$(first_line "$meshd" version), $from"
	fact jail "$(if [ "$(sysctl -n security.jail.jailed 2>/dev/null)" = 1 ]; then echo 'inside one'; else echo 'the host'; fi)"
	for oid in security.jail.children.max kern.securelevel net.link.bridge.pfil_member net.link.bridge.pfil_bridge; do
		fact "$oid" "$(first_line sysctl -n "$oid")"
	done
	fact pf "$(pfctl -s info 2>/dev/null | sed -n '1s/ for .*//p' | grep . || echo -)"
	fact 'rc.conf wireguard' "$(first_line sysrc -n wireguard_interfaces)"
}

echo "wg-meshd check, $(date -u +%Y-%m-%dT%H:%M:%SZ)"
facts
echo
step "nothing of killed demos is in the way" "$wgctl" demo --sweep
step "kernel modules load" load_modules
step "an interface is made and runs" scratch_interface
step "it is destroyed" remove_interface
if step "a VNET jail, a pair, a jail inside" make_jails; then
	step "jls as meshd asks it" list_jails
	step "netstat in a jail" list_routes
	step "ping in a jail" jexec "$jail" ping -c 1 -W 5000 198.18.9.10
	step "sockets: prober and wake-ups, in a jail" sockets && indented "$work/output"
	step "backend: short list, in a jail" backend_smoke
else
	skip "jls, netstat, ping, backend in a jail" "no jail"
fi
step "the jails go" remove_jails
if [ $quick = yes ]; then
	skip "backend: conformance suite" "-q"
elif ! has_suite; then
	skip "backend: conformance suite" "only in a checkout"
elif ! has_pytest; then
	skip "backend: conformance suite" "$python has no pytest and hypothesis: pkg install them, or make setup"
else
	step "backend: conformance suite" backend_suite
	sed -n '$s/^/    | /p' "$work/suite"
fi
if [ $with_demo = no ]; then
	skip "wgctl demo" "not without -d"
else
	step "wgctl demo --hosts $hosts --deadline $deadline" demo
	demo_summary >"$work/summary" 2>&1
	indented "$work/summary"
fi
check_service
step "nothing is left" nothing_left

echo
printf '%s ok, %s failed, %s slow, %s skipped, %s s\n' \
	$passed $failed $slow $skipped $(($(date +%s) - started))
[ $failed -eq 0 ] || exit 1
[ $slow -eq 0 ] || exit 3
