"""What a plan would change in the files that are there: judged before anything is written."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

import msgspec

from meshd.errors import ConfigError
from meshd.model.service import Guard
from meshd.services.compose import (
    block_of,
    body_of,
    digest,
    fill_secrets,
    whole,
    with_block,
    without_block,
    without_header,
)
from meshd.services.config import ModuleConfig
from meshd.services.directory import open_directory
from meshd.services.guards import Hold
from meshd.services.journal import FileRecord, ModuleState
from meshd.services.plan import File, ServicePlan

MAX_DIFF_LINES: Final = 400


class FileChange(msgspec.Struct, frozen=True, kw_only=True):
    """One file to be written, or with ``new`` None to be removed. ``old`` and ``new`` are whole texts."""

    path: str
    file: File | None
    old: str | None
    new: str | None
    diff: str
    adopted: bool = False
    record: FileRecord | None = None


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """``held``: why nothing may be written. ``records``: of all files, as they will be."""

    files: tuple[FileChange, ...] = ()
    records: tuple[FileRecord, ...] = ()
    drifted: tuple[str, ...] = ()
    held: Hold | None = None


def find_changes(
    plan: ServicePlan,
    config: ModuleConfig,
    state: ModuleState,
    secrets: Mapping[str, str],
    generation: int,
) -> Changes:
    """Compare bodies, so that a new generation alone changes nothing. BackendError: a file cannot be read."""
    current = _compare(plan, config, state, secrets, state.files_generation)
    if current.held is not None or not current.files:
        return current
    return _compare(plan, config, state, secrets, generation)


def find_drift(state: ModuleState) -> tuple[str, ...]:
    """The files that are not as they were written. BackendError: one cannot be read."""
    found = []
    for record in state.files:
        text = read_text(record.path)
        if _digest_of(text, record) != record.sha256:
            found.append(record.path)
    return tuple(found)


def read_text(path: str) -> str | None:
    pure = PurePosixPath(path)
    with open_directory(pure.parent) as directory:
        return directory.read(pure.name)


def record_of(record: FileRecord) -> FileRecord | None:
    """The record of the same file as it is now; None when nothing of ours is in it."""
    found = _digest_of(read_text(record.path), record)
    return msgspec.structs.replace(record, sha256=found) if found else None


def sha256(text: str | None) -> str:
    """Of a whole file; empty when there is none."""
    return "" if text is None else hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


class _HeldError(Exception):
    """Nothing may be written. ``drifted``: the files that somebody else changed."""

    def __init__(self, guard: Guard, reason: str, drifted: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.hold = Hold(guard, reason)
        self.drifted = drifted


def _compare(
    plan: ServicePlan,
    config: ModuleConfig,
    state: ModuleState,
    secrets: Mapping[str, str],
    generation: int,
) -> Changes:
    records = {record.path: record for record in state.files}
    drifted: list[str] = []
    changes: list[FileChange] = []
    made: list[FileRecord] = []
    try:
        for file in plan.files:
            old, known = read_text(file.path), records.pop(file.path, None)
            if file.once and old is not None:
                continue
            _check_owner(file, config, known, old, drifted)
            body = fill_secrets(body_of(file, generation), secrets)
            record = FileRecord(path=file.path, sha256=digest(body), block=file.block, comment=file.comment)
            if not file.once:
                made.append(record)
            if old is None or _body_in(old, file, config.name) != body:
                new = _compose(file, config.name, generation, body, old)
                changes.append(_written(file, old, new, known, record))
        # Records that are left are of files that the plan has no more.
        changes += [gone for record in records.values() if (gone := _removed(record, config)) is not None]
    except _HeldError as held:
        return Changes(drifted=held.drifted, held=held.hold)
    return Changes(files=tuple(changes), records=tuple(made), drifted=tuple(drifted))


def _check_owner(
    file: File, config: ModuleConfig, known: FileRecord | None, old: str | None, drifted: list[str]
) -> None:
    """Note a file that drifted; _HeldError where somebody else's text would be overwritten."""
    if known is not None and _digest_of(old, known) != known.sha256:
        drifted.append(file.path)
        if config.common.drift == "hold":
            raise _HeldError(
                Guard.DRIFT,
                f"{file.path} was changed or removed by somebody else: take that back, or "
                f"wgctl service apply {config.name} --overwrite",
                tuple(drifted),
            )
    unmanaged = known is None and old is not None and not file.block
    if unmanaged and not config.common.adopt and not _is_ours(old, file, config.name):
        raise _HeldError(
            Guard.NOT_OURS,
            f"{file.path} is there and is not meshd's: move it away, or set adopt = true in "
            f"[services.{config.name}]",
        )


