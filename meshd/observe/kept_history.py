"""The history of paths as a file: what one process knew at its end, for the next one. Pure.

Two bytes a value (IEEE 754 binary16, as struct's ``e``): a thousandth of a round-trip time is more than a
picture shows. A path takes 1.7 kB. A damaged file is no file: nothing follows from a history but a picture.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from math import nan
from typing import Final

import msgspec

from meshd.observe.history import STEPS, PathHistory, Span

FORMAT: Final = "wg-meshd-kept-history/1"
CHECKSUM_BYTES: Final = 4
LARGEST_VALUE: Final = 65504.0
"""Of binary16."""


class _Series(msgspec.Struct, frozen=True, array_like=True):
    """``ends_at``: unix seconds."""

    step_seconds: int
    ends_at: float
    rtt_seconds: bytes
    loss_ratio: bytes


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    paths: dict[str, tuple[_Series, ...]]


def render_history(history: PathHistory, now: float) -> bytes:
    """All of it, as it is at ``now`` (unix seconds)."""
    paths = {
        hid: tuple(_render_span(history.read(hid, seconds, now)) for seconds in STEPS)
        for hid in history.hids()
    }
    body = msgspec.msgpack.encode(_File(format=FORMAT, paths=paths))
    return zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "big") + body


def parse_history(data: bytes) -> Mapping[str, Sequence[Span]]:
    """What ``PathHistory.keep`` takes. ValueError for anything but a whole file of this format."""
    checksum, body = data[:CHECKSUM_BYTES], data[CHECKSUM_BYTES:]
    if checksum != zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "big"):
        raise ValueError("history: damaged")
    file = msgspec.msgpack.decode(body, type=_File)  # its errors are ValueErrors
    if file.format != FORMAT:
        raise ValueError(f"history: format {file.format[:40]!r} seen, {FORMAT!r} expected")
    return {hid: tuple(map(_parse_series, series)) for hid, series in file.paths.items()}


def _render_span(span: Span) -> _Series:
    return _Series(span.step_seconds, span.ends_at, _pack(span.rtt_seconds), _pack(span.loss_ratio))


def _parse_series(series: _Series) -> Span:
    count = STEPS.get(series.step_seconds)
    if count is None:
        raise ValueError(f"history: a step of {series.step_seconds} s seen, one of {list(STEPS)} expected")
    return Span(
        series.step_seconds,
        series.ends_at,
        _unpack(series.rtt_seconds, count),
        _unpack(series.loss_ratio, count),
    )


def _pack(values: Sequence[float]) -> bytes:
    fitting = [value if not value > LARGEST_VALUE else nan for value in values]
    return struct.pack(f"<{len(values)}e", *fitting)


def _unpack(data: bytes, count: int) -> tuple[float, ...]:
    try:
        return struct.unpack(f"<{count}e", data)
    except struct.error as error:
        raise ValueError(f"history: {error}") from None
