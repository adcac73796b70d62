"""The tables of a key rotation in docs/state-machines.md, cell by cell."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from drawn_table import drawn_in_document, drawn_rules
from meshes import NOW, SignedMesh
from msgspec.structs import replace

from meshd.mesh.desired import LocalDevice
from meshd.mesh.progress import Progress, RotationStep
from meshd.mesh.rotation import InterfaceRole, PairMigration, Phase, find_migrations, own_phase, phase_of
from meshd.mesh.view import build_view
from meshd.model.device import Device, ObservedState, Peer, PeerConfig, PeerStats
from meshd.model.host import Host
from meshd.model.keys import PrivateKey, PublicKey
from meshd.model.network import Endpoint, Route, host_network

MAIN, SECOND = InterfaceRole.MAIN, InterfaceRole.SECOND
STEADY, MOVING, RETURNING = Phase.STEADY, Phase.MOVING, Phase.RETURNING
OWN, OWN_NEXT = PrivateKey.generate(), PrivateKey.generate()
NEXT = PrivateKey.generate().public()


def local_in(phase: Phase) -> LocalDevice:
    following = {STEADY: None, MOVING: OWN_NEXT, RETURNING: OWN}[phase]
    device = LocalDevice(
        interface="wg0",
        second_interface="wg100",
        private_key=OWN,
        listen_port=51820,
        mtu_bytes=1420,
        behind_nat=False,
        persistent_keepalive_seconds=25,
    )
    made = replace(device, next_private_key=following)
    assert own_phase(made) is phase
    return made


def other_in(host: Host, phase: Phase) -> Host:
    assert host.record is not None
    following = {STEADY: None, MOVING: NEXT, RETURNING: host.record.public_key}[phase]
    made = replace(host, record=replace(host.record, next_public_key=following))
    assert phase_of(made.record) is phase
    return made


def interface(
    name: str, key: PrivateKey, peer: PublicKey, *, live: bool, routes: frozenset[Route]
) -> ObservedState:
    stats = PeerStats(latest_handshake_at=NOW - 10 if live else 0.0, receive_bytes=0, transmit_bytes=0)
    peers = {peer: Peer(config=PeerConfig(public_key=peer, allowed_ips=frozenset()), stats=stats)}
    device = Device(
        name=name, implementation="memory", public_key=key.public(), listen_port=51820, peers=peers
    )
    return ObservedState(interface=name, device=device, routes=routes)


def pair(
    own: Phase,
    other: Phase,
    *,
    here: InterfaceRole = MAIN,
    main_lives: bool = False,
    second_lives: bool = False,
) -> PairMigration | None:
    """How tesla in one phase stands with newton in another; ``here``: where the route to it is."""
    mesh = SignedMesh.create(seed="two")
    for name in ("tesla", "newton"):
        mesh.add(name)
    view = build_view(mesh.ledger.membership(NOW), mesh.hosts["tesla"].hid)
    (newton,) = view.peers
    newton = other_in(newton, other)
    view = replace(view, peers=(newton,))
    assert newton.record is not None
    local = local_in(own)
    link = Route(destination=host_network(newton.link_address), interface="wg100")
    return find_migrations(
        view,
        local,
        interface("wg0", OWN, newton.record.public_key, live=main_lives, routes=frozenset()),
        interface(
            "wg100",
            local.next_private_key or OWN,
            newton.record.next_public_key or newton.record.public_key,
            live=second_lives,
            routes=frozenset({link} if here is SECOND else ()),
        ),
        now=NOW,
    ).get(newton.hid)


@pytest.mark.parametrize(("own", "other", "target"), drawn_rules("A key rotation", 1))
def test_where_a_pair_should_end_up(own: str, other: str, target: str) -> None:
    migration = pair(Phase(own), Phase(other))
    if own == other == STEADY:
        assert migration is None
    else:
        assert migration is not None and migration.target is InterfaceRole(target)


@pytest.mark.parametrize("target", InterfaceRole)
@pytest.mark.parametrize(("now", "target_lives", "other_lives", "then"), drawn_rules("A key rotation", 2))
def test_where_its_packets_go(
    target: InterfaceRole, now: str, target_lives: str, other_lives: str, then: str
) -> None:
    roles = {"the target": target, "the other one": target.other}
    lives = {target: target_lives == "yes", target.other: other_lives == "yes"}
    migration = pair(
        STEADY,
        MOVING if target is SECOND else RETURNING,
        here=roles[now],
        main_lives=lives[MAIN],
        second_lives=lives[SECOND],
    )
    assert migration is not None and (migration.target, migration.active) == (target, roles[then])


STEPS = {
    "-": None,
    "moving: the next key is made and published": "begin",
    "returning: the next key is in force on the main interface": RotationStep.COMMIT,
    "returning": RotationStep.COMMIT,
    "steady: the second interface goes": RotationStep.FINISH,
    "steady": RotationStep.FINISH,
}


@pytest.mark.parametrize(("phase", "event", "follows"), drawn_in_document("A key rotation").cells)
def test_which_step_an_event_leads_to(phase: str, event: str, follows: str) -> None:
    """That a rotation is due leads to the first step, and to no other: the daemon's tests begin them."""
    settled = Progress(phase=Phase(phase), settled=("a",), absent=(), waited_for=(), needs_fast_look=False)
    waits = replace(settled, waited_for=("b",))
    if event == "a rotation is due":
        assert (STEPS[follows] == "begin") is (Phase(phase) is STEADY)
        assert waits.step is None
    elif event == "an operator forces it":
        assert waits.forced_step is STEPS[follows]
    else:
        assert settled.step is STEPS[follows]


