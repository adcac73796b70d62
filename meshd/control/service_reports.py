"""How a module's run ended, for the operator: a condition, a row of the status, an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from meshd.model.condition import Condition, Severity
from meshd.model.service import Health, PlacementKey
from meshd.observe.protocol import ModuleReport
from meshd.observe.status import PlacementStatus
from meshd.services.schedule import Outcome
from meshd.services.transaction import Report

STATES: Final[Mapping[Outcome, str]] = {
    Outcome.UNCHANGED: "ok",
    Outcome.APPLIED: "ok",
    Outcome.HELD: "held",
    Outcome.FAILED: "failed",
    Outcome.REFUSED: "failed",
    Outcome.ROLLED_BACK: "failed",
    Outcome.BROKEN: "broken",
}


def condition_of(name: str, report: Report | None, *, parked: bool) -> Condition | None:
    """What is wrong with a module, from how its last run ended."""
    if report is None or STATES[report.outcome] == "ok":
        return None
    if report.outcome is Outcome.BROKEN:
        return Condition(
            code="service_broken",
            severity=Severity.CRITICAL,
            subject=name,
            text=f"{name}: {report.reason}: look at the service now; then: wgctl service retry {name}",
        )
    if report.outcome is Outcome.HELD:
        return Condition(
            code="service_held",
            severity=Severity.WARNING,
            subject=name,
            text=f"{name}: nothing is changed: {report.reason}",
        )
    if report.outcome is Outcome.FAILED:
        then = ": no further try by itself" if parked else ": meshd tries again"
        return Condition(
            code="service_failed",
            severity=Severity.WARNING,
            subject=name,
            text=f"{name}: {report.reason}{then}; the service goes on as it is",
        )
    return Condition(
        code="service_refused",
        severity=Severity.WARNING,
        subject=name,
        text=f"{name}: {report.reason}: not tried again before something changes, or: "
        f"wgctl service retry {name}",
    )


def placement_rows(
    results: Mapping[PlacementKey, tuple[Health, float]],
) -> tuple[PlacementStatus, ...]:
    """Checks of placements for the status."""
    return tuple(
        PlacementStatus(hid=hid, service=service, jail=jail, health=health, checked_at=at)
        for (hid, service, jail), (health, at) in sorted(results.items())
    )


def report_document(name: str, report: Report) -> ModuleReport:
    """One run for ``wgctl service``."""
    return ModuleReport(
        name=name,
        outcome=str(report.outcome),
        phase=report.phase,
        reason=report.reason,
        diffs=report.diffs,
        notes=report.notes,
    )
