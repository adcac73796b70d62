"""New files in the place of old ones, and back. Each step alone is whole; the order is the transaction's."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from meshd.errors import ConfigError, MeshError
from meshd.services.changes import Changes, FileChange
from meshd.services.directory import STAGED_SUFFIX, Ownership, group_id, open_directory, user_id
from meshd.services.journal import KeptFile
from meshd.services.plan import File


def stage(changes: Changes) -> None:
    """Every new text beside its target, on disk for good. BackendError, e.g. for a full disk."""
    for change in changes.files:
        if change.new is not None:
            pure = PurePosixPath(change.path)
            with open_directory(pure.parent) as directory:
                directory.stage(pure.name, change.new)


def staged_path(path: str, changes: Changes) -> str:
    """Where the new text of this file lies; the file itself when it does not change."""
    staged = any(change.path == path and change.new is not None for change in changes.files)
    pure = PurePosixPath(path)
    return str(pure.with_name(f".{pure.name}{STAGED_SUFFIX}")) if staged else path


@contextlib.contextmanager
def staged_copy(path: str, changes: Changes, beside: Mapping[str, str]) -> Iterator[str]:
    """A copy of the directory with the new files in it, for checkers that want to see a whole one.

    ``beside``: name to text of what is in the copy alone.
    """
    with tempfile.TemporaryDirectory(prefix="meshd-check-") as made:
        copy = Path(made) / "copy"
        try:
            if not path:
                copy.mkdir()
            else:
                shutil.copytree(
                    path, copy, symlinks=True, ignore=shutil.ignore_patterns(f".*{STAGED_SUFFIX}")
                )
        except (OSError, shutil.Error) as error:
            raise ConfigError(f"{path}: cannot be copied for its check: {error}") from None
        for change in changes.files:
            if str(PurePosixPath(change.path).parent) == path:
                target = copy / PurePosixPath(change.path).name
                target.unlink(missing_ok=True)
                if change.new is not None:
                    target.write_text(change.new)
        for name, text in beside.items():
            (copy / name).write_text(text)
        yield str(copy)


def put(change: FileChange) -> None:
    """The staged file takes its place, with the owner and mode that the plan says or the old one had."""
    pure = PurePosixPath(change.path)
    with open_directory(pure.parent) as directory:
        if change.new is None:
            directory.remove(pure.name)
            return
        directory.own(pure.name, _ownership(change.file, directory.ownership(pure.name)))
        directory.put(pure.name)


def keep(path: str, text: str | None) -> KeptFile:
    """What is there now, with that text, to be put back."""
    pure = PurePosixPath(path)
    with open_directory(pure.parent) as directory:
        found = directory.ownership(pure.name)
    if text is None or found is None:
        return KeptFile(path=path, content=None)
    content = text.encode("utf-8", "surrogateescape")
    return KeptFile(path=path, content=content, mode=found.mode, uid=found.uid, gid=found.gid)


def restore(kept: KeptFile) -> None:
    """The file as it was, whole, or gone as it was."""
    pure, text = PurePosixPath(kept.path), kept.text
    with open_directory(pure.parent) as directory:
        if text is None:
            directory.remove(pure.name)
            return
        uid, gid = (kept.uid, kept.gid) if os.geteuid() == 0 else (-1, -1)
        directory.stage(pure.name, text)
        directory.own(pure.name, Ownership(mode=kept.mode, uid=uid, gid=gid))
        directory.put(pure.name)


def discard(paths: Iterable[str]) -> None:
    """Drop what is staged; a directory that is not there has nothing staged."""
    for path in paths:
        pure = PurePosixPath(path)
        with contextlib.suppress(MeshError), open_directory(pure.parent) as directory:
            directory.discard(pure.name)


def _ownership(file: File | None, found: Ownership | None) -> Ownership:
    if file is None or (file.block and found is not None):
        return found or Ownership(mode=0o644)
    kept = found if found is not None and os.geteuid() == 0 else Ownership(mode=file.mode)
    return Ownership(
        mode=file.mode,
        uid=user_id(file.owner) if file.owner else kept.uid,
        gid=group_id(file.group) if file.group else kept.gid,
    )
