"""All scenarios on one side: one stage for all of them, a new one after a failure."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

import msgspec

from bench.faults import daemons, damage, rotations
from bench.faults.outcome import Outcome, SideReport
from bench.faults.stage import Side, Stage
from bench.faults.trial import Scenario, measure
from meshd.errors import MeshError
from meshd.lab.pace import EMULATED
from meshd.version import VERSION

SCENARIOS: Final = (*daemons.SCENARIOS, *rotations.SCENARIOS, *damage.SCENARIOS)
PACKETS_PER_SECOND: Final = 20.0 if EMULATED else 200.0


def find_scenario(name: str) -> Scenario:
    """KeyError for a name that none has."""
    return {scenario.name: scenario for scenario in SCENARIOS}[name]


def run_side(side: Side, names: Sequence[str]) -> Iterator[SideReport]:
    """A report on each scenario when it is over, in the order of ``names``; empty: all scenarios."""
    kernel, programs = platform.release(), _programs(side)
    commit = _said("git", "rev-parse", "--short", "HEAD")
    with _Stages(side) as stages:
        for scenario in map(find_scenario, names) if names else SCENARIOS:
            at = time.time()
            outcome = msgspec.structs.replace(
                _attempt(stages, scenario), at=at, commit=commit, load_average=os.getloadavg()[0]
            )
            yield SideReport(side=side, kernel=kernel, programs=programs, outcomes=(outcome,))


class _Stages:
    """The stage that is open; after a failure another one."""

    def __init__(self, side: Side) -> None:
        self.side: Side = side
        self._stage: Stage | None = None

    def __enter__(self) -> _Stages:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def open(self) -> Stage:
        if self._stage is None:
            self._stage = Stage(self.side, say=partial(print, flush=True))
        return self._stage

    def discard(self) -> None:
        if self._stage is not None:
            self._stage.close()
            self._stage = None


def _attempt(stages: _Stages, scenario: Scenario) -> Outcome:
    if stages.side not in scenario.sides:
        return Outcome(scenario=scenario.name, left_out=scenario.elsewhere)
    try:
        return measure(stages.open(), scenario, packets_per_second=PACKETS_PER_SECOND)
    except MeshError as error:
        stages.discard()
        return Outcome(scenario=scenario.name, packets_per_second=PACKETS_PER_SECOND, failed=str(error))


def _programs(side: Side) -> dict[str, str]:
    programs = {"meshd": VERSION, "python": platform.python_version()}
    asked = ("wg", "wireguard-go") if side == "userspace" else ("wg",)
    for program in asked:
        # "wireguard-tools v1.0.20210914 - https://..." and "wireguard-go v0.0.20220316" and more lines
        name, version, *_ = [*_said(program, "--version").split(), "unknown"]
        programs[name] = version
    return programs


def _said(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"
