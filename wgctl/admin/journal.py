"""The last statement that this home signed, written before anybody else can see it.

It says what the next sequence number is, independently of what any store shows, and it holds
the signed bytes, so that an interruption between signing and publishing loses nothing: the same
bytes go out with the next command, never a second statement of the same number.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from meshd.errors import TrustStateError
from meshd.files import write_file

JOURNAL_FILE: Final = "signed.json"


class _Object(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: str
    body: str


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: Literal["wgctl-signed/1"]
    seq: int
    hash: str
    objects: tuple[_Object, ...]


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """``seq`` 0: nothing was signed yet. ``objects`` are keys relative to the mesh, and bodies."""

    seq: int = 0
    hash: str = ""
    objects: tuple[tuple[str, bytes], ...] = ()


def read_journal(home: Path) -> Journal:
    """The journal of a home; TrustStateError when it is there but unreadable."""
    path = home / JOURNAL_FILE
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
        objects = tuple((each.key, base64.b64decode(each.body, validate=True)) for each in file.objects)
    except FileNotFoundError:
        return Journal()
    except OSError as error:
        raise TrustStateError(f"{path}: cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error) as error:
        raise TrustStateError(f"{path}: damaged: {error}; restore it from a backup of this home") from None
    return Journal(seq=file.seq, hash=file.hash, objects=objects)


def write_journal(home: Path, *, seq: int, hash_hex: str, objects: Sequence[tuple[str, bytes]]) -> Journal:
    """Make it last. StoreError when the disk refuses; the old journal then stays."""
    file = _File(
        format="wgctl-signed/1",
        seq=seq,
        hash=hash_hex,
        objects=tuple(_Object(key=key, body=base64.b64encode(body).decode()) for key, body in objects),
    )
    write_file(home / JOURNAL_FILE, msgspec.json.encode(file) + b"\n")
    return Journal(seq=seq, hash=hash_hex, objects=tuple(objects))
