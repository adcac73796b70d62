"""One scenario, measured: packets flow on every pair while the fault is made, and are counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import permutations
from typing import Final, Literal

from bench.faults.outcome import Bound, Outcome, StreamCost
from bench.faults.stage import Side, Stage
from meshd.lab.fleet import Member
from meshd.lab.pace import EMULATED
from meshd.lab.stream import Stream, StreamReport

NOTHING_LOST: Final = Bound(lost=0)
CALM_SECONDS: Final = 2.0 if EMULATED else 1.0
"""Before the fault, and after all is whole again: what breaks late is counted, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """``title`` and ``what`` are the table's. ``sides``: where it can run; ``elsewhere``: why not on the
    other one. ``touches``: the pairs of the first host, all pairs, or none of them. ``packets``: so many
    are to be sent on each stream, for scenarios that can go on until they are."""

    name: str
    title: str
    what: str
    run: Callable[[Trial], None]
    bound: Bound = NOTHING_LOST
    touches: Literal["victim", "all", "none"] = "victim"
    sides: tuple[Side, ...] = ("userspace", "kernel")
    elsewhere: str = ""
    packets: int = 0


class Trial:
    """What a scenario's function receives: the stage, and where to say when the fault is made."""

    def __init__(self, stage: Stage, *, packets_per_second: float, wanted_packets: int) -> None:
        self.stage = stage
        self.note = ""
        self._fault_instants: list[float] = []
        self._rate = packets_per_second
        self._wanted = wanted_packets
        self._started_at = time.monotonic()

    def fault(self) -> None:
        """The fault is made now; once for each time that it is made."""
        self._fault_instants.append(time.monotonic())

    @property
    def repeated(self) -> int:
        return len(self._fault_instants)

    def since_fault(self, instant: float) -> float:
        """Seconds from the last fault before ``instant``, from the first one when there was none."""
        before = [each for each in self._fault_instants if each <= instant] or self._fault_instants[:1]
        return max(0.0, instant - before[-1]) if before else 0.0

    @property
    def has_enough_packets(self) -> bool:
        return (time.monotonic() - self._started_at) * self._rate >= self._wanted

    def times(self, number: int, *, emulated: int) -> int:
        """``number``, or ``emulated`` on a machine that would need hours."""
        return emulated if EMULATED else number


def measure(stage: Stage, scenario: Scenario, *, packets_per_second: float) -> Outcome:
    """Raises MeshError when the mesh does not come back; the stage is of no more use then."""
    stage.settle()
    pairs = list(permutations(stage.members, 2))
    with ExitStack() as stack:
        streams = [stack.enter_context(_stream(*pair, packets_per_second)) for pair in pairs]
        time.sleep(CALM_SECONDS)
        wanted = scenario.packets // (20 if EMULATED else 1)
        trial = Trial(stage, packets_per_second=packets_per_second, wanted_packets=wanted)
        scenario.run(trial)
        stage.settle()
        whole_at = time.monotonic()
        time.sleep(CALM_SECONDS)
        reports = [stream.stop() for stream in streams]
    return Outcome(
        scenario=scenario.name,
        packets_per_second=packets_per_second,
        streams=tuple(
            _cost(pair, report, trial, _is_touched(scenario, stage, pair))
            for pair, report in zip(pairs, reports, strict=True)
        ),
        whole_seconds=trial.since_fault(whole_at),
        repeated=trial.repeated,
        note=trial.note,
    )


def _stream(source: Member, target: Member, packets_per_second: float) -> Stream:
    jail = target.host.jails[0]
    return Stream(source.host.jails[0], jail, jail.address, packets_per_second=packets_per_second)


def _is_touched(scenario: Scenario, stage: Stage, pair: tuple[Member, Member]) -> bool:
    return scenario.touches == "all" or (scenario.touches == "victim" and stage.victim in pair)


def _cost(pair: tuple[Member, Member], report: StreamReport, trial: Trial, touched: bool) -> StreamCost:
    traffic = None if report.last_lost_at is None else trial.since_fault(report.last_lost_at)
    return StreamCost(
        source=pair[0].name,
        target=pair[1].name,
        touched=touched,
        sent=report.sent,
        lost=report.lost,
        refused=report.refused,
        longest_gap_seconds=report.longest_gap_seconds,
        traffic_seconds=traffic,
    )
