"""S3 credentials: a value that does not show its secret, and the places that it comes from."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Mapping
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
    session_token: str = field(default="", repr=False)
    """Of temporary credentials (AWS STS, MinIO): they end within hours. Empty: a lasting key."""


CredentialsSource = Callable[[], S3Credentials]
"""What to sign the next request with."""


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    access_key: str
    secret_key: str
    session_token: str = ""


class CredentialsFile:
    """The credentials of a file as it is now: whoever renews a session token writes it anew, and the next
    request is signed with it. A file that cannot be read leaves those in force that were read last, so that
    a half-written one costs nothing but what the store says to the old ones."""

    def __init__(self, path: Path) -> None:
        """ConfigError as ``read_credentials``."""
        self._path = path
        self._held = (_mark(path), read_credentials(path))

    def __call__(self) -> S3Credentials:
        with contextlib.suppress(OSError, ConfigError):
            mark = _mark(self._path)
            if mark != self._held[0]:
                self._held = (mark, read_credentials(self._path))
        return self._held[1]


def _mark(path: Path) -> tuple[int, int, int]:
    """Changes whenever the file is replaced or written. OSError as stat(2)."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0, 0
    return status.st_mtime_ns, status.st_ino, status.st_size


def credentials_of(environment: Mapping[str, str]) -> S3Credentials | None:
    """Those of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, as every S3 tool takes them; None: not both."""
    access_key, secret_key = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key:
        return None
    token = environment.get("AWS_SESSION_TOKEN", "")
    return S3Credentials(access_key=access_key, secret_key=secret_key, session_token=token)


def generate_credentials() -> S3Credentials:
    """A new access key in Garage's form: GK and 24 hex digits, 64 hex digits of secret."""
    return S3Credentials(access_key=f"GK{secrets.token_hex(12)}", secret_key=secrets.token_hex(32))


def write_credentials(path: Path, credentials: S3Credentials) -> None:
    """What read_credentials reads, 0600. StoreError when the disk refuses."""
    document = _File(
        access_key=credentials.access_key,
        secret_key=credentials.secret_key,
        session_token=credentials.session_token,
    )
    write_file(path, msgspec.json.encode(document) + b"\n")


def read_credentials(path: Path) -> S3Credentials:
    """Read ``{"access_key": ..., "secret_key": ...}``, perhaps with a ``session_token``; ConfigError when
    others may read the file too."""
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
            f'{path}: a JSON object with just "access_key" and "secret_key", both texts, expected '
            'and, where they are temporary, "session_token"'
        ) from None
    if not decoded.access_key or not decoded.secret_key:
        raise ConfigError(f"{path}: access_key or secret_key is empty")
    return S3Credentials(
        access_key=decoded.access_key, secret_key=decoded.secret_key, session_token=decoded.session_token
    )
