"""Pairs of a mesh that are cut one after the other under traffic, and what each cut costs.

Every pair but one idle one has a stream each way between its jails and one each way between its hosts. The
idle pair is one that has nothing to do with the cut one, and is cut with it: it is used only then.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations
from typing import NamedTuple

from lab_mesh import Counts, LabMesh, MemberPair, hosts_of, until

CALM_SECONDS = 1.0
AFTER_SECONDS = 2.0
"""After a pair has another way, or its own one again: what is under way arrives."""


class CutCost(NamedTuple):
    """What the cut of ``pair`` cost, and of ``idle``, which nobody used until then.

    ``gap_seconds``: the longest silence of the four streams of the pair. ``lost``: most on one of them.
    ``idle_lost``: of the first packets of the idle pair. ``beside``: ways of other pairs that lost packets
    meanwhile; ``back``: ways of any pair that did on the way back. ``starved``: packets that kernels dropped
    for want of a processor.
    """

    pair: MemberPair
    idle: MemberPair | None
    relay: str
    gap_seconds: float
    lost: int
    back_seconds: float
    idle_lost: int
    beside: dict[tuple[str, str], int]
    back: dict[tuple[str, str], int]
    starved: int

    @property
    def is_clean(self) -> bool:
        return not (self.idle_lost or self.beside or self.back)


def cut_one_after_the_other(mesh: LabMesh, pairs: Sequence[MemberPair]) -> Iterator[CutCost]:
    """The idle one is the one that was cut least often: each time doubles what a pair waits to go back."""
    cuts = Counter[MemberPair]()
    for pair in pairs:
        apart = [each for each in combinations(mesh.members, 2) if not set(each) & set(pair)]
        idle = min(apart, key=lambda each: cuts[each], default=None)
        cuts.update([pair, *filter(None, (idle,))])
        yield _cut(mesh, pair, idle)


def _cut(mesh: LabMesh, pair: MemberPair, idle: MemberPair | None) -> CutCost:
    everyone = list(combinations(mesh.members, 2))
    used = [other for other in everyone if other != idle]
    streams = mesh.streams(*used, with_hosts=True)
    time.sleep(CALM_SECONDS)
    cut = [pair, *filter(None, (idle,))]
    for each in cut:
        mesh.lab.cut(*(member.name for member in each))
    for each in cut:
        until(f"{_name(each)}: not relayed", partial(mesh.is_relayed, *each))
    time.sleep(AFTER_SECONDS)
    away = streams.stop()
    relay = mesh.via(*pair)
    first_packets = mesh.run_streams(CALM_SECONDS, idle) if idle is not None else None
    streams = mesh.streams(*everyone, with_hosts=True)
    for each in cut:
        mesh.lab.heal(*(member.name for member in each))
    took = until("not direct again", lambda: all(mesh.is_direct(*each) for each in cut))
    time.sleep(AFTER_SECONDS)
    back = streams.stop()
    return _cost(pair, idle, relay, took, away, first_packets, back)


def _cost(
    pair: MemberPair,
    idle: MemberPair | None,
    relay: str,
    back_seconds: float,
    away: Counts,
    first_packets: Counts | None,
    back: Counts,
) -> CutCost:
    names = {member.name for member in pair}
    own = [report for ends, report in away.reports.items() if hosts_of(ends) == names]
    counts = [away, back, *filter(None, (first_packets,))]
    return CutCost(
        pair=pair,
        idle=idle,
        relay=relay,
        gap_seconds=max(report.longest_gap_seconds for report in own),
        lost=max(report.lost for report in own),
        back_seconds=back_seconds,
        idle_lost=sum(first_packets.losses().values()) if first_packets is not None else 0,
        beside=away.losses(pair),
        back=back.losses(),
        starved=sum(sum(each.dropped.values()) for each in counts),
    )


HEADER = f"{'cut':15} {'through':8} {'silent':>8} {'lost':>5} {'back':>7}  lost: idle beside back starved"


def render(costs: Sequence[CutCost]) -> str:
    """A table with a line for each cut, and what they have in common."""
    return "\n".join([HEADER, *map(render_cut, costs), render_sum(costs)])


def render_sum(costs: Sequence[CutCost]) -> str:
    gaps = sorted(each.gap_seconds for each in costs)
    clean = sum(each.is_clean for each in costs)
    silent = f"silent for {gaps[0]:.2f} to {gaps[-1]:.2f} s, median {gaps[len(gaps) // 2]:.2f} s"
    return (
        f"{silent}\n{clean} of {len(costs)} cost no other pair, nor an idle one, nor the way back, a packet"
    )


def render_cut(cost: CutCost) -> str:
    beside, back = sum(cost.beside.values()), sum(cost.back.values())
    return (
        f"{_name(cost.pair):15} {cost.relay:8} {cost.gap_seconds:6.2f} s {cost.lost:5} "
        f"{cost.back_seconds:5.1f} s {cost.idle_lost:11} {beside:6} {back:4} {cost.starved:7}"
        + "".join(
            f"\n  {when} {source} to {target}: {lost}"
            for when, losses in (("beside", cost.beside), ("back", cost.back))
            for (source, target), lost in sorted(losses.items())
        )
    )


def _name(pair: MemberPair) -> str:
    return "-".join(member.name for member in pair)
