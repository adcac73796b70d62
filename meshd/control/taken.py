"""The turn of a host whose interface is somebody else's: nothing is changed, whoever asks for it."""

from __future__ import annotations

from msgspec.structs import replace

from meshd.control.turn import Turn
from meshd.mesh.ownership import interface_taken
from meshd.model.device import ObservedState
from meshd.plan.plan import Plan


def taken_turn(turn: Turn, main: ObservedState) -> Turn:
    """Not even ``wgctl apply --force`` touches it. Its peers are nobody's business here, and not shown."""
    return replace(
        turn,
        outcome="held",
        observed=ObservedState(interface=main.interface, foreign_routes=main.foreign_routes),
        conditions=(interface_taken(main),),
    )


def taken_plan(main: ObservedState) -> Plan:
    """What ``wgctl plan`` shows then: nothing, and why."""
    return Plan(interface=main.interface, changes=(), objections=(interface_taken(main).text,), conflicts=())
