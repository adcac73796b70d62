"""What one turn found and did, as one frozen value: all that the followers of a turn are ever told.

The data plane's side of the daemon moves on in Worlds. The driver alone makes them, one a turn; their
``number`` only grows. Whoever is handed a World may keep it and read it on any thread. What is newer than
the newest World (a measurement, an answer of a store) belongs to the part that measured it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from meshd.control.turn import Turn
from meshd.control.wake import Wake
from meshd.mesh.view import MeshView
from meshd.model.device import ObservedState
from meshd.model.host import Membership
from meshd.model.path import PathStats
from meshd.observe.status import ChangeStatus, ReconcileCounters, RotationStatus
from meshd.settings import Settings


class World(msgspec.Struct, frozen=True, kw_only=True):
    """One turn, from its inputs to its outcome."""

    number: int
    """1 for the first turn of the process, then one more with each: of two Worlds the higher is newer."""
    wakes: frozenset[Wake]
    """Why the turn ran."""
    settings: Settings
    """Those in force when the turn began; a follower that reads a setting reads it here."""
    membership: Membership
    """The verified registry that the turn went by."""
    turn: Turn
    """What was observed, planned and done."""
    paths: Mapping[str, PathStats]
    """What probing said when the turn began, by hid."""
    rotation: RotationStatus
    """How far the rotation of this host's own key is."""
    change: ChangeStatus | None
    """The last change that can be rolled back."""
    applied_generation: int
    """The newest generation of the registry that was made true."""
    counters: ReconcileCounters
    """All turns since the start, this one among them."""

    @property
    def at(self) -> float:
        """When the turn began, unix seconds."""
        return self.turn.at

    @property
    def view(self) -> MeshView:
        """This host and its peers."""
        return self.turn.view

    @property
    def observed(self) -> ObservedState | None:
        """The interface after the turn; None: it could not be observed."""
        return self.turn.observed

    @property
    def second(self) -> ObservedState | None:
        """The interface of key rotations, if there is a use for it."""
        return self.turn.second


class NewestWorld:
    """Holds the newest World. Written where followers are told of it, read by whoever shows it."""

    def __init__(self) -> None:
        self.world: World | None = None
