#!/bin/sh
#
# Runs the tests marked "kernel" on a real Linux kernel with its own WireGuard, in a virtual
# machine that needs neither hardware virtualisation nor an installed image.
#
#   tools/kernel-lab.sh                          every test marked kernel
#   tools/kernel-lab.sh tests/backend -k roam    the same arguments as pytest's
#   tools/kernel-lab.sh --shell 'wg --version'   one command line instead of the tests
#
# The kernel is Debian's package, unpacked into the cache and never installed. The root file
# system is this machine's own, shared read-only under an overlay in the guest's memory: the
# guest runs the same Python and the same checkout, and nothing it does outlives it.
#
# Environment: KERNEL_LAB_TIMEOUT_SECONDS (1200), KERNEL_LAB_MEMORY_MIB (2048),
# XDG_CACHE_HOME. Exit status: that of pytest or of the command; 124 after the time-out, 125 when
# the machine ended without a verdict. The console log is printed in these two cases.
set -eu

checkout=$(cd "$(dirname "$0")/.." && pwd -P)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/wg-meshd
timeout_seconds=${KERNEL_LAB_TIMEOUT_SECONDS:-1200}
memory_mib=${KERNEL_LAB_MEMORY_MIB:-2048}
boot_modules='virtio_pci 9pnet_virtio 9p overlay'
test_modules='wireguard veth bridge dummy tun sch_netem nf_tables'
package_kernel=linux-image-amd64

fail() {
	printf 'kernel-lab: %s\n' "$1" >&2
	exit 125
}

# Words as one shell line that means the same words again.
quoted() {
	for word in "$@"; do
		printf "'%s' " "$(printf '%s' "$word" | sed "s/'/'\\\\''/g")"
	done
}

# "linux-image-6.1.0-50-amd64 6.1.176-1": $package_kernel is empty and depends on the real one.
newest_kernel() {
	apt-cache show --no-all-versions "$package_kernel" 2>/dev/null |
		sed -n 's/^Depends: *\(linux-image-[^ ,]*\) *(= *\([^)]*\)).*/\1 \2/p' | head -n 1
}

# Downloads and unpacks the kernel package that apt thinks newest.
fetch_kernel() {
	[ "$(id -u)" != 0 ] || apt-get -q update >&2
	name_and_version=$(newest_kernel)
	[ -n "$name_and_version" ] || fail "apt knows no $package_kernel (apt-get update, or not a Debian for amd64)"
	name=${name_and_version%% *}
	version=${name_and_version#* }
	printf 'kernel-lab: downloading %s %s\n' "$name" "$version" >&2
	mkdir -p "$cache"
	download=$(mktemp -d "$cache/download.XXXXXX")
	# apt's own user may not enter the cache, so fetch as who we are.
	(cd "$download" && apt-get -q -o APT::Sandbox::User=root download "$name=$version" >&2) ||
		fail "$name $version cannot be downloaded"
	dpkg-deb -x "$download"/linux-image-*.deb "$download/root"
	if [ ! -d "$download/root/lib/modules" ]; then # newer Debian: everything under usr
		mkdir -p "$download/root/lib"
		ln -s ../usr/lib/modules "$download/root/lib/modules"
	fi
	depmod -b "$download/root" "${name#linux-image-}"
	: >"$download/root/complete"
	rm -rf "$cache/kernel-$version"
	mv "$download/root" "$cache/kernel-$version"
	rm -rf "$download"
}

# Only a static one runs before there is a root file system. Unpacked and never installed: the package would take
# the place of the busybox that the machine has.
fetch_busybox() {
	[ ! -x "$cache/busybox" ] || return 0
	mkdir -p "$cache"
	download=$(mktemp -d "$cache/download.XXXXXX")
	(cd "$download" && apt-get -q -o APT::Sandbox::User=root download busybox-static >&2) ||
		fail "busybox-static cannot be downloaded"
	dpkg-deb -x "$download"/busybox-static_*.deb "$download/root"
	# bin/busybox, and usr/bin/busybox in newer Debians
	find "$download/root" -path '*bin/busybox' -type f -exec mv {} "$cache/busybox" \;
	rm -rf "$download"
	[ -x "$cache/busybox" ] || fail "no bin/busybox in Debian's busybox-static"
}

# shellcheck disable=SC2012 # the names are ours
unpacked_kernel() { ls -1t "$cache"/kernel-*/complete 2>/dev/null | head -n 1; }

# Sets kernel_root and release: the kernel unpacked last, fetched if there is none.
# Removing the cache's folder kernel-VERSION is how to get a newer one.
choose_kernel() {
	[ -n "$(unpacked_kernel)" ] || fetch_kernel
	kernel_root=$(dirname "$(unpacked_kernel)")
	release=$(basename "$kernel_root"/lib/modules/*)
}

# The modules needed before the root file system is there, in the order of their
# dependencies, uncompressed because busybox's insmod reads no other form.
copy_boot_modules() {
	: >"$1/boot-modules"
	for module in $boot_modules; do
		modprobe -d "$kernel_root" -S "$release" --show-depends "$module"
	done | sed -n 's/^insmod \(.*\.ko[.a-z]*\).*/\1/p' | awk '!seen[$0]++' >"$work/module-files"
	while read -r file; do
		name=$(basename "$file")
		case $name in
		*.xz) xz -dc "$file" >"$1/${name%.xz}" ;;
		*) cp "$file" "$1/$name" ;;
		esac
		printf '/%s\n' "${name%.xz}" >>"$1/boot-modules"
	done <"$work/module-files"
}

