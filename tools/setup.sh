#!/bin/sh
#
# Makes .venv in the checkout and installs the system packages that the tests need.
#
#   tools/setup.sh               everything but the kernel lab; under a second when nothing changed
#   tools/setup.sh lab-kernel    the packages of the kernel lab
#   tools/setup.sh garage        what building Garage needs, unless there is one
#   tools/setup.sh demo-services the servers that `make demo-services` runs
#   tools/setup.sh services      these, and all that the tests of the service modules run besides
#   tools/setup.sh package       a clean Debian in which the test of the package installs it
#
# A package that is there is never removed. Who is not root gets .venv, and is told what else is missing.
#
# PYTHON names the interpreter; without it the first Python >= 3.11 that can make a virtual
# environment. Exit status 2: something is missing that only root can install.
#
# The FreeBSD part has not been run on FreeBSD yet.
set -eu

cd "$(dirname "$0")/.."
checkout=$(pwd -P)
PATH=$PATH:/usr/sbin:/sbin
system=$(uname -s)
stamp=.venv/.setup-stamp
unfinished=.venv/.setup-unfinished

say() { printf 'setup: %s\n' "$1"; }

fail() {
	printf 'setup: %s\n' "$1" >&2
	exit 2
}

# COMMAND PACKAGE pairs: the packages whose command is not there.
missing_packages() {
	while [ $# -gt 0 ]; do
		command -v "$1" >/dev/null 2>&1 || printf ' %s' "$2"
		shift 2
	done
}

# A Python >= 3.11 with the two modules that Debian ships apart from it.
is_suitable() {
	command -v "$1" >/dev/null 2>&1 &&
		"$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
	if [ -n "${PYTHON:-}" ]; then
		is_suitable "$PYTHON" || fail "PYTHON=$PYTHON: Python >= 3.11 with venv and ensurepip expected"
		printf '%s\n' "$PYTHON"
		return
	fi
	if [ "$system" = FreeBSD ]; then
		candidates=$(freebsd_pythons)
	else
		candidates='/usr/bin/python3 python3.13 python3.12 python3.11 python3'
	fi
	for candidate in $candidates; do
		if is_suitable "$candidate"; then
			command -v "$candidate"
			return
		fi
	done
}

install_packages() {
	[ $# -gt 0 ] || return 0
	[ "$(id -u)" = 0 ] || fail "missing, and only root can install: $*"
	say "installing $*"
	case $system in
	FreeBSD)
		pkg install -y "$@" </dev/null
		;;
	*)
		command -v apt-get >/dev/null 2>&1 || fail "no apt-get here; missing, by Debian's names: $*"
		export DEBIAN_FRONTEND=noninteractive
		apt-get -q update </dev/null
		# apt would make room for a package that conflicts with one that is there.
		apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-remove --no-install-recommends "$@" </dev/null ||
			fail "apt-get did not install $*: the lines above say why (a package that is there is never removed for it)"
		;;
	esac
}

