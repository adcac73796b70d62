"""What the services demo found, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from wgctl.output import BAD, FAIR, GOOD, Cell, build_table, say, show

if TYPE_CHECKING:
    from meshd.lab.services_demo import ServicesResult


def show_services_demo(result: ServicesResult) -> None:
    """A table for each step, and where names lead on each host."""
    _show_step("everything runs, after the first signed word", result.ready_seconds)
    _show_step(f"{result.leader}, which led, is cut off", result.cut_seconds)
    _show_step(f"{result.leader} is back, and {result.new_leader} leads", result.back_seconds)
    for name, order in result.names.items():
        say(f"{name}: postgres.svc.mesh leads to {', then '.join(order)}")
    for failure in result.failures:
        say(f"FAILED: {failure}", BAD)


def _show_step(what: str, times: Mapping[str, float | None]) -> None:
    if not times:
        return
    rows: list[list[Cell]] = [
        [name, ("never", BAD) if seconds is None else (f"{seconds:.1f} s", GOOD if seconds < 60 else FAIR)]
        for name, seconds in sorted(times.items(), key=lambda each: (each[1] is None, each[1] or 0.0))
    ]
    show(build_table([what, "AFTER"], rows, right=["AFTER"]))
    say("")