build_initramfs() {
	tree=$work/initramfs
	mkdir -p "$tree/bin" "$tree/proc" "$tree/sys" "$tree/dev" "$tree/run"
	cp "$cache/busybox" "$tree/bin/busybox"
	cp "$checkout/tools/kernel-lab-init" "$tree/init"
	chmod 0755 "$tree/init"
	copy_boot_modules "$tree"
	{
		printf 'release=%s\n' "$(quoted "$release")"
		printf 'modules_dir=%s\n' "$(quoted "$kernel_root/lib/modules/$release")"
		printf 'test_modules=%s\n' "$(quoted "$test_modules")"
	} >"$tree/lab.conf"
	{
		printf 'cd %s || exit 125\n' "$(quoted "$checkout")"
		printf 'export HOME=%s PATH=%s LANG=C.UTF-8 NO_COLOR=1 WG_COLOR_MODE=never\n' \
			"$(quoted "$HOME")" "$(quoted "$PATH:/usr/local/sbin:/usr/sbin:/sbin")"
		printf 'export KERNEL_LAB=1 CI=%s\n' "$(quoted "${CI:-}")"
		if [ "${1:-}" = --shell ]; then
			printf 'eval %s\n' "$(quoted "$2")"
		else
			printf 'exec %s\n' "$(quoted "$checkout/.venv/bin/python" -m pytest -m kernel \
				-p no:cacheprovider --color=no "$@")"
		fi
	} >"$tree/job"
	(cd "$tree" && find . | cpio -o -H newc --quiet) | gzip -1 >"$work/initrd.gz"
}

# Three serial lines: the kernel's console to a log, the job's output to ours, the verdict to
# a file. Ends with qemu's status; TCG on purpose, some machines have a /dev/kvm that hangs.
boot() {
	timeout --foreground -k 10 "$timeout_seconds" qemu-system-x86_64 \
		-accel tcg,thread=multi -cpu max -smp 2 -m "$memory_mib" \
		-nodefaults -no-user-config -display none -no-reboot \
		-kernel "$kernel_root/boot/vmlinuz-$release" -initrd "$work/initrd.gz" \
		-append 'console=ttyS0 loglevel=4 panic=-1 nokaslr mitigations=off random.trust_cpu=on' \
		-fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap \
		-device virtio-9p-pci,fsdev=host,mount_tag=host \
		-chardev file,id=console,path="$work/console.log" -serial chardev:console \
		-chardev stdio,id=job,signal=on -serial chardev:job \
		-chardev file,id=verdict,path="$work/verdict" -serial chardev:verdict \
		</dev/null
}

# Carries the guest's exit status out; a machine without a verdict is an error, never a success.
verdict() {
	status=$(sed -n 's/^exit \([0-9][0-9]*\).*/\1/p' "$work/verdict" 2>/dev/null | head -n 1)
	[ -z "$status" ] || return 0
	sed 's/^/console: /' "$work/console.log" >&2 2>/dev/null || :
	status=125
	if [ "$1" = 124 ] || [ "$1" = 137 ]; then
		printf 'kernel-lab: no verdict after %s seconds\n' "$timeout_seconds" >&2
		status=124
	else
		printf 'kernel-lab: the machine ended without a verdict (qemu: %s)\n' "$1" >&2
	fi
}

sh "$checkout/tools/setup.sh" lab-kernel
download=
if [ $# -eq 0 ]; then
	# Importing the other tests would cost the emulated processor a minute, so the files are chosen here ("FILE: 3").
	# shellcheck disable=SC2046 # the names in tests have no spaces
	set -- $(cd "$checkout" && .venv/bin/python -m pytest -q -q --collect-only -p no:cacheprovider -m kernel |
		sed -n 's/^\(tests.*\.py\): [0-9][0-9]*$/\1/p')
	[ $# -gt 0 ] || fail "no test is marked kernel"
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/kernel-lab.XXXXXX")
trap 'rm -rf "$work" ${download:+"$download"}' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
choose_kernel
fetch_busybox
build_initramfs "$@"
qemu_status=0
boot || qemu_status=$?
verdict "$qemu_status"
exit "$status"