# Python's own are needed at once, as nothing runs without them; of the others the tests say what they miss.
install_or_tell() {
	if [ $# -gt 0 ] && [ "$(id -u)" != 0 ] && [ "$system" != FreeBSD ] && [ -n "$python" ]; then
		say "missing, and only root can install: $*; going on, and some tests will miss them"
	else
		install_packages "$@"
	fi
}

linux_packages() {
	missing_packages wg wireguard-tools wireguard-go wireguard-go ip iproute2 ping iputils-ping ps procps \
		shellcheck shellcheck bmake bmake nft nftables ssh openssh-client mandoc mandoc
	[ -n "$python" ] || printf ' python3 python3-venv'
}

# FreeBSD builds its Python packages for one or two versions of Python only: 311 for those that are
# called py311-pynacl and so on. One that has been chosen for .venv already stays.
freebsd_flavors() {
	for flavor in 313 312 311; do
		if pkg info -e "py$flavor-pynacl" 2>/dev/null || pkg rquery %n "py$flavor-pynacl" >/dev/null 2>&1; then
			echo "$flavor"
		fi
	done
}

freebsd_pythons() {
	for flavor in $(freebsd_flavors); do
		printf ' python%s.%s' "${flavor%??}" "${flavor#?}"
	done
}

# PyPI has no wheels for FreeBSD, so what needs a compiler comes from its packages. wg(8),
# ifconfig(8) and route(8) are in the base system.
freebsd_packages() {
	if [ -n "$python" ]; then
		flavor=$("$python" -c 'import sys; print("%d%d" % sys.version_info[:2])')
	else
		flavor=$(freebsd_flavors | head -n 1)
		: "${flavor:=311}"
		printf ' python%s' "$flavor"
	fi
	for name in pynacl click tomli-w prometheus-client msgspec rich botocore urllib3 pytest pytest-xdist \
		hypothesis jsonschema; do
		pkg info -e "py$flavor-$name" 2>/dev/null || printf ' py%s-%s' "$flavor" "$name"
	done
}

kernel_lab_packages() {
	missing_packages qemu-system-x86_64 qemu-system-x86 depmod kmod cpio cpio timeout coreutils
}

# Debian 12 has two versions of Rust; Garage needs the one kept new for the web browsers.
garage_packages() {
	PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
	if grep -qx 'VERSION_ID="12"' /etc/os-release; then rust='cargo-web'; else rust=cargo; fi
	missing_packages cargo "$rust" cc 'gcc libc6-dev' pkg-config pkg-config
}

# Installed, never started: who needs a server starts one of its own.
demo_service_packages() {
	missing_packages haproxy haproxy nsd nsd prometheus prometheus redis-server redis-server \
		redis-sentinel redis-sentinel etcd etcd-server psql postgresql-client
	# Debian keeps its programs apart from PATH, by version.
	[ -x /usr/lib/postgresql/15/bin/postgres ] || printf ' postgresql-15'
	[ -n "$(find_python)" ] || printf ' python3 python3-venv'
}

service_packages() {
	demo_service_packages
	missing_packages knotd knot kzonecheck knot-dnssecutils unbound unbound dnsmasq dnsmasq-base named bind9 \
		nginx nginx-light prometheus-blackbox-exporter prometheus-blackbox-exporter chromium chromium \
		caddy caddy amtool prometheus-alertmanager postfix postfix php php-cli sshd openssh-server rsync rsync
	[ -x /usr/lib/dovecot/imap ] || printf ' dovecot-imapd'
}

# What the tests of the package and the wheel copy: Debian 12 as debootstrap(8) makes it, with a systemd, and the
# packages that meshd needs there fetched and not installed, so that the tests need no network.
make_clean_debian() {
	folder=/var/cache/wg-meshd/debian-12-with-venv
	[ ! -e "$folder.complete" ] || return 0
	say "making a clean Debian 12 in $folder"
	rm -rf "$folder"
	mkdir -p "$folder"
	debootstrap --variant=minbase --include=systemd,systemd-sysv,iproute2 bookworm "$folder" \
		http://deb.debian.org/debian </dev/null
	chroot "$folder" apt-get -q install -y --no-install-recommends --download-only \
		python3 python3-venv wireguard-tools wireguard-go </dev/null
	: >"$folder.complete"
}

# Debian 12 has Patroni 3.0, which knows no failover priorities. PostgreSQL refuses root, so this one lies where
# every user may read it.
make_patroni() {
	version=4.1.5
	folder=/var/cache/wg-meshd/patroni
	[ "$($folder/bin/patroni --version 2>/dev/null)" = "patroni $version" ] && return
	say "installing Patroni $version into $folder"
	rm -rf "$folder"
	(
		umask 022
		mkdir -p "${folder%/*}"
		"$(find_python)" -m venv "$folder"
		"$folder/bin/python" -m pip install --disable-pip-version-check --no-input --quiet \
			"patroni[etcd3]==$version" 'psycopg[binary]>=3.1' </dev/null
	)
}

# Debian starts a server as soon as it is installed, unless this file says no (invoke-rc.d(8)).
install_quietly() {
	[ $# -gt 0 ] || return 0
	policy=/usr/sbin/policy-rc.d
	[ "$(id -u)" = 0 ] || fail "missing, and only root can install: $*"
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' >$policy
		chmod 755 $policy
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
	fi
	install_packages "$@"
}

needed_packages() {
	case $system in
	FreeBSD) freebsd_packages ;;
	*) linux_packages ;;
	esac
}

