"""Whose a lab is, so that what a killed owner left behind can be told from what is in use.

A lab is called ``wgm``, its owner's process id and a letter. Its directory has that name, and
all that the lab makes elsewhere begins with it. The owner holds a lock on a file in the
directory: the kernel lets go of it in whatever way the owner ends (flock(2)).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
import string
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshd.errors import BackendError

PREFIX: Final = "wgm"
OWNER_FILE: Final = "owner"

_NAME: Final = re.compile(rf"({PREFIX}(\d+)[a-z])(-.*)?")
_NO_LOCK: Final = -1


@dataclass(frozen=True, slots=True)
class OwnedLab:
    """A lab that is ours while this is open. ``path``: its directory, which may be gone already."""

    path: Path
    descriptor: int

    @property
    def name(self) -> str:
        return self.path.name

    def close(self, *, keep_directory: bool = False) -> None:
        """Give it up. With its directory kept it is a lab without an owner, for others to sweep."""
        if not keep_directory:
            shutil.rmtree(self.path, ignore_errors=True)
        if self.descriptor != _NO_LOCK:
            os.close(self.descriptor)


def make_lab() -> OwnedLab:
    """A new lab of this process, with a directory that only root may enter. Raises BackendError."""
    pid = os.getpid()
    try:
        # Locked before it has the name of a lab: nobody ever sees a lab without an owner.
        raw = Path(tempfile.mkdtemp(prefix=f"{PREFIX}-new-"))
        descriptor = _lock(raw / OWNER_FILE, os.O_CREAT)
    except OSError as error:
        raise BackendError(f"lab: no directory in {tempfile.gettempdir()}: {error}") from None
    for letter in string.ascii_lowercase:
        path = Path(tempfile.gettempdir(), f"{PREFIX}{pid}{letter}")
        try:
            raw.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise BackendError(f"lab: {path}: {error.strerror}") from None
            continue
        return OwnedLab(path, descriptor)
    shutil.rmtree(raw, ignore_errors=True)
    os.close(descriptor)
    raise BackendError(f"lab: {len(string.ascii_lowercase)} labs of process {pid} exist already")


def lab_of(name: str) -> str | None:
    """The lab that a directory, namespace, jail or interface of this name belongs to."""
    match = _NAME.fullmatch(name)
    return match[1] if match else None


def claim_abandoned(names: Iterable[str]) -> Iterator[OwnedLab]:
    """Of the labs that these names and the directories here speak of, those whose owner lives no more.

    Each is ours, against others that sweep at the same time, until it is closed.
    """
    directories = Path(tempfile.gettempdir()).glob(f"{PREFIX}*")
    seen = {*names, *(path.name for path in directories if is_own(path, stat.S_IFDIR))}
    for lab in sorted({lab for name in seen if (lab := lab_of(name)) is not None}):
        claimed = _claim(lab)
        if claimed is not None:
            yield claimed


def _claim(lab: str) -> OwnedLab | None:
    path = Path(tempfile.gettempdir(), lab)
    if is_own(path, stat.S_IFDIR):
        try:
            return OwnedLab(path, _lock(path / OWNER_FILE, 0))
        except BlockingIOError:
            return None
        except OSError:
            pass
    # Its owner may keep its files elsewhere (TMPDIR): only then is the process id all there is.
    match = _NAME.fullmatch(lab)
    return None if match is None or _lives(int(match[2])) else OwnedLab(path, _NO_LOCK)


def is_own(path: Path, kind: int) -> bool:
    """Whether this user made it, and it is of this kind (``stat.S_IFDIR``). A folder for temporary files is
    everybody's: what another user puts there must not tell root what to take away."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_IFMT(found.st_mode) == kind and found.st_uid == os.getuid()


def _lock(path: Path, flags: int) -> int:
    """BlockingIOError: somebody else has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _lives(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        with contextlib.suppress(PermissionError):
            os.kill(pid, 0)
        return True
    return False
