"""The table of a root in docs/state-machines.md, cell by cell: real signatures in a real ledger."""

from __future__ import annotations

import fakemesh as fm
import pytest
from drawn_table import check_drawn, parse_table

from meshd.registry.ledger import Ledger
from meshd.registry.root import Root, Thresholds, parse_root
from meshd.registry.signing import SigningKey

TABLE = parse_table("""
state      | a stranger signs | a root key in force signs | as many sign as the root before asks for | another root of its version is in force | its successor is in force
pieces     | pieces           | proposed                  | in force                                 | dropped                                 | -
proposed   | proposed         | proposed                  | in force                                 | dropped                                 | -
in force   | in force         | in force                  | in force                                 | -                                       | superseded
superseded | superseded       | superseded                | superseded                               | -                                       | -
dropped    | dropped          | dropped                   | dropped                                  | -                                       | -
""")  # fmt: skip
ADMIN, RECOVERY, STRANGER = fm.key("admin0"), fm.key("recovery"), fm.key("stranger")


class Succession:
    """A mesh whose next root needs two signatures, and one such root."""

    def __init__(self) -> None:
        chain = fm.make_chain(2)
        two = fm.next_root(chain, thresholds=Thresholds(root=2, admin=1))
        self.ledger = Ledger(chain)
        self.sign(two, ADMIN, RECOVERY)
        self.before = self.ledger.chain
        self.root = fm.next_root(self.before, max_hosts=9)
        self.hash = parse_root(fm.sign_root(self.root, STRANGER)).hash
        self.sign(self.root, STRANGER)

    def sign(self, root: Root, *keys: SigningKey) -> None:
        fm.offer_root(self.ledger, fm.sign_root(root, *keys))

    def happen(self, event: str) -> None:
        if event == "a stranger signs":
            self.sign(self.root, fm.key("another stranger"))
        elif event == "a root key in force signs":
            self.sign(self.root, ADMIN)
        elif event == "as many sign as the root before asks for":
            self.sign(self.root, ADMIN, RECOVERY)
        elif event == "another root of its version is in force":
            self.sign(fm.next_root(self.before, max_hosts=8), ADMIN, RECOVERY)
        else:
            self.sign(fm.next_root(self.ledger.chain, max_hosts=7), ADMIN, RECOVERY)

    def state(self) -> str:
        chain = self.ledger.chain
        if chain.fingerprint == self.hash:
            return "in force"
        if chain.holds(self.root.version, self.hash):
            return "superseded"
        if self.hash in {each.root.hash for each in self.ledger.proposals()}:
            return "proposed"
        return "pieces" if chain.version < self.root.version else "dropped"


ENOUGH = "as many sign as the root before asks for"
WAY = {
    "pieces": (),
    "proposed": ("a root key in force signs",),
    "in force": (ENOUGH,),
    "superseded": (ENOUGH, "its successor is in force"),
    "dropped": ("another root of its version is in force",),
}


@pytest.mark.parametrize(("state", "event", "follows"), [cell for cell in TABLE.cells if cell[2] != "-"])
def test_a_cell_of_the_table_of_a_root(state: str, event: str, follows: str) -> None:
    succession = Succession()
    for step in WAY[state]:
        succession.happen(step)
    assert succession.state() == state
    succession.happen(event)
    assert succession.state() == follows


def test_a_root_in_force_keeps_its_place_when_another_of_its_version_is_signed_as_well() -> None:
    succession = Succession()
    succession.happen(ENOUGH)
    succession.happen("another root of its version is in force")
    assert succession.state() == "in force"


def test_the_document_draws_a_root_as_it_is() -> None:
    check_drawn("A root", TABLE)
