"""A check sees new files before they are in place: where they are staged, or in a copy of their directory.

In a jail both are named as the jail sees them, and the copy is made by a shell inside. A jail's root may
change its own directories at any moment; what this host did there by path could be led out of the jail.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import PurePosixPath
from typing import Final

import msgspec

from meshd.services import swap
from meshd.services.changes import Changes
from meshd.services.config import ModuleConfig, inside_jail
from meshd.services.directory import STAGED_SUFFIX
from meshd.services.plan import Command

_STAGED: Final = re.compile(r"\{staged:([^{}]+)\}")
STAGED_DIRECTORY: Final = "{staged-directory:"
BESIDE: Final = "{beside}"
_COPY: Final = "@copy@"
_SCRIPT: Final = """set -eu
made=$(mktemp -d /tmp/meshd-check.XXXXXX)
trap 'rm -rf "$made"' EXIT
if [ -n "$1" ]; then cp -RP "$1" "$made/copy"; else mkdir "$made/copy"; fi
shift
for staged in "$made"/copy/.*SUFFIX; do
  [ -f "$staged" ] || continue
  name=${staged##*/.}
  mv -f "$staged" "$made/copy/${name%SUFFIX}"
done
while [ "$1" != - ]; do rm -f "$made/copy/$1"; shift; done
shift
while [ "$1" != - ]; do printf %s "$2" >"$made/copy/$1"; shift 2; done
shift
left=$#
while [ "$left" -gt 0 ]; do
  word=$1
  shift
  left=$((left - 1))
  case $word in @copy@*) word=$made/copy${word#@copy@} ;; esac
  set -- "$@" "$word"
done
"$@"
""".replace("SUFFIX", STAGED_SUFFIX)


def place_files(
    command: Command, changes: Changes, config: ModuleConfig, stack: contextlib.ExitStack
) -> Command:
    """The command with the places of the new files in its words and in what is beside them. A copy lives as
    long as ``stack``."""
    beside = {name: _staged(text, changes, config) for name, text in command.beside.items()}
    command = msgspec.structs.replace(command, beside=beside)
    if config.common.jail and any(_copied(word) for word in command.argv):
        return _in_jail(command, changes, config)

    def fill(word: str) -> str:
        copied = _copied(word)
        if copied is None:
            return _staged(word, changes, config)
        path, rest = copied
        return stack.enter_context(swap.staged_copy(path, changes, command.beside)) + rest

    return msgspec.structs.replace(command, argv=tuple(map(fill, command.argv)))


def _in_jail(command: Command, changes: Changes, config: ModuleConfig) -> Command:
    """The same command behind a shell that makes the copy; one directory, as all our checkers want."""
    [directory] = {copied[0] for word in command.argv if (copied := _copied(word))}
    removed = [
        PurePosixPath(change.path).name
        for change in changes.files
        if change.new is None and str(PurePosixPath(change.path).parent) == directory
    ]
    beside = [part for name, text in command.beside.items() for part in (name, text)]
    words = [
        _COPY + copied[1] if (copied := _copied(word)) else _staged(word, changes, config)
        for word in command.argv
    ]
    shell = ("/bin/sh", "-c", _SCRIPT, "check", inside_jail(config, directory))
    return msgspec.structs.replace(command, argv=(*shell, *removed, "-", *beside, "-", *words), beside={})


def _staged(text: str, changes: Changes, config: ModuleConfig) -> str:
    return _STAGED.sub(lambda found: inside_jail(config, swap.staged_path(found[1], changes)), text)


def _copied(word: str) -> tuple[str, str] | None:
    """The directory of which a copy is meant (empty: of none), and what follows; None: no copy is meant."""
    if word.startswith(BESIDE):
        return "", word.removeprefix(BESIDE)
    if not word.startswith(STAGED_DIRECTORY):
        return None
    path, _, rest = word[len(STAGED_DIRECTORY) :].partition("}")
    return path, rest
