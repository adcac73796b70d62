"""Keyed objects one after the other in a file, each with a length and a checksum. Pure.

Damage stays where it is: the reader takes up again at the next marker. The checksum finds
torn writes and failing disks; forgery is what signatures are for, and whoever could plant
an entry here by a body that looks like one gains nothing by it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import Final

import msgspec

_MARKER: Final = b"\nWGSEG1\x1e"
_LENGTHS: Final = struct.Struct(">HII")
_HEAD_BYTES: Final = len(_MARKER) + _LENGTHS.size

Entry = tuple[str, bytes]


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """``entries`` in the order they were written; ``damaged_bytes`` belong to none of them."""

    entries: tuple[Entry, ...]
    damaged_bytes: int


def render_segment(entries: Iterable[Entry]) -> bytes:
    """Concatenable: the rendering of two lists is the two renderings, one after the other."""
    parts: list[bytes] = []
    for key, body in entries:
        name = key.encode("ascii")
        checksum = zlib.crc32(body, zlib.crc32(name))
        parts += (_MARKER, _LENGTHS.pack(len(name), len(body), checksum), name, body)
    return b"".join(parts)


def parse_segment(data: bytes) -> Segment:
    """Every whole entry of ``data``; never raises."""
    entries: list[Entry] = []
    position = good_bytes = 0
    while (position := data.find(_MARKER, position)) >= 0:
        entry, size_bytes = _parse_entry(data, position)
        if entry is None:
            position += 1
        else:
            entries.append(entry)
            position += size_bytes
            good_bytes += size_bytes
    return Segment(entries=tuple(entries), damaged_bytes=len(data) - good_bytes)


def _parse_entry(data: bytes, start: int) -> tuple[Entry | None, int]:
    body_start = start + _HEAD_BYTES
    if body_start > len(data):
        return None, 0
    name_length, body_length, checksum = _LENGTHS.unpack_from(data, start + len(_MARKER))
    middle = body_start + name_length
    end = middle + body_length
    if end > len(data) or zlib.crc32(data[body_start:end]) != checksum:
        return None, 0
    name = data[body_start:middle]
    if not name.isascii():
        return None, 0
    return (name.decode(), data[middle:end]), end - start
