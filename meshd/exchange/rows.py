"""What hosts tell each other about their paths: each its own row of the matrix, and rows it was told. Pure.

A row is the word of the host that measured it, and nothing but the picture of the mesh depends on it. A host
that answers gives its own row. Of hosts that do not answer here another one may give the row that it holds:
that is hearsay, and is shown as such. Rows hold ages and no instants, so that no clock has to be right.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from meshd.errors import RegistryError
from meshd.exchange.messages import MAX_ANSWER_BYTES
from meshd.model.path import PathStats
from meshd.registry.canonical import learn
from meshd.registry.envelope import is_hex

MAX_WANTED: Final = 64
"""Rows of others that one request may ask for."""
MAX_ROW_PATHS: Final = 4096
ROW_SECONDS: Final = 3600.0
"""A row that is older than that shows nothing of the mesh as it is."""
HID_HEX_DIGITS: Final = 32
MAX_RTT_SECONDS: Final = 3600.0
MAX_MTU_BYTES: Final = 65535
ENVELOPE_BYTES: Final = 64
"""A hid, and what JSON puts around a row, or around the whole."""


class PathReport(msgspec.Struct, frozen=True, array_like=True):
    """One path, as short as it goes: a row of a hundred hosts has a hundred of them."""

    up: bool
    rtt_seconds: float | None
    jitter_seconds: float | None
    loss_ratio: float
    via: str = "direct"


class RowReport(msgspec.Struct, frozen=True, kw_only=True):
    """``age_seconds``: since it was measured. ``paths``: by hid of the other end. ``mtus``: likewise, the
    largest packets that they carry, in bytes, where that was found out."""

    age_seconds: float
    paths: dict[str, PathReport]
    mtus: dict[str, int] = {}


class RowsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``want``: hosts whose rows the asker would like besides that of the host that it asks."""

    want: tuple[str, ...] = ()


class RowsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``own``: of the host that answers. ``told``: by hid, as others told it."""

    own: RowReport
    told: dict[str, RowReport] = {}


learn(RowsRequest, RowsAnswer)


class KnownRow(msgspec.Struct, frozen=True, kw_only=True):
    """``told_by``: the hid of who passed it on; None: the host itself said it."""

    age_seconds: float
    told_by: str | None
    paths: Mapping[str, PathStats]
    mtus: Mapping[str, int]


def check_request(request: RowsRequest) -> None:
    """RegistryError if it asks for more than one request may."""
    if len(request.want) > MAX_WANTED:
        raise RegistryError(f"RowsRequest: {len(request.want)} hosts seen, at most {MAX_WANTED} expected")


def check_answer(answer: RowsAnswer, request: RowsRequest) -> None:
    """RegistryError unless it is what was asked for, and every figure is one."""
    unasked = answer.told.keys() - set(request.want)
    if unasked:
        raise RegistryError(f"RowsAnswer: {len(unasked)} rows seen that were not asked for")
    for row in (answer.own, *answer.told.values()):
        if not 0.0 <= row.age_seconds <= ROW_SECONDS:
            raise RegistryError(
                f"RowsAnswer: age_seconds {row.age_seconds:g} seen, 0 to {ROW_SECONDS:g} expected"
            )
        if len(row.paths) > MAX_ROW_PATHS:
            raise RegistryError(f"RowsAnswer: {len(row.paths)} paths seen, at most {MAX_ROW_PATHS} expected")
        for hid, path in row.paths.items():
            _check_path(hid, path)
        _check_mtus(row)


def _check_path(hid: str, path: PathReport) -> None:
    times = (path.rtt_seconds or 0.0, path.jitter_seconds or 0.0)
    if not all(0.0 <= seconds <= MAX_RTT_SECONDS for seconds in times):
        raise RegistryError(f"RowsAnswer: a time of {max(times):g} s seen, 0 to {MAX_RTT_SECONDS:g} expected")
    if not 0.0 <= path.loss_ratio <= 1.0:
        raise RegistryError(f"RowsAnswer: loss_ratio {path.loss_ratio:g} seen, 0 to 1 expected")
    for name in (hid, *(() if path.via == "direct" else (path.via,))):
        if not is_hex(name, HID_HEX_DIGITS):
            raise RegistryError(f"RowsAnswer: {name[:40]!r} seen, a hid of {HID_HEX_DIGITS} digits expected")


def _check_mtus(row: RowReport) -> None:
    if unmeasured := row.mtus.keys() - row.paths.keys():
        raise RegistryError(f"RowsAnswer: the MTU of {len(unmeasured)} paths seen that the row has not")
    for mtu_bytes in row.mtus.values():
        if not 0 < mtu_bytes <= MAX_MTU_BYTES:
            raise RegistryError(f"RowsAnswer: an MTU of {mtu_bytes} seen, 1 to {MAX_MTU_BYTES} expected")


def build_answer(own: RowReport, told: Mapping[str, RowReport]) -> RowsAnswer:
    """As many of the rows that were told as fit beside this host's own: an answer over its size is refused
    whole, and whoever has long rows told of himself would silence every host that is asked for them."""
    left = MAX_ANSWER_BYTES - len(msgspec.json.encode(own)) - ENVELOPE_BYTES
    fitting = {}
    for hid, row in told.items():
        size = len(msgspec.json.encode(row)) + ENVELOPE_BYTES
        if size <= left:
            fitting[hid] = row
            left -= size
    return RowsAnswer(own=own, told=fitting)


def of_mesh(answer: RowsAnswer, hids: Collection[str]) -> RowsAnswer:
    """Without paths to what is no host: a row of those would be kept, and told to others, as it came."""
    return RowsAnswer(
        own=_of_mesh(answer.own, hids),
        told={hid: _of_mesh(row, hids) for hid, row in answer.told.items()},
    )


def _of_mesh(row: RowReport, hids: Collection[str]) -> RowReport:
    known = {hid: path for hid, path in row.paths.items() if hid in hids}
    if len(known) == len(row.paths):
        return row
    mtus = {hid: mtu_bytes for hid, mtu_bytes in row.mtus.items() if hid in known}
    return msgspec.structs.replace(row, paths=known, mtus=mtus)


def build_row(paths: Mapping[str, PathStats], mtus: Mapping[str, int]) -> RowReport:
    """This host's own row, as it is now."""
    return RowReport(
        age_seconds=0.0,
        paths={
            hid: PathReport(path.up, path.srtt_seconds, path.jitter_seconds, path.loss_ratio, path.via)
            for hid, path in paths.items()
        },
        mtus={hid: mtu_bytes for hid, mtu_bytes in mtus.items() if hid in paths},
    )


