"""What the running meshd may do with a store in a folder, seen with its rights and not with this shell's.

A unit of systemd takes away what root in a shell has: capabilities, places to write, whole directories.
Linux shows a process's view of the file system below /proc/PID/root, and its capabilities in /proc/PID/status
(proc(5)).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from wgctl.checks.base import Check, fail, ok

CAP_DAC_OVERRIDE: Final = 1 << 1
"""capabilities(7)."""
_WRITE_AND_ENTER: Final = 0o3
NAME: Final = "store rights"


class ProcessRights(msgspec.Struct, frozen=True, kw_only=True):
    """Of a running process. ``root``: its view of the file system."""

    root: Path
    uid: int
    gid: int
    capabilities: int


def read_rights(pid: int, proc: Path = Path("/proc")) -> ProcessRights | None:
    """None where the system does not tell, or not us."""
    process = proc / str(pid)
    try:
        fields = dict(
            line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line
        )
        (process / "root").readlink()
        return ProcessRights(
            root=process / "root",
            uid=int(fields["Uid"].split()[1]),
            gid=int(fields["Gid"].split()[1]),
            capabilities=int(fields["CapEff"], 16),
        )
    except (OSError, KeyError, ValueError):
        return None


def check_rights(urls: Iterable[str], rights: ProcessRights | None) -> Iterator[Check]:
    """One line for each store in a folder that meshd uses; nothing where its rights are not known."""
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme == "file" and rights is not None:
            path = unquote(parts.path)
            try:
                yield _check_folder(path, rights)
            except PermissionError:
                return


def _check_folder(path: str, rights: ProcessRights) -> Check:
    seen, here = rights.root / path.lstrip("/"), Path(path)
    try:
        found = seen.stat()
    except FileNotFoundError:
        return fail(
            NAME,
            f"{path}: meshd does not see it" + (", though it is there" if here.exists() else ""),
            f"make it, or move it out of what the unit hides (ProtectHome, PrivateTmp): mkdir -p {path}",
        )
    if os.statvfs(seen).f_flag & os.ST_RDONLY:
        return fail(
            NAME,
            f"{path}: read-only for meshd",
            f"systemctl edit meshd: [Service] ReadWritePaths={path}; then systemctl restart meshd",
        )
    if not _may_write(found, rights):
        return fail(
            NAME,
            f"{path}: mode {stat.S_IMODE(found.st_mode):04o} of user {found.st_uid} seen, and meshd (user "
            f"{rights.uid}, without CAP_DAC_OVERRIDE) cannot write there",
            "add CAP_DAC_OVERRIDE to CapabilityBoundingSet of the unit, as the one in contrib/systemd has it",
        )
    return ok(NAME, f"{path}: meshd may write there")


def _may_write(found: os.stat_result, rights: ProcessRights) -> bool:
    if rights.capabilities & CAP_DAC_OVERRIDE:
        return True
    shift = 6 if found.st_uid == rights.uid else 3 if found.st_gid == rights.gid else 0
    return found.st_mode >> shift & _WRITE_AND_ENTER == _WRITE_AND_ENTER