@pytest.mark.parametrize(
    ("phase", "settled", "absent", "waited_for", "step", "forced"),
    [
        (STEADY, 3, 0, 0, None, None),
        (MOVING, 3, 0, 0, RotationStep.COMMIT, RotationStep.COMMIT),
        (MOVING, 0, 0, 0, RotationStep.COMMIT, RotationStep.COMMIT),  # alone in the mesh
        (MOVING, 2, 1, 0, RotationStep.COMMIT, RotationStep.COMMIT),
        (MOVING, 0, 3, 0, None, RotationStep.COMMIT),  # nobody proves that the new key works
        (MOVING, 2, 0, 1, None, RotationStep.COMMIT),
        (RETURNING, 3, 0, 0, RotationStep.FINISH, RotationStep.FINISH),
        (RETURNING, 2, 1, 0, RotationStep.FINISH, RotationStep.FINISH),
        (RETURNING, 0, 3, 0, None, RotationStep.FINISH),
        (RETURNING, 2, 0, 1, None, RotationStep.FINISH),
    ],
)
def test_when_the_rotating_host_takes_its_next_step(
    phase: Phase,
    settled: int,
    absent: int,
    waited_for: int,
    step: RotationStep | None,
    forced: RotationStep | None,
) -> None:
    progress = Progress(
        phase=phase,
        settled=("a",) * settled,
        absent=("b",) * absent,
        waited_for=("c",) * waited_for,
        needs_fast_look=False,
    )
    assert progress.step is step
    if forced is not None:
        assert progress.forced_step is forced


@pytest.mark.parametrize("is_lower", [True, False])
@pytest.mark.parametrize(("own", "other", "who"), drawn_rules("Who initiates a handshake", 2))
def test_which_end_can_start_the_handshake(own: str, other: str, who: str, is_lower: bool) -> None:
    starts = {
        seconds: calls(own == "yes", other == "yes", STEADY, MOVING, is_lower=is_lower, after=seconds)
        for seconds in (0.0, 15.0)
    }
    by_turns = {0.0: True, 15.0: False}
    assert (
        starts
        == {
            "this end": dict.fromkeys(starts, True),
            "the other end": dict.fromkeys(starts, False),
            "by turns": by_turns,
        }[who]
    )


@pytest.mark.parametrize("is_lower", [True, False])
@pytest.mark.parametrize(("own", "other", "who"), drawn_rules("Who initiates a handshake", 3))
def test_who_has_the_first_turn(own: str, other: str, who: str, is_lower: bool) -> None:
    if own == other == "no":
        return  # then nobody migrates but in a rescue, where both call
    phases = {"yes": RETURNING, "no": STEADY}
    first = {"this end": True, "the other end": False, "the lower id": is_lower}[who]
    for after, expected in ((0.0, first), (15.0, not first), (30.0, first)):
        starts = calls(True, True, phases[own], phases[other], is_lower=is_lower, after=after)
        assert starts is expected


def calls(
    own_is_callable: bool,
    other_is_callable: bool,
    own: Phase,
    other: Phase,
    *,
    is_lower: bool,
    after: float,
) -> bool:
    """Whether this end starts, so many seconds after the first turn began; ``is_lower``: its id is."""
    mesh = SignedMesh.create(seed="two")
    for name in ("tesla", "newton"):
        mesh.add(name)
    membership = mesh.ledger.membership(NOW)
    us, them = sorted(mesh.hosts, key=lambda name: mesh.hosts[name].hid, reverse=not is_lower)
    view = build_view(membership, mesh.hosts[us].hid)
    (peer,) = view.peers
    peer = called(other_in(peer, other), other_is_callable)
    assert view.own is not None and peer.hid == mesh.hosts[them].hid
    view = replace(view, own=called(view.own, own_is_callable), peers=(peer,))
    first_turn_at = NOW - NOW % 30.0  # every 15 s it goes to the other end
    found = find_migrations(
        view,
        local_in(own),
        ObservedState(interface="wg0"),
        ObservedState(interface="wg100"),
        now=first_turn_at + after,
    )
    return found[peer.hid].calls


def called(host: Host, is_callable: bool) -> Host:
    assert host.record is not None
    endpoints = (Endpoint(ip_address("198.18.0.9"), 51820),) if is_callable else ()
    return replace(host, record=replace(host.record, endpoints=endpoints))
