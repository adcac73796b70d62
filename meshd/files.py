"""Whole files or nothing: temp file, fsync, rename, fsync of the directory.

After a crash at any moment the file is the old one or the new one, never a part of either
(rename(2) is atomic within a file system; the directory's own fsync makes it last).
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Final

from meshd.errors import StoreError

RANDOM_BYTES: Final = 4
_TEMPORARY: Final = re.compile(rf"\..+\.[0-9a-f]{{{2 * RANDOM_BYTES}}}\.tmp")


def is_temporary(name: str) -> bool:
    """Whether ``write_file`` names a file so until it takes the place of the old one."""
    return _TEMPORARY.fullmatch(name) is not None


def write_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace ``path`` by ``data`` with permissions ``mode``. StoreError names the path and why
    (full disk, read-only file system, missing directory); the old file is then untouched."""
    temporary = path.with_name(f".{path.name}.{os.urandom(RANDOM_BYTES).hex()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), mode)  # the umask must not decide about a secret
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from None


def sync_directory(directory: Path) -> None:
    """Make renames and removals in ``directory`` last. OSError as fsync(2)."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
