"""What the exchange counts and says: its part of the Status, and its conditions. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from meshd.exchange.host_sync import WITNESS_OUTCOMES, WitnessReport
from meshd.model.condition import Condition, Severity

PUSH_OUTCOMES: Final = ("new", "known", "refused", "unknown", "failed")
RECEIVED_OUTCOMES: Final = ("new", "known", "refused", "unknown")
REMEMBERED_SECONDS: Final = 600.0
"""A host that has not been asked again for so long says nothing about now."""


class ExchangeStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counters since the start, and the newest answer of each witness. Times are unix seconds."""

    listening: tuple[tuple[str, int], ...]
    requests: Mapping[str, int]
    pushes: Mapping[str, int]
    received: Mapping[str, int]
    witnesses: Mapping[str, int]
    queued: int
    witnessed_at: float | None
    agrees: bool | None
    reports: tuple[WitnessReport, ...]


class StatsRecorder(msgspec.Struct):
    """Counts, the newest report of each witness, and who handed us lies. Used from one thread."""

    pushes: Counter[str] = msgspec.field(default_factory=lambda: Counter(dict.fromkeys(PUSH_OUTCOMES, 0)))
    received: Counter[str] = msgspec.field(
        default_factory=lambda: Counter(dict.fromkeys(RECEIVED_OUTCOMES, 0))
    )
    witnesses: Counter[str] = msgspec.field(
        default_factory=lambda: Counter(dict.fromkeys(WITNESS_OUTCOMES, 0))
    )
    reports: dict[str, WitnessReport] = msgspec.field(default_factory=dict)
    lies: dict[str, tuple[float, str]] = msgspec.field(default_factory=dict)
    round: list[WitnessReport] = msgspec.field(default_factory=list)
    witnessed_at: float | None = None
    agrees: bool | None = None

    def begin_round(self) -> None:
        """``agrees`` is of the answers that come from now on."""
        self.round = []

    def note(self, report: WitnessReport, now: float) -> None:
        """One answer. Silence says nothing and leaves the last word standing."""
        self.witnesses[report.outcome] += 1
        if report.result.forged:
            self.lies[report.hid] = (now, report.result.forged)
        if report.outcome != "silent":
            self.reports[report.hid] = report
            self.witnessed_at = now
            self.round.append(report)
            self.agrees = all(map(is_agreement, self.round))

    def forget(self, members: Iterable[str], now: float) -> None:
        """Hosts that are gone, and words that are old, or of a time that a clock set back makes future."""
        kept = set(members)
        self.reports = {
            hid: report
            for hid, report in self.reports.items()
            if hid in kept and abs(now - report.at) < REMEMBERED_SECONDS
        }
        self.lies = {
            hid: (at, text)
            for hid, (at, text) in self.lies.items()
            if hid in kept and abs(now - at) < REMEMBERED_SECONDS
        }

    def suspects(self) -> list[str]:
        """Witnesses whose last word was not agreement: to be asked again first."""
        return sorted(hid for hid, report in self.reports.items() if not is_agreement(report))

    def conditions(self, names: Mapping[str, str]) -> tuple[Condition, ...]:
        """``names``: by hid."""
        found = [self._of_report(report) for report in self.reports.values()]
        lies = [
            Condition(
                code="exchange_object_refused",
                severity=Severity.WARNING,
                subject=names.get(hid, hid),
                text=f"{names.get(hid, hid)} handed over what does not verify: {text}; "
                "what was held before stays in force: find out what runs on that host",
            )
            for hid, (_, text) in self.lies.items()
        ]
        return (*(condition for condition in found if condition is not None), *lies)

    def _of_report(self, report: WitnessReport) -> Condition | None:
        if report.outcome == "differed":
            more = f" (and {len(report.splits) - 1} more)" if len(report.splits) > 1 else ""
            return Condition(
                code="registry_split_view",
                severity=Severity.CRITICAL,
                subject=report.name,
                text=f"{report.why}, and hands it over, signed by root keys in force: they signed one "
                f"version twice{more}; find out who has which root before anything else is signed",
            )
        if report.outcome == "shown_less":
            more = f" (and {len(report.splits) - 1} more)" if len(report.splits) > 1 else ""
            return Condition(
                code="store_split_view",
                severity=Severity.WARNING,
                subject=report.name,
                text=f"{report.why}{more}, says {report.name}: that store has two faces, or {report.name} "
                "lies; hosts hand each other what they hold, so both know everything that verifies",
            )
        if report.outcome in ("unproven", "invalid"):
            return Condition(
                code="witness_refuted",
                severity=Severity.WARNING,
                subject=report.name,
                text=f"{report.name} says what it cannot prove: {report.why}",
            )
        return None


def is_agreement(report: WitnessReport) -> bool:
    """True when both hold the same now."""
    return report.outcome in ("agreed", "ahead", "behind")
