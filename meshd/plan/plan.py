"""A plan: ordered, countable, printable, comparable by digest, and refusable."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping

import msgspec
from msgspec.structs import replace

from meshd.mesh.desired import DesiredState
from meshd.model.condition import Condition
from meshd.model.device import ObservedState
from meshd.plan.changes import Change
from meshd.plan.conflicts import find_route_conflicts
from meshd.plan.diff import Side, diff_sides
from meshd.plan.safety import SafetyLimits, check_safety


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """``objections``: why it may not be applied without an operator's word; empty: safe."""

    interface: str
    changes: tuple[Change, ...]
    objections: tuple[str, ...]
    conflicts: tuple[Condition, ...]

    @property
    def counts(self) -> Mapping[str, int]:
        return dict(Counter(change.kind for change in self.changes))

    @property
    def digest(self) -> str:
        """Names the plan's changes, so that a confirmed plan is the one that was shown."""
        text = "\n".join(f"{change.kind} {change.summary()}" for change in self.changes)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def without(self, done: Collection[Change]) -> Plan:
        """What is left of it."""
        return replace(self, changes=tuple(change for change in self.changes if change not in done))

    def __bool__(self) -> bool:
        return bool(self.changes)


def build_plan(
    observed: ObservedState,
    desired: DesiredState,
    limits: SafetyLimits,
    second: Side | None = None,
    strays: Collection[str] = (),
) -> Plan:
    """Diff, find what stands in the way, and weigh the danger. ``second``: the interface that serves
    key rotations, while there is a use for it or a rest of it. ``strays``: see ``diff_sides``."""
    sides = (Side(observed=observed, desired=desired), *([second] if second else []))
    changes = diff_sides(sides, strays)
    return Plan(
        interface=desired.interface,
        changes=changes,
        objections=check_safety(changes, sides, limits),
        conflicts=find_route_conflicts(sides, strays),
    )
