"""A mesh in a store that others fill, and one reader."""

from __future__ import annotations

import fakemesh as fm
from arena import create_mesh
from meshes import NOW

from meshd.registry.layout import mesh_prefix
from meshd.registry.ledger import Ledger
from meshd.registry.sync import PollMemory, PollOutcome, poll
from meshd.store.memory import MemoryStore


class Flooded:
    """A mesh in a store that others fill, and one reader who begins with root 1."""

    def __init__(self) -> None:
        self.mesh = create_mesh()
        self.store = MemoryStore()
        self.prefix = mesh_prefix(self.mesh.ledger.mesh_id)
        self.mesh.publish(self.store)
        self.ledger = Ledger(self.mesh.mesh.chain)
        self.memory = PollMemory()
        assert self.poll().complete

    def poll(self) -> PollOutcome:
        return poll(self.store, self.ledger, now=NOW, memory=self.memory)

    def plant(self, *objects: fm.StoreObject) -> None:
        for key, body in objects:
            self.store.plant(self.prefix + key, body)

    def poll_until_revoked(self, name: str) -> int:
        """Rounds until the reader has taken in that revoke; each is told from an outage."""
        for rounds in range(1, 40):
            outcome = self.poll()
            assert outcome.unreachable == ""
            if name not in fm.names(self.ledger, NOW):
                return rounds
        raise AssertionError(f"{name} is still there")
