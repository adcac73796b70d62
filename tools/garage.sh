#!/bin/sh
# Print the path of a usable garage binary; with the argument "build", build one when there is none.
# Looked for in this order: $GARAGE, garage on PATH, the cache folder that "build" fills.
# Nothing but the path goes to standard output, so that GARAGE=$(tools/garage.sh) works.
set -eu

version=2.5.0
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/wg-meshd/garage-$version
built=$cache/bin/garage

fail() {
    printf 'garage.sh: %s\n' "$1" >&2
    exit 1
}

usable() {
    [ -x "$1" ] && [ ! -d "$1" ] && "$1" --version >/dev/null 2>&1
}

case ${1-} in
    '' | build) ;;
    *) fail "argument '$1' seen, nothing or 'build' expected" ;;
esac

if [ -n "${GARAGE-}" ]; then
    usable "$GARAGE" || fail "GARAGE=$GARAGE is not a program that runs"
    printf '%s\n' "$GARAGE"
    exit 0
fi
on_path=$(command -v garage || :)
for candidate in "$on_path" "$built"; do
    if [ -n "$candidate" ] && usable "$candidate"; then
        printf '%s\n' "$candidate"
        exit 0
    fi
done
[ "${1-}" = build ] || fail "no garage found (GARAGE, PATH, $built); build it: $0 build"

# rustup puts cargo here, which a non-login shell often has not on its PATH.
PATH=$PATH:${CARGO_HOME:-${HOME}/.cargo}/bin
missing=
command -v cargo >/dev/null 2>&1 || missing="$missing cargo (1.85 or later)"
command -v cc >/dev/null 2>&1 || missing="$missing cc"
command -v pkg-config >/dev/null 2>&1 || missing="$missing pkg-config"
[ -z "$missing" ] || fail "building garage $version needs:$missing"

seen=$(cargo --version | sed -n 's/^cargo \([0-9]*\.[0-9]*\).*/\1/p')
minor=${seen#*.}
[ "${seen%%.*}" = 1 ] && [ "${minor:-0}" -ge 85 ] || [ "${seen%%.*}" -gt 1 ] 2>/dev/null ||
    fail "cargo ${seen:-of unknown version} seen, 1.85 or later expected"

printf 'garage.sh: building garage %s into %s, about ten minutes\n' "$version" "$cache" >&2
# Link-time optimisation would double the time for a server that only tests use.
CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    cargo install garage --locked --version "$version" --no-default-features \
    --features bundled-libs,lmdb,sqlite,metrics --root "$cache" >&2 ||
    fail "cargo could not build garage $version"
usable "$built" || fail "$built does not run"
printf '%s\n' "$built"