class KeptRows:
    """The newest row of each other host, in memory that the number of hosts bounds. For one thread."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[float, str | None, RowReport]] = {}

    def hear(self, hid: str, answer: RowsAnswer, now: float) -> None:
        """
        Args:
            hid: of the host that answered.
            now: seconds of a clock that never goes back.
        """
        self._keep(hid, answer.own, None, now)
        for other, row in answer.told.items():
            if other != hid:
                self._keep(other, row, hid, now)

    def keep_only(self, hids: Collection[str]) -> None:
        """Forget hosts that are none any more."""
        self._rows = {hid: kept for hid, kept in self._rows.items() if hid in hids}

    def stale(self, hids: Iterable[str], seconds: float, now: float) -> list[str]:
        """Those of ``hids`` of which there is no row, or one that is older than that."""
        return [hid for hid in hids if hid not in self._rows or self._age(hid, now) > seconds]

    def told(self, want: Iterable[str], now: float) -> dict[str, RowReport]:
        """What is passed on: with the age that it has by now."""
        return {
            hid: msgspec.structs.replace(self._rows[hid][2], age_seconds=self._age(hid, now))
            for hid in want
            if hid in self._rows and self._age(hid, now) <= ROW_SECONDS
        }

    def rows(self, now: float) -> dict[str, KnownRow]:
        """By hid."""
        return {
            hid: KnownRow(
                age_seconds=self._age(hid, now),
                told_by=told_by,
                paths={other: _stats(path) for other, path in row.paths.items()},
                mtus=row.mtus,
            )
            for hid, (_, told_by, row) in self._rows.items()
            if self._age(hid, now) <= ROW_SECONDS
        }

    def _keep(self, hid: str, row: RowReport, told_by: str | None, now: float) -> None:
        """A younger row takes the place of an older one; of two, the host's own word."""
        known = self._rows.get(hid)
        if known is None or told_by is None or row.age_seconds < self._age(hid, now):
            self._rows[hid] = now - row.age_seconds, told_by, row

    def _age(self, hid: str, now: float) -> float:
        return max(0.0, now - self._rows[hid][0])


def _stats(path: PathReport) -> PathStats:
    return PathStats(
        via=path.via,
        up=path.up,
        srtt_seconds=path.rtt_seconds,
        jitter_seconds=path.jitter_seconds,
        loss_ratio=path.loss_ratio,
    )
