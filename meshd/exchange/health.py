"""What hosts tell each other about their own placements: whether each works, and how old that word is. Pure.

A report names no host. It is about the host that made the request, which has proven that it is that one, so
nobody can say anything of somebody else's placements. It holds ages and no instants, so that no clock has to
be right, and a report that comes again replaces what the same host said before. What is not told again in
time is forgotten: a host that is gone has not said that its services are well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from meshd.errors import RegistryError
from meshd.model.service import MAX_CHECKED_PLACEMENTS, CheckResult, PlacementKey
from meshd.registry.canonical import learn

MAX_REPORT_BYTES: Final = 16 * 1024
RESULT_SECONDS: Final = 90.0
"""A result older than that says nothing about now. It is neither told nor remembered."""
TELL_SECONDS: Final = 30.0
"""Between two reports to one host: two of three may be lost before a result is too old."""
CHANGE_SECONDS: Final = 2.0
"""Between two reports to one host when results change."""
RETRY_SECONDS: Final = 10.0

Place = tuple[str, str]
"""Service and jail, on the host that speaks."""


class PlacementReport(msgspec.Struct, frozen=True, kw_only=True):
    """One placement of the sender. ``age_seconds``: since the end of the newest check."""

    service: str
    jail: str
    works: bool
    age_seconds: float


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """All that the sender knows of its own placements, in place of what it said before."""

    placements: tuple[PlacementReport, ...]


class HealthAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """It was taken."""


learn(HealthReport, HealthAnswer)


def parse_report(body: bytes) -> HealthReport:
    """RegistryError unless the bytes are a report, within its bounds, that says each thing once."""
    if len(body) > MAX_REPORT_BYTES:
        raise RegistryError(f"HealthReport: {len(body)} bytes seen, at most {MAX_REPORT_BYTES} expected")
    try:
        report = msgspec.json.decode(body, type=HealthReport, strict=True)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RegistryError(f"HealthReport: {str(error)[:120]}") from None
    count = len(report.placements)
    if count > MAX_CHECKED_PLACEMENTS:
        raise RegistryError(
            f"HealthReport: {count} placements seen, at most {MAX_CHECKED_PLACEMENTS} expected"
        )
    if len({(each.service, each.jail) for each in report.placements}) != count:
        raise RegistryError("HealthReport: one placement twice seen, each once expected")
    for each in report.placements:
        if not 0.0 <= each.age_seconds <= RESULT_SECONDS:
            raise RegistryError(
                f"HealthReport: age_seconds {each.age_seconds:g} seen, 0 to {RESULT_SECONDS:g} expected"
            )
    return report


def build_report(found: Mapping[Place, CheckResult]) -> HealthReport:
    """What is told of this host's placements; a result that is too old is left out."""
    return HealthReport(
        placements=tuple(
            PlacementReport(service=service, jail=jail, works=each.works, age_seconds=each.age_seconds)
            for (service, jail), each in sorted(found.items())
            if 0.0 <= each.age_seconds <= RESULT_SECONDS
        )[:MAX_CHECKED_PLACEMENTS]
    )


class HeardHealth:
    """What the other hosts said of their placements, in bounded memory. Called from one thread."""

    def __init__(self) -> None:
        self._reports: dict[str, tuple[float, HealthReport]] = {}

    def hear(self, hid: str, report: HealthReport, now: float) -> None:
        """``hid``: of the host that sent it. ``now``: seconds of a clock that never goes back."""
        self._reports[hid] = (now, report)

    def keep_only(self, hids: Collection[str]) -> None:
        """Forget hosts that are none any more."""
        self._reports = {hid: held for hid, held in self._reports.items() if hid in hids}

    def results(self, now: float) -> dict[PlacementKey, CheckResult]:
        """What still counts, with the age that it has by now."""
        return {
            (hid, each.service, each.jail): CheckResult(works=each.works, age_seconds=age)
            for hid, (heard_at, report) in self._reports.items()
            for each in report.placements
            if (age := each.age_seconds + max(0.0, now - heard_at)) <= RESULT_SECONDS
        }


class _Told(msgspec.Struct, frozen=True):
    """``said``: None when the host did not take it."""

    said: Mapping[Place, bool] | None
    at: float


class Telling:
    """Whom to tell of this host's placements, and when. Called from one thread, with one clock's seconds."""

    def __init__(self) -> None:
        self._told: dict[str, _Told] = {}

    def due(self, report: HealthReport, reachable: Collection[str], now: float) -> list[str]:
        """Hosts that are to get this report now; one that was out of reach is a new one."""
        self._told = {hid: told for hid, told in self._told.items() if hid in reachable}
        says = _said(report)
        return [hid for hid in sorted(reachable) if self._is_due(self._told.get(hid), says, now)]

    def told(self, hid: str, report: HealthReport, now: float, *, taken: bool) -> None:
        """The report went to that host, which took it or not."""
        self._told[hid] = _Told(_said(report) if taken else None, now)

    def _is_due(self, told: _Told | None, says: Mapping[Place, bool], now: float) -> bool:
        if told is None:
            return bool(says)
        if told.said is None:
            return now - told.at >= RETRY_SECONDS
        if told.said != says:
            return now - told.at >= CHANGE_SECONDS
        return bool(says) and now - told.at >= TELL_SECONDS


def _said(report: HealthReport) -> Mapping[Place, bool]:
    return {(each.service, each.jail): each.works for each in report.placements}