# What the virtual environment depends on. The path is part of it: a moved one is broken.
fingerprint() { printf '%s\n' "$checkout" "$(cat pyproject.toml tools/setup.sh | cksum)"; }

is_fresh() { [ -x .venv/bin/python ] && [ -r "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint)" ]; }

# Whether .venv was made here, whole, and its interpreter still runs.
is_repairable() {
	[ ! -e "$unfinished" ] && .venv/bin/python -m pip --version >/dev/null 2>&1 || return 1
	case $(sed -n 's/^command = //p' .venv/pyvenv.cfg) in
	*" $checkout/.venv") return 0 ;;
	*) return 1 ;;
	esac
}

make_environment() {
	site_packages=
	extras='.[s3,dev]'
	if [ "$system" = FreeBSD ]; then
		site_packages=--system-site-packages
		extras='.[s3,qr]'
	fi
	if ! is_repairable; then
		python=$(find_python)
		[ -n "$python" ] || fail "no Python >= 3.11 with venv and ensurepip found (PYTHON names one)"
		say "making .venv with $python"
		rm -rf .venv
		mkdir .venv
		: >"$unfinished"
		# shellcheck disable=SC2086 # empty or one word
		"$python" -m venv $site_packages "$checkout/.venv"
	fi
	: >"$unfinished"
	say "installing the Python packages"
	.venv/bin/python -m pip install --disable-pip-version-check --no-input --editable "$extras" </dev/null
	fingerprint >"$stamp"
	rm -f "$unfinished"
	say "done"
}

# pkg(8) asks for what it may do, and whether to install itself.
export ASSUME_ALWAYS_YES=yes

case ${1:-} in
'')
	# Here the questions to pkg(8) take longer than all the rest.
	if [ "$system" = FreeBSD ] && is_fresh; then exit 0; fi
	python=$(find_python) || exit
	# shellcheck disable=SC2046 # a list of names
	install_or_tell $(needed_packages)
	is_fresh || make_environment
	# As an installed package has it: without, every command where PYTHONDONTWRITEBYTECODE is set or the
	# checkout cannot be written compiles 200 modules anew, which takes longer than all its work.
	.venv/bin/python -m compileall -q meshd wgctl || :
	;;
lab-kernel)
	[ "$system $(uname -m)" = 'Linux x86_64' ] || fail "the kernel lab needs Linux on amd64"
	# shellcheck disable=SC2046 # a list of names
	install_packages $(kernel_lab_packages)
	;;
garage)
	sh tools/garage.sh >/dev/null 2>&1 && exit 0
	[ "$system" = Linux ] || exit 0
	# shellcheck disable=SC2046 # a list of names
	install_packages $(garage_packages)
	;;
demo-services)
	[ "$system" = Linux ] || exit 0
	# shellcheck disable=SC2046 # a list of names
	install_quietly $(demo_service_packages)
	make_patroni
	;;
services)
	[ "$system" = Linux ] || exit 0
	# shellcheck disable=SC2046 # a list of names
	install_quietly $(service_packages)
	make_patroni
	;;
package)
	[ "$system" = Linux ] || exit 0
	# shellcheck disable=SC2046 # a list of names
	install_packages $(missing_packages debootstrap debootstrap systemd-nspawn systemd-container dpkg-deb dpkg)
	make_clean_debian
	;;
*)
	fail "unknown argument '$1': nothing, lab-kernel, garage, demo-services, services or package expected"
	;;
esac
