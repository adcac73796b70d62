"""The table of a host's membership in docs/state-machines.md, cell by cell: two administrators must agree."""

from __future__ import annotations

import fakemesh as fm
import pytest
from drawn_table import check_drawn, parse_table

from meshd.errors import RegistryError
from meshd.registry.ledger import Ledger
from meshd.registry.signer import LogSigner

TABLE = parse_table("""
state                   | granted                 | endorsed by as many as the root asks for | the grant runs out      | revoked
enrolled                | waiting for endorsement | -                                        | -                       | refused
waiting for endorsement | waiting for endorsement | member                                   | waiting for endorsement | revoked
member                  | member                  | member                                   | expired                 | revoked
expired                 | expired                 | member                                   | expired                 | revoked
revoked                 | refused                 | -                                        | revoked                 | refused
""")  # fmt: skip
ADMIN, OTHER = fm.key("admin0"), fm.key("admin1")
HID = fm.key("tesla").kid
TERM_SECONDS = 60
GRANTED, ENDORSED, OVER, REVOKED = TABLE.events


class Admission:
    """Two of three administrators have to agree; each grant is for a minute."""

    def __init__(self) -> None:
        self.ledger, self.now = Ledger(fm.make_chain(3, admin_threshold=2)), fm.NOW
        self.ledger.offer(*fm.record("tesla", version=0, mesh=""))
        self.newest = ""

    def happen(self, event: str) -> None:
        if event == GRANTED:
            ends_at = int(self.now) + TERM_SECONDS
            self.newest = fm.hash_of(fm.grant(self.ledger, ADMIN, "tesla", expires_at=ends_at))
        elif event == ENDORSED:
            self.happen(GRANTED)
            LogSigner(self.ledger, OTHER).endorse(self.newest, now=fm.NOW)
        elif event == OVER:
            self.now += TERM_SECONDS
        else:
            LogSigner(self.ledger, ADMIN).revoke(HID, "sold", now=fm.NOW)

    def state(self) -> str:
        reduction, membership = self.ledger.reduction(), self.ledger.membership(self.now)
        if HID in reduction.revoked:
            return "revoked"
        if HID in membership.hosts:
            return "member"
        if HID in reduction.placed:
            return "expired"
        waits = HID in {each.grant.hid for each in reduction.unendorsed}
        return "waiting for endorsement" if waits else "enrolled"


WAY = {
    "enrolled": (),
    "waiting for endorsement": (GRANTED,),
    "member": (ENDORSED,),
    "expired": (ENDORSED, OVER),
    "revoked": (ENDORSED, REVOKED),
}


@pytest.mark.parametrize(("state", "event", "follows"), [cell for cell in TABLE.cells if cell[2] != "-"])
def test_a_cell_of_the_table_of_membership(state: str, event: str, follows: str) -> None:
    admission = Admission()
    for step in WAY[state]:
        admission.happen(step)
    assert admission.state() == state
    if follows == "refused":
        with pytest.raises(RegistryError):
            admission.happen(event)
        follows = state
    else:
        admission.happen(event)
    assert admission.state() == follows


def test_the_document_draws_membership_as_it_is() -> None:
    check_drawn("Membership of a host", TABLE)
