"""Signed requests to make new WireGuard keys -> which one holds for a host at an instant. Pure.

A request takes effect at its ``not_before`` and never earlier. So one from the far future asks
nobody for anything and hides no other; and as a key that is made in answer is no older than the
request, each request is answered once.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping

import msgspec

from meshd.model.host import Provenance
from meshd.registry.statement import LogEntry, Rotate


class RotationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Keys from before ``not_before`` (unix seconds) are to be replaced."""

    not_before: int
    provenance: Provenance


class Rotations(msgspec.Struct, frozen=True, kw_only=True):
    """Every counted request, to all hosts and by hid, the latest ``not_before`` first.

    Of equal ones the lower hash comes first. ``instants``: when one comes due, ascending.
    """

    to_all: tuple[RotationRequest, ...] = ()
    by_hid: Mapping[str, tuple[RotationRequest, ...]] = msgspec.field(default_factory=dict)
    instants: tuple[int, ...] = ()

    def due(self, hid: str, now: float) -> RotationRequest | None:
        """The newest request to this host that is not after ``now`` (unix seconds)."""
        common, own = self.due_to_all(now), _newest(self.by_hid.get(hid, ()), now)
        if common is None or own is None:
            return common or own
        return min(common, own, key=_rank)

    def due_to_all(self, now: float) -> RotationRequest | None:
        """As ``due``, for a host that no request names."""
        return _newest(self.to_all, now)

    def scheduled(self, hid: str, now: float) -> tuple[RotationRequest, ...]:
        """The requests to this host that are still to come, the next one first."""
        requests = sorted((*self.to_all, *self.by_hid.get(hid, ())), key=lambda each: each.not_before)
        return tuple(each for each in requests if each.not_before > now)

    def validity(self, now: float) -> tuple[float, float]:
        """The span around ``now`` (from, to but not including) in which no answer of ``due`` changes."""
        place = bisect_right(self.instants, now)
        first = self.instants[place - 1] if place else -math.inf
        return first, self.instants[place] if place < len(self.instants) else math.inf


def build_rotations(counted: Iterable[LogEntry]) -> Rotations:
    """The requests among counted statements. One that names nobody is to all hosts, of today and later."""
    to_all: list[RotationRequest] = []
    by_hid: dict[str, list[RotationRequest]] = {}
    for entry in counted:
        if isinstance(entry.body, Rotate):
            request = RotationRequest(not_before=entry.body.not_before, provenance=entry.provenance)
            for hid in dict.fromkeys(entry.body.hids):
                by_hid.setdefault(hid, []).append(request)
            if not entry.body.hids:
                to_all.append(request)
    every = {each.not_before for requests in (to_all, *by_hid.values()) for each in requests}
    return Rotations(
        to_all=tuple(sorted(to_all, key=_rank)),
        by_hid={hid: tuple(sorted(requests, key=_rank)) for hid, requests in by_hid.items()},
        instants=tuple(sorted(every)),
    )


def _newest(requests: tuple[RotationRequest, ...], now: float) -> RotationRequest | None:
    place = bisect_left(requests, -now, key=lambda each: -each.not_before)
    return requests[place] if place < len(requests) else None


def _rank(request: RotationRequest) -> tuple[int, str]:
    # Which of two is named for one instant changes nothing, so whoever can choose a hash may.
    return -request.not_before, request.provenance.statement
