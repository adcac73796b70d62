"""One desired state -> what each of the two interfaces should hold while pairs migrate between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from meshd.mesh.desired import DesiredPeer, DesiredState, LocalDevice, allowed_ips
from meshd.mesh.endpoints import choose_in_turn
from meshd.mesh.rotation import InterfaceRole, PairMigration, second_private_key
from meshd.model.device import PeerConfig
from meshd.model.network import Endpoint

CALL_SECONDS: Final = 5
"""Keepalive of the end whose turn it is to call, until the pair has a session: WireGuard starts a
handshake by itself when there is something to send (REKEY_TIMEOUT, the same 5 s, is its own pace)."""
RARE_CALL_SECONDS: Final = 7
"""In a rescue both ends call, as either may have stale addresses of the other; at different paces, so that
two calls that met once do not meet again and again."""
NO_RELAYS: Final[Mapping[str, Endpoint]] = {}
PORT_OFFSET: Final = 1
"""The second interface listens on the next UDP port, at both ends and behind every forwarding."""


def split_by_interface(
    desired: DesiredState,
    migrations: Mapping[str, PairMigration],
    local: LocalDevice,
    *,
    now: float,
    relays: Mapping[str, Endpoint] = NO_RELAYS,
) -> tuple[DesiredState, DesiredState | None]:
    """``desired``, made as if there were one interface, -> (the main interface's, the second one's).

    None: no use for a second one. Routes keep their MTU on whichever interface they are.

    ``relays``: by hid, where peers are reached through other hosts. Both interfaces send to that one place,
    as a relay tells them apart by where it comes from.
    """
    retired = frozenset({local.retired_key} if local.retired_key else ())
    if not migrations:
        return replace(desired, retired_keys=retired), None
    main = replace(
        _routes_on(InterfaceRole.MAIN, desired, migrations, local),
        retired_keys=retired,
        peers={
            key: _on_main(peer, migrations.get(peer.hid), relays.get(peer.hid), now)
            for key, peer in desired.peers.items()
        },
    )
    return main, _second_interface(desired, migrations, local, relays, now)


def _second_interface(
    desired: DesiredState,
    migrations: Mapping[str, PairMigration],
    local: LocalDevice,
    relays: Mapping[str, Endpoint],
    now: float,
) -> DesiredState:
    """Its own key, the next port, and the peers that migrate. Every key of the main one is retired there."""
    private_key = second_private_key(local, any(migration.is_rescue for migration in migrations.values()))
    rescue_key = local.rescue_key.public() if local.rescue_key else None
    peers = [
        _on_second(migration, desired, local, relays.get(hid), now) for hid, migration in migrations.items()
    ]
    return replace(
        _routes_on(InterfaceRole.SECOND, desired, migrations, local),
        is_second=True,
        private_key=private_key,
        public_key=private_key.public(),
        listen_port=local.listen_port + PORT_OFFSET,
        peers={peer.config.public_key: peer for peer in peers},
        explained={},
        retired_keys=frozenset(
            key for key in (local.private_key.public(), local.retired_key, rescue_key) if key is not None
        ),
    )


def _routes_on(
    role: InterfaceRole, desired: DesiredState, migrations: Mapping[str, PairMigration], local: LocalDevice
) -> DesiredState:
    """The routes of the pairs that are active there, with why those of migrating pairs move. Whoever does
    not migrate is on the main interface."""
    by_name = {migration.host.name: migration for migration in migrations.values()}
    interface = desired.interface if role is InterfaceRole.MAIN else local.second_interface

    def is_here(name: str) -> bool:
        return (by_name[name].active if name in by_name else InterfaceRole.MAIN) is role

    labels = {destination: name for destination, name in desired.route_labels.items() if is_here(name)}
    return replace(
        desired,
        interface=interface,
        routes=frozenset(
            replace(route, interface=interface) for route in desired.routes if route.destination in labels
        ),
        route_labels=labels,
        moves={destination: _why(by_name[name]) for destination, name in labels.items() if name in by_name},
        migrating=True,
    )


def _why(migration: PairMigration) -> str:
    if migration.is_rescue:
        return f"{migration.host.name} was lost on the first interface and found on the second, or back"
    return f"the key of {migration.host.name} or of this host is rotated, and the pair has a session there"


def _on_main(
    peer: DesiredPeer, migration: PairMigration | None, relay: Endpoint | None, now: float
) -> DesiredPeer:
    if migration is None:
        return peer
    config = peer.config
    endpoint = config.endpoint
    known = migration.main.config.endpoint if migration.main else None
    if known is not None and migration.is_idle(InterfaceRole.MAIN):
        endpoint = known
    elif migration.active is not InterfaceRole.MAIN:
        endpoint = relay or _beside(migration, InterfaceRole.MAIN, now)
    keepalive = _keepalive(migration, InterfaceRole.MAIN, config.persistent_keepalive_seconds)
    return replace(peer, config=replace(config, endpoint=endpoint, persistent_keepalive_seconds=keepalive))


def _on_second(
    migration: PairMigration,
    desired: DesiredState,
    local: LocalDevice,
    relay: Endpoint | None,
    now: float,
) -> DesiredPeer:
    record = migration.host.record
    assert record is not None
    of_host = desired.peers.get(record.public_key)
    normal = local.persistent_keepalive_seconds if local.behind_nat else 0
    config = PeerConfig(
        public_key=migration.second_key,
        allowed_ips=allowed_ips(migration.host),
        endpoint=relay or _second_endpoint(migration, now),
        persistent_keepalive_seconds=_keepalive(migration, InterfaceRole.SECOND, normal),
    )
    return DesiredPeer(
        config=config,
        hid=migration.host.hid,
        label=migration.host.name,
        reason=f"{migration.host.name} has no session on the first interface: called by its identity's key"
        if migration.is_rescue
        else "a key rotation: both ends have a second interface until it is over",
        is_admin=of_host.is_admin if of_host else False,
    )


def _keepalive(migration: PairMigration, role: InterfaceRole, normal: int) -> int:
    """An idle interface is silent, so that the other end can tell that it is left."""
    if role is migration.active:
        return normal
    if migration.is_rescue and role is InterfaceRole.SECOND:
        if migration.main_is_live:
            return 0
        return CALL_SECONDS if migration.calls else RARE_CALL_SECONDS
    return CALL_SECONDS if role is migration.target and migration.calls else 0


def _second_endpoint(migration: PairMigration, now: float) -> Endpoint | None:
    known = migration.second.config.endpoint if migration.second else None
    if known is not None and migration.is_idle(InterfaceRole.SECOND):
        return known
    return _beside(migration, InterfaceRole.SECOND, now)


def _beside(migration: PairMigration, role: InterfaceRole, now: float) -> Endpoint | None:
    """Where to call on ``role``: next to the address where the other one reaches the host, if that is one
    of those that its record names, else those in turn. None: it calls us."""
    record = migration.host.record
    assert record is not None
    other = migration.peer(role.other)
    reached = other.config.endpoint if other and migration.is_live(role.other) else None
    offset = PORT_OFFSET if role is InterfaceRole.SECOND else 0
    places = []
    for each in record.endpoints:
        if isinstance(each, Endpoint):
            places.append(each)
        elif reached is not None:  # a name stands for the place where it got us
            places.append(Endpoint(reached.address, each.port))
    candidates = tuple(
        Endpoint(each.address, each.port + offset) for each in places if each.port + offset < 65536
    )
    near = tuple(each for each in candidates if reached and each.address == reached.address)
    return choose_in_turn(near or candidates, migration.peer(role), now)
