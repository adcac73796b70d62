"""The tables of a new pair in docs/state-machines.md: which end defers, for how long, and what ends it."""

from __future__ import annotations

import pytest
from drawn_table import check_drawn, drawn_rules, parse_table
from meshes import NOW, SignedMesh
from msgspec.structs import replace

from meshd.mesh.initiator import InitiatorMemory, defer
from meshd.mesh.view import MeshView, build_view
from meshd.model.device import Device, ObservedState, Peer, PeerConfig, PeerStats
from meshd.model.host import ENROLLMENT_VERSION, Host

DELAY = 0.5
TABLE = parse_table("""
state       | the time is over | the peer has shaken hands | its daemon runs for the first time  | it leaves the mesh and comes back
deferred to | called           | called                    | deferred to, one more delay at most | deferred to, its time begins anew
called      | -                | -                         | -                                   | deferred to, its time begins anew
""")


class Pair:
    """This host, and one peer that is new to it."""

    def __init__(self, *, self_ran: bool = True, peer_ran: bool = True, peer_is_lower: bool = True) -> None:
        mesh = SignedMesh.create(seed="two")
        for name in ("tesla", "newton"):
            mesh.add(name)
        names = sorted(mesh.hosts, key=lambda name: mesh.hosts[name].hid)
        own = mesh.hosts[names[1] if peer_is_lower else names[0]]
        self.view = build_view(mesh.ledger.membership(NOW), own.hid)
        self.hid = own.hid
        self.peer = self.view.peers[0]
        self.memory = InitiatorMemory(self_never_ran=not self_ran)
        self.now = 1000.0
        self.has_shaken_hands = False
        if not peer_ran:
            self.show(has_run=False)

    def show(self, *, has_run: bool) -> None:
        """The peer's record says whether its daemon has ever run."""
        assert self.peer.record is not None
        version = ENROLLMENT_VERSION + 1 if has_run else ENROLLMENT_VERSION
        self.peer = replace(self.peer, record=replace(self.peer.record, version=version))

    def look(self, *hosts: Host) -> tuple[bool, float | None]:
        """-> whether the peer is deferred to now, and for how many seconds more."""
        view: MeshView = replace(self.view, peers=hosts)
        deferral, self.memory = defer(
            self.memory, view, self.kernel(), own_hid=self.hid, now=self.now, delay_seconds=DELAY
        )
        left = None if deferral.ends_at is None else deferral.ends_at - self.now
        return self.peer.hid in deferral.hids, left

    def kernel(self) -> ObservedState:
        assert self.peer.record is not None
        key = self.peer.record.public_key
        stats = PeerStats(latest_handshake_at=NOW if self.has_shaken_hands else 0.0)
        peers = {key: Peer(config=PeerConfig(public_key=key, allowed_ips=frozenset()), stats=stats)}
        device = Device(name="wg0", implementation="memory", public_key=None, listen_port=51820, peers=peers)
        return ObservedState(interface="wg0", device=device)


@pytest.mark.parametrize(
    ("self_ran", "peer_ran", "peer_is_lower", "defers_for"), drawn_rules("Who initiates a handshake", 0)
)
def test_for_how_long_a_host_defers_to_a_peer_that_is_new(
    self_ran: str, peer_ran: str, peer_is_lower: str, defers_for: str
) -> None:
    pair = Pair(self_ran=self_ran == "yes", peer_ran=peer_ran == "yes", peer_is_lower=peer_is_lower == "yes")
    is_deferred, left = pair.look(pair.peer)
    delays = int(defers_for.split()[0])
    assert (is_deferred, left) == ((True, delays * DELAY) if delays else (False, None))


def deferred_to() -> Pair:
    """It has never run, so that there is much time left."""
    pair = Pair(peer_ran=False)
    assert pair.look(pair.peer)[0]
    pair.now += 1.0
    return pair


def called() -> Pair:
    pair = deferred_to()
    pair.now += 3600.0
    assert not pair.look(pair.peer)[0]
    return pair


@pytest.mark.parametrize(("state", "event", "follows"), TABLE.cells)
def test_a_cell_of_the_table_of_a_new_pair(state: str, event: str, follows: str) -> None:
    pair = {"deferred to": deferred_to, "called": called}[state]()
    if event == "the time is over":
        pair.now += 3600.0
    elif event == "the peer has shaken hands":
        pair.has_shaken_hands = True
    elif event == "its daemon runs for the first time":
        pair.show(has_run=True)
    else:
        pair.look()
    is_deferred, left = pair.look(pair.peer)
    assert is_deferred is ((state if follows == "-" else follows).startswith("deferred to"))
    if "one more delay" in follows:
        assert left == DELAY
    elif "anew" in follows:
        assert left == 20 * DELAY


def test_a_host_that_nobody_can_call_defers_to_nobody() -> None:
    pair = Pair()
    assert pair.view.own is not None and pair.view.own.record is not None
    unreachable = replace(pair.view.own.record, endpoints=())
    pair.view = replace(pair.view, own=replace(pair.view.own, record=unreachable))
    assert pair.look(pair.peer) == (False, None)


def test_the_document_draws_a_new_pair_as_it_is() -> None:
    check_drawn("Who initiates a handshake", TABLE, number=1)
