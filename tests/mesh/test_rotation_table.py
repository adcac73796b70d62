"""The tables of a key rotation in docs/state-machines.md, cell by cell."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from meshes import NOW, SignedMesh

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


@pytest.mark.parametrize(
    ("own", "other", "target"),
    [
        (STEADY, STEADY, None),
        (MOVING, STEADY, SECOND),
        (MOVING, MOVING, SECOND),
        (MOVING, RETURNING, SECOND),
        (STEADY, MOVING, SECOND),
        (RETURNING, MOVING, SECOND),
        (RETURNING, STEADY, MAIN),
        (RETURNING, RETURNING, MAIN),
        (STEADY, RETURNING, MAIN),
    ],
)
def test_where_a_pair_should_end_up(own: Phase, other: Phase, target: InterfaceRole | None) -> None:
    migration = pair(own, other)
    assert (migration.target if migration else None) is target


@pytest.mark.parametrize(
    ("here", "target", "main_lives", "second_lives", "active"),
    [
        (MAIN, SECOND, True, True, SECOND),
        (MAIN, SECOND, False, True, SECOND),
        (MAIN, SECOND, True, False, MAIN),
        (MAIN, SECOND, False, False, MAIN),
        (SECOND, MAIN, True, True, MAIN),
        (SECOND, MAIN, True, False, MAIN),
        (SECOND, MAIN, False, True, SECOND),
        (SECOND, MAIN, False, False, SECOND),
        (MAIN, MAIN, True, True, MAIN),
        (MAIN, MAIN, True, False, MAIN),
        (MAIN, MAIN, False, True, SECOND),
        (MAIN, MAIN, False, False, MAIN),
        (SECOND, SECOND, True, True, SECOND),
        (SECOND, SECOND, False, True, SECOND),
        (SECOND, SECOND, True, False, MAIN),
        (SECOND, SECOND, False, False, SECOND),
    ],
)
def test_where_its_packets_go(
    here: InterfaceRole, target: InterfaceRole, main_lives: bool, second_lives: bool, active: InterfaceRole
) -> None:
    phase = MOVING if target is SECOND else RETURNING
    migration = pair(STEADY, phase, here=here, main_lives=main_lives, second_lives=second_lives)
    assert migration is not None and (migration.target, migration.active) == (target, active)


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


@pytest.mark.parametrize(
    ("own_is_callable", "other_is_callable", "own", "other", "starts"),
    [
        (True, False, STEADY, MOVING, False),
        (True, False, MOVING, STEADY, False),
        (False, True, STEADY, MOVING, True),
        (False, False, STEADY, MOVING, True),
        (True, True, STEADY, MOVING, True),
        (True, True, MOVING, STEADY, False),
    ],
)
def test_which_end_starts_the_handshake(
    own_is_callable: bool, other_is_callable: bool, own: Phase, other: Phase, starts: bool
) -> None:
    assert first_turn(own_is_callable, other_is_callable, own, other) is starts


@pytest.mark.parametrize("phase", [MOVING, RETURNING])
def test_of_two_that_rotate_the_lower_id_starts(phase: Phase) -> None:
    one, two = (first_turn(True, True, phase, phase, swapped=swapped) for swapped in (False, True))
    assert one is not two


def first_turn(
    own_is_callable: bool, other_is_callable: bool, own: Phase, other: Phase, *, swapped: bool = False
) -> bool:
    mesh = SignedMesh.create(seed="two")
    for name in ("tesla", "newton"):
        mesh.add(name)
    membership = mesh.ledger.membership(NOW)
    us, them = ("newton", "tesla") if swapped else ("tesla", "newton")
    view = build_view(membership, mesh.hosts[us].hid)
    (peer,) = view.peers
    peer = called(other_in(peer, other), other_is_callable)
    assert view.own is not None and peer.hid == mesh.hosts[them].hid
    view = replace(view, own=called(view.own, own_is_callable), peers=(peer,))
    turn_of_the_first = NOW - NOW % 30.0  # every 15 s it goes to the other end
    found = find_migrations(
        view,
        local_in(own),
        ObservedState(interface="wg0"),
        ObservedState(interface="wg100"),
        now=turn_of_the_first,
    )
    return found[peer.hid].calls


def called(host: Host, is_callable: bool) -> Host:
    assert host.record is not None
    endpoints = (Endpoint(ip_address("198.18.0.9"), 51820),) if is_callable else ()
    return replace(host, record=replace(host.record, endpoints=endpoints))
