"""The table of a store in docs/state-machines.md, cell by cell: real rounds with a real store in memory."""

from __future__ import annotations

import pytest
from drawn_table import check_drawn, parse_table
from meshes import NOW, SignedMesh

from meshd.control.followed import WITHHELD_POLLS, WITHHELD_SECONDS, FollowedStore
from meshd.registry.sync import poll
from meshd.store.memory import MemoryStore

TABLE = parse_table("""
state         | a whole answer | an error or a time-out | it does not show what this host holds
not asked yet | up             | down                   | lags
up            | up             | down                   | lags
down          | up             | down                   | lags
lags          | up             | down                   | lags
""")


class Followed:
    """A store, what it has, and a host that holds one statement more or not."""

    def __init__(self) -> None:
        self.mesh = SignedMesh.create()
        self.mesh.add("tesla")
        self.backing = MemoryStore()
        self.store = FollowedStore(self.backing)
        self.now = NOW
        self.mesh.publish(self.backing)

    def happen(self, event: str) -> None:
        faults = self.backing.faults
        faults.unreachable = event == "an error or a time-out"
        if event == "it does not show what this host holds":
            if self.state() != "lags":
                self.mesh.add(f"host{len(self.mesh.hosts)}")
        elif not faults.unreachable:
            self.mesh.publish(self.backing)
        self.now += WITHHELD_SECONDS
        ledger = self.mesh.ledger
        outcome = poll(self.backing, ledger, now=self.now, memory=self.store.memory)
        self.store.note(outcome, ledger.heads(), self.now)

    def state(self) -> str:
        if self.store.up is None:
            return "not asked yet"
        if not self.store.up:
            return "down"
        return "lags" if self.store.shown.lags else "up"

    def codes(self) -> set[str]:
        return {each.code for each in self.store.conditions(self.now)}


WAY = {
    "not asked yet": (),
    "up": ("a whole answer",),
    "down": ("an error or a time-out",),
    "lags": ("it does not show what this host holds",),
}
CODES: dict[str, set[str]] = {"not asked yet": set(), "up": set(), "down": {"store_down"}, "lags": set()}


@pytest.mark.parametrize(("state", "event", "follows"), TABLE.cells)
def test_a_cell_of_the_table_of_a_store(state: str, event: str, follows: str) -> None:
    followed = Followed()
    for step in WAY[state]:
        followed.happen(step)
    assert followed.state() == state
    followed.happen(event)
    assert followed.state() == follows
    withholds = (state, event) == ("lags", "it does not show what this host holds")
    assert withholds == ("store_withholds" in followed.codes()) and WITHHELD_POLLS == 2
    assert followed.codes() - {"store_withholds"} == CODES[follows]


def test_the_document_draws_a_store_as_it_is() -> None:
    check_drawn("A store", TABLE)
