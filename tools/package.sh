#!/bin/sh
#
# Builds what servers need, into dist/: the wheel, and from it a package for the Debian that this runs on.
#
#   tools/package.sh            dist/wg_meshd-VERSION-py3-none-any.whl, dist/wg-meshd_VERSION_ARCHITECTURE.deb
#   tools/package.sh wheel      the wheel alone: needs neither Debian nor root
#
# The package brings its Python libraries with it, in a virtual environment of its own below /usr/lib/wg-meshd:
# Debian 12 has some of them too old, and others not at all. The interpreter is Debian's. Root owns every file of
# it whoever builds it. The same source, libraries and SOURCE_DATE_EPOCH give the same package.
set -eu
umask 022

cd "$(dirname "$0")/.."
home=/usr/lib/wg-meshd
name=wg-meshd

fail() {
	printf 'package: %s\n' "$1" >&2
	exit 2
}

say() { printf 'package: %s\n' "$1"; }

pip() { .venv/bin/python -m pip --disable-pip-version-check "$@" </dev/null; }

# From a copy: setuptools leaves a build directory in the tree, and takes back into the wheel what lies in an old one.
build_wheel() {
	mkdir "$work/source"
	cp -R meshd wgctl contrib docs pyproject.toml MANIFEST.in README.md CHANGELOG.md LICENSE "$work/source"
	mkdir -p dist
	find "$work/source" -name __pycache__ -type d -prune -exec rm -rf {} +
	pip wheel --quiet --no-deps --wheel-dir "$work/wheel" "$work/source"
	cp "$work"/wheel/wg_meshd-*.whl dist/
	wheel=$(basename "$work"/wheel/wg_meshd-*.whl)
	version=${wheel#wg_meshd-}
	version=${version%%-*}
	say "dist/$wheel"
}

# A virtual environment as "python3 -m venv" makes it, for a place where it does not lie yet.
make_environment() {
	site=$tree$home/lib/python$python_version/site-packages
	mkdir -p "$site" "$tree$home/bin" "$tree/usr/bin"
	ln -s "/usr/bin/python$python_version" "$tree$home/bin/python3"
	printf 'home = /usr/bin\ninclude-system-site-packages = false\n' >"$tree$home/pyvenv.cfg"
	pip install --quiet --no-compile --only-binary :all: --target "$site" "$work/wheel/${wheel}[s3,qr]"
	# Where the wheel lay while it was built, programs of libraries, and what the package has at its own places.
	rm -rf "${site:?}/bin" "${site:?}/share" "$site"/wg_meshd-*.dist-info/direct_url.json
	sed -i -e '/direct_url\.json/d' -e '/^\(\.\.\/\)*\(bin\|share\)\//d' "$site"/*.dist-info/RECORD
	for program in 'meshd meshd.daemon.main' 'wgctl wgctl.main'; do
		# shellcheck disable=SC2086 # two words
		set -- $program
		printf '#!%s/bin/python3 -I\nimport sys\n\nfrom %s import main\n\nsys.exit(main())\n' \
			"$home" "$2" >"$tree$home/bin/$1"
		chmod 755 "$tree$home/bin/$1"
		ln -s "$home/bin/$1" "$tree/usr/bin/$1"
	done
}

add_documents() {
	doc=$tree/usr/share/doc/$name
	mkdir -p "$doc/examples" "$tree/lib/systemd/system" "$tree/etc/meshd"
	install -m 644 contrib/systemd/meshd.service "$tree/lib/systemd/system/"
	install -m 644 contrib/meshd.toml.sample contrib/systemd/services.conf contrib/systemd/narrow.conf "$doc/examples/"
	cp -R docs README.md "$doc/"
	for page in contrib/man/*.[0-9]; do
		directory=$tree/usr/share/man/man${page##*.}
		mkdir -p "$directory"
		compressed=$directory/${page##*/}.gz
		gzip -n9 <"$page" >"$compressed"
	done
	install -m 644 LICENSE "$doc/copyright"
	gzip -n9 <CHANGELOG.md >"$doc/changelog.gz"
	pip list --path "$site" --format freeze >"$doc/libraries"
}

# What wg-meshd_VERSION_ARCHITECTURE.deb says of itself.
write_control() {
	mkdir "$tree/DEBIAN"
	for script in postinst prerm postrm; do install -m 755 "contrib/debian/$script" "$tree/DEBIAN/"; done
	next=${python_version%.*}.$((${python_version#*.} + 1))
	kib=$(($(find "$tree" -type f -exec cat {} + | wc -c) / 1024))
	sed -e "s/@VERSION@/$version/g" -e "s/@ARCHITECTURE@/$architecture/g" -e "s/@PYTHON@/$python_version/g" \
		-e "s/@NEXT_PYTHON@/$next/g" -e "s/@SIZE@/$kib/g" \
		contrib/debian/control >"$tree/DEBIAN/control"
	(cd "$tree" && find etc lib usr -type f | LC_ALL=C sort | xargs md5sum) >"$work/md5sums"
	install -m 644 "$work/md5sums" "$tree/DEBIAN/"
}

build_package() {
	command -v dpkg-deb >/dev/null 2>&1 || fail "no dpkg-deb here: 'sh tools/package.sh wheel' builds the wheel alone"
	python_version=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
	[ -x "/usr/bin/python$python_version" ] ||
		fail "Python $python_version of .venv is not Debian's: PYTHON=/usr/bin/python3 make setup, in a new checkout"
	architecture=$(dpkg --print-architecture)
	tree=$work/tree
	make_environment
	add_documents
	write_control
	package=dist/${name}_${version}_$architecture.deb
	find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	dpkg-deb --root-owner-group -Zxz -z2 --build "$tree" "$package" >/dev/null
	say "$package"
}

[ -x .venv/bin/python ] || fail "no .venv here: make setup"
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH
work=$(mktemp -d "${TMPDIR:-/tmp}/meshd-package.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
build_wheel
case ${1:-} in
'') build_package ;;
wheel) ;;
*) fail "unknown argument '$1': nothing or wheel expected" ;;
esac