def _written(
    file: File, old: str | None, new: str, known: FileRecord | None, record: FileRecord
) -> FileChange:
    return FileChange(
        path=file.path,
        file=file,
        old=old,
        new=new,
        diff=_diff(file, old, new),
        adopted=known is None,
        record=record,
    )


def _removed(record: FileRecord, config: ModuleConfig) -> FileChange | None:
    """A file that is wanted no more; None when it is gone. _HeldError where somebody else changed it."""
    old = read_text(record.path)
    if old is None:
        return None
    if _digest_of(old, record) != record.sha256 and config.common.drift == "hold":
        raise _HeldError(
            Guard.DRIFT,
            f"{record.path} is wanted no more, and was changed by somebody else: remove it "
            f"yourself, or wgctl service apply {config.name} --overwrite",
            (record.path,),
        )
    return FileChange(
        path=record.path,
        file=None,
        old=old,
        new=without_block(old, config.name, record.comment) if record.block else None,
        diff=f"{record.path}: removed",
    )


def _compose(file: File, module: str, generation: int, body: str, old: str | None) -> str:
    if file.block:
        return with_block(old or "", module, body, file.comment, top=file.top)
    return whole(file, module, generation, body)


def _body_in(text: str, file: File, module: str) -> str | None:
    return block_of(text, module, file.comment) if file.block else without_header(text, file)


def _digest_of(text: str | None, record: FileRecord) -> str:
    if text is None:
        return ""
    try:
        if record.block:
            return sha256(block_of(text, _module_of(text, record), record.comment))
        return sha256(without_header(text, File(path=record.path, text="", comment=record.comment)))
    except ConfigError:
        return ""


def _module_of(text: str, record: FileRecord) -> str:
    start = f"{record.comment} BEGIN meshd "
    for line in text.splitlines():
        if line.startswith(start):
            return line.removeprefix(start)
    return ""


def _is_ours(text: str | None, file: File, module: str) -> bool:
    """A file of ours that the journal does not know: the state directory was lost, or never written."""
    return bool(
        file.comment
        and text
        and text.startswith(f"{file.comment} meshd: module={module} generation=")
        and f"sha256={digest(without_header(text, file))}" in text.partition("\n")[0]
    )


def _is_private(path: str) -> bool:
    """Whether there is a file that not everybody may read: what is in it is nothing to show."""
    pure = PurePosixPath(path)
    with open_directory(pure.parent) as directory:
        found = directory.ownership(pure.name)
    return found is not None and not found.mode & 0o004


def _diff(file: File, old: str | None, new: str) -> str:
    private = old is not None and (not file.mode & 0o004 or _is_private(file.path))
    if file.secret or (private and not file.block):
        return f"{file.path}: changed; it may hold a secret and is not shown"
    lines = difflib.unified_diff(
        (old or "").splitlines(),
        new.splitlines(),
        file.path if old is not None else "/dev/null",
        file.path,
        lineterm="",
        n=0 if file.block else 2,  # what is around a block is somebody else's, and may be a secret
    )
    shown = [line.encode("utf-8", "replace").decode() for line in lines]
    if len(shown) > MAX_DIFF_LINES:
        shown = [*shown[:MAX_DIFF_LINES], f"... {len(shown) - MAX_DIFF_LINES} more lines"]
    return "\n".join(shown)
