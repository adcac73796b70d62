"""S3 credentials: a value that does not show its secret, and the 0600 file that it comes from."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from meshd.errors import ConfigError

_MAX_FILE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Credentials:
    """``secret_key`` is in no repr, and so in no message and no log."""

    access_key: str
    secret_key: str = field(repr=False)


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    access_key: str
    secret_key: str


def read_credentials(path: Path) -> S3Credentials:
    """Read ``{"access_key": ..., "secret_key": ...}``; ConfigError when others may read the file too."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            body = file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise ConfigError(f"{path}: mode {mode:04o} seen, 0600 expected: it holds a secret key")
    try:
        decoded = msgspec.json.decode(body, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ConfigError(
            f'{path}: a JSON object with just "access_key" and "secret_key", both texts, expected'
        ) from None
    if not decoded.access_key or not decoded.secret_key:
        raise ConfigError(f"{path}: access_key or secret_key is empty")
    return S3Credentials(access_key=decoded.access_key, secret_key=decoded.secret_key)
