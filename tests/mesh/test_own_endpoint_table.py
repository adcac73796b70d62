"""The table of this host's own endpoints in docs/state-machines.md, cell by cell."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest
from drawn_table import check_drawn, parse_table
from meshes import NOW, SignedMesh

from meshd.control.own_endpoints import CHANGED_RECENTLY_SECONDS, OwnEndpoints
from meshd.host.state import HostState
from meshd.mesh.view import build_view
from meshd.model.device import Device, ObservedState, Peer, PeerConfig, PeerStats
from meshd.model.keys import PrivateKey
from meshd.model.network import Endpoint, IPAddress

TABLE = parse_table("""
state   | it sends from another address | witnesses see what is published | most witnesses see something else | a minute goes by
settled | asking                        | settled                         | settled, published                | settled
asking  | asking                        | asking                          | asking, published                 | settled
""")
PEER = Endpoint.parse("198.18.0.9:51820")
OLD, NEW = Endpoint.parse("203.0.113.5:40123"), Endpoint.parse("203.0.113.77:40123")
KEY = PrivateKey.generate().public()


class Place:
    """A host behind a NAT, whose witnesses have agreed on OLD."""

    def __init__(self, directory: Path) -> None:
        self.now = NOW
        self.source: IPAddress = ip_address("198.51.100.3")
        mesh = SignedMesh.create()
        host = mesh.add("tesla")
        self.view = build_view(mesh.ledger.membership(NOW), host.hid)
        self.own = OwnEndpoints(
            state=HostState(directory),
            clock=lambda: self.now,
            witness_seconds=60.0,
            source_of=lambda _: self.source,
            is_own=lambda _: False,
        )
        self.look()
        self.hear(OLD)

    def look(self) -> None:
        config = PeerConfig(public_key=KEY, allowed_ips=frozenset(), endpoint=PEER)
        device = Device(
            name="wg0",
            implementation="memory",
            public_key=None,
            listen_port=51820,
            peers={KEY: Peer(config=config, stats=PeerStats())},
        )
        self.own.follow(ObservedState(interface="wg0", device=device))

    def hear(self, endpoint: Endpoint) -> bool:
        words = [(hid, endpoint) for hid in ("a", "b", "c")]
        return self.own.take_observed(words, self.view, listen_port=51820, configured=())

    def happen(self, event: str) -> bool:
        """True: another record is published."""
        if event == "it sends from another address":
            self.source = ip_address(int(self.source) + 1)
            self.look()
        elif event == "a minute goes by":
            self.now += CHANGED_RECENTLY_SECONDS
        else:
            return self.hear(OLD if event == "witnesses see what is published" else NEW)
        return False

    def state(self) -> str:
        return "asking" if self.own.was_address_changed_recently() else "settled"


WAY = {
    "asking": ("a minute goes by", "it sends from another address"),
    "settled": ("a minute goes by",),
}


@pytest.mark.parametrize(("state", "event", "follows"), TABLE.cells)
def test_a_cell_of_the_table_of_own_endpoints(tmp_path: Path, state: str, event: str, follows: str) -> None:
    place = Place(tmp_path)
    assert place.state() == "asking", "a start is a change"
    for step in WAY[state]:
        place.happen(step)
    assert place.state() == state and OLD in place.own.learned.endpoints
    published = place.happen(event)
    assert place.state() + (", published" if published else "") == follows
    assert (NEW if published else OLD) in place.own.learned.endpoints


def test_the_document_draws_own_endpoints_as_they_are() -> None:
    check_drawn("This host's own endpoints", TABLE)


def test_an_address_that_changed_by_a_clock_of_2099_is_not_new_for_ever(tmp_path: Path) -> None:
    """Until then this host would have had each witness look anew at each round."""
    place = Place(tmp_path)
    place.now = NOW + 73 * 365 * 86400.0
    place.happen("it sends from another address")
    assert place.state() == "asking"
    place.now = NOW
    place.look()
    place.happen("a minute goes by")
    assert place.state() == "settled"
