"""What this home has signed of root documents that still wait for other signatures.

Written before anybody else can see it, so that an interruption loses nothing and a home knows
which root of a version it has signed already, whatever the stores show.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from meshd.errors import StoreError, TrustStateError
from meshd.files import write_file

PROPOSALS_FILE: Final = "roots.json"


class _Object(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: str
    body: str


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: Literal["wgctl-roots/1"]
    objects: tuple[_Object, ...]


def read_proposals(home: Path) -> list[tuple[str, bytes]]:
    """Payloads and signatures by their keys; TrustStateError when the file is there but unreadable."""
    path = home / PROPOSALS_FILE
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
        return [(each.key, base64.b64decode(each.body, validate=True)) for each in file.objects]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise TrustStateError(f"{path}: cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error) as error:
        raise TrustStateError(f"{path}: damaged: {error}; restore it from a backup of this home") from None


def write_proposals(home: Path, objects: Sequence[tuple[str, bytes]]) -> None:
    """Make it last, or remove the file when nothing waits. StoreError when the disk refuses."""
    path = home / PROPOSALS_FILE
    if not objects:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{path}: cannot be removed: {error.strerror}") from None
        return
    file = _File(
        format="wgctl-roots/1",
        objects=tuple(
            _Object(key=key, body=base64.b64encode(body).decode()) for key, body in dict(objects).items()
        ),
    )
    write_file(path, msgspec.json.encode(file) + b"\n")
