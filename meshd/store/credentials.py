"""S3 credentials: a value that does not show its secret, and the 0600 file that it comes from."""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from meshd.errors import ConfigError
from meshd.files import write_file
from meshd.text_files import UTF8_MARK

_MAX_FILE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Credentials:
    """``secret_key`` is in no repr, and so in no message and no log."""

    access_key: str
    secret_key: str = field(repr=False)


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    access_key: str
    secret_key: str


def generate_credentials() -> S3Credentials:
    """A new access key in Garage's form: GK and 24 hex digits, 64 hex digits of secret."""
    return S3Credentials(access_key=f"GK{secrets.token_hex(12)}", secret_key=secrets.token_hex(32))


def write_credentials(path: Path, credentials: S3Credentials) -> None:
    """What read_credentials reads, 0600. StoreError when the disk refuses."""
    document = _File(access_key=credentials.access_key, secret_key=credentials.secret_key)
    write_file(path, msgspec.json.encode(document) + b"\n")


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
        decoded = msgspec.json.decode(body.removeprefix(UTF8_MARK), type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ConfigError(
            f'{path}: a JSON object with just "access_key" and "secret_key", both texts, expected'
        ) from None
    if not decoded.access_key or not decoded.secret_key:
        raise ConfigError(f"{path}: access_key or secret_key is empty")
    return S3Credentials(access_key=decoded.access_key, secret_key=decoded.secret_key)
