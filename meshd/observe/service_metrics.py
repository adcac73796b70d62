"""Metrics of the service modules and placements of this host."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from meshd.model.service import Guard
from meshd.observe.families import Family, Sample, number
from meshd.observe.status import ModuleStatus, Status

MODULE_STATES: Final[Mapping[str, int]] = {
    "ok": 0,
    "pending": 1,
    "held": 2,
    "failed": 3,
    "broken": 4,
    "released": 5,
}


def _module(name: str, text: str, value: Callable[[ModuleStatus], float | None]) -> Family:
    def samples(status: Status) -> Iterable[Sample]:
        return [((module.name,), number(value(module))) for module in status.services.modules]

    return Family(name, ("module",), text, samples)


SERVICE_FAMILIES: Final = (
    _module(
        "meshd_module_state",
        "Service module: 0 ok, 1 pending, 2 held, 3 failed, 4 broken, 5 released.",
        lambda module: MODULE_STATES.get(module.state),
    ),
    Family(
        "meshd_module_held_reason",
        ("module", "reason"),
        "1: this guard holds the module back, and nothing is changed.",
        lambda status: [
            ((module.name, guard), float(module.state == "held" and module.guard == guard))
            for module in status.services.modules
            for guard in Guard
        ],
    ),
    _module(
        "meshd_module_generation",
        "Registry generation that the service was last brought to.",
        lambda module: module.generation,
    ),
    _module(
        "meshd_module_view_generation",
        "Newest registry generation that the service has all of.",
        lambda module: module.view_generation,
    ),
    _module(
        "meshd_module_last_success_timestamp_seconds",
        "Unix time the service last took what it was given; 0: never.",
        lambda module: module.last_success_at or 0,
    ),
    _module(
        "meshd_module_endpoints",
        "Placements that the module's files speak of.",
        lambda module: module.endpoints,
    ),
    _module(
        "meshd_module_run_seconds_total",
        "Time spent running the module.",
        lambda module: module.run_seconds_sum,
    ),
    Family(
        "meshd_module_runs_total",
        ("module", "outcome"),
        "Runs of the module by outcome.",
        lambda status: [
            ((module.name, outcome), count)
            for module in status.services.modules
            for outcome, count in sorted(module.runs.items())
        ],
    ),
    Family(
        "meshd_placement_up",
        ("service", "jail"),
        "Placement of this host, by its own check: 1 it answers, 0 it does not; NaN: not known.",
        lambda status: [
            ((each.service, each.jail), {"pass": 1.0, "fail": 0.0}.get(each.health, math.nan))
            for each in status.services.placements
        ],
    ),
)
