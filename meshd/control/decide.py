"""What is to be done, from what was sensed. Pure: the same values in, the same plan out.

The desired state of the mesh is made first, as if nothing were going on. Then *overlays* change it, in a
written order: each takes a desired state and gives another one. The last step deals it out to the two
interfaces of a key rotation, because that is where whatever is wanted is put, not what is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from meshd.control.sense import Sensed
from meshd.mesh.desired import DesiredState
from meshd.mesh.interface_split import split_by_interface
from meshd.mesh.relayed import relay_endpoints, with_reasons
from meshd.plan.diff import Side
from meshd.plan.plan import Plan, build_plan
from meshd.plan.safety import SafetyLimits

Overlay = Callable[[DesiredState], DesiredState]
"""Pure; gives its argument back where it has nothing to say."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """A plan, and the state of the main interface that it leads to."""

    plan: Plan
    desired: DesiredState


def decide(
    sensed: Sensed, desired: DesiredState, overlays: Sequence[Overlay], limits: SafetyLimits
) -> Decision:
    """The plan from what is there to what should be.

    Args:
        desired: what the registry and the measurements ask for.
        overlays: what has a say in it beside them, in this order.
        limits: beyond which the plan is objected to.
    """
    for overlay in overlays:
        desired = overlay(desired)
    desired, second = split_by_interface(
        with_reasons(desired, sensed.pinned),
        sensed.rotation.migrations,
        sensed.local,
        now=sensed.observation.at,
        relays=relay_endpoints(sensed.pinned),
    )
    side = None
    if second is not None or sensed.rotation.second.device is not None:
        side = Side(observed=sensed.rotation.second, desired=second)
    plan = build_plan(sensed.main, desired, limits, side, sensed.observation.strays)
    return Decision(plan=plan, desired=desired)
