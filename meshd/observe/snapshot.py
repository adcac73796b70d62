"""Values of every part of the daemon -> the one Status that metrics and wgctl show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from meshd.mesh.rotation import phase_of
from meshd.mesh.view import MeshView
from meshd.model.device import ObservedState, Peer, PeerStats
from meshd.model.host import Host
from meshd.model.network import Endpoint, network_key
from meshd.model.path import DIRECT, PathStats
from meshd.observe.status import (
    ChangeStatus,
    ClientStatus,
    ConditionStatus,
    ExchangeStatus,
    PeerStatus,
    PlanStatus,
    ReconcileCounters,
    RegistryStatus,
    RotationStatus,
    SelfStatus,
    ServicesStatus,
    Status,
    StoreStatus,
)

NO_STATS = PathStats()
NO_ROTATION = RotationStatus()
NO_SERVICES = ServicesStatus()


class StatusInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon holds at one moment. Times are unix seconds. ``learned``: own endpoints by the word
    of peers; ``explain_endpoint``: why a peer has one."""

    at: float
    version: str
    started_at: float
    hid: str
    view: MeshView
    observed: ObservedState
    backend: str
    key_created_at: float
    paths: Mapping[str, PathStats]
    path_mtus: Mapping[str, int]
    stores: tuple[StoreStatus, ...]
    verified_at: float | None
    applied_generation: int
    conditions: tuple[ConditionStatus, ...]
    last_plan: PlanStatus | None
    counters: ReconcileCounters
    metrics_urls: tuple[str, ...]
    exchange: ExchangeStatus | None = None
    learned: tuple[Endpoint, ...] = ()
    explain_endpoint: Callable[[Host, Endpoint], str] | None = None
    change: ChangeStatus | None = None
    second: ObservedState | None = None
    rotation: RotationStatus = NO_ROTATION
    services: ServicesStatus = NO_SERVICES


def build_status(inputs: StatusInputs) -> Status:
    """One document; no I/O, nothing secret in it."""
    view, membership = inputs.view, inputs.view.membership
    hosts = sorted((*view.peers, *view.without_record), key=_by_name)
    return Status(
        at=inputs.at,
        version=inputs.version,
        started_at=inputs.started_at,
        host=_self(inputs),
        registry=RegistryStatus(
            mesh_id=membership.mesh_id,
            mesh_name=membership.mesh_name,
            generation=membership.generation,
            applied_generation=inputs.applied_generation,
            root_version=membership.root_version,
            hosts=len(membership.with_daemon),
            conflicts=membership.conflicts,
            forks=membership.forks,
            gaps=membership.gaps,
            verified_at=inputs.verified_at,
            stores=inputs.stores,
            newest_signed_at=membership.newest_signed_at,
        ),
        peers=tuple(_peer(host, inputs) for host in hosts),
        clients=tuple(_client(host, inputs) for host in sorted(view.clients, key=_by_name)),
        conditions=inputs.conditions,
        last_plan=inputs.last_plan,
        counters=inputs.counters,
        metrics_urls=inputs.metrics_urls,
        exchange=inputs.exchange,
        change=inputs.change,
        rotation=inputs.rotation,
        services=inputs.services,
    )


def _by_name(host: Host) -> tuple[str, str]:
    return host.name, host.hid


def _self(inputs: StatusInputs) -> SelfStatus:
    own, observed = inputs.view.own, inputs.observed
    device = observed.device
    return SelfStatus(
        hid=inputs.hid,
        name=own.name if own else None,
        region=own.region if own else "",
        addresses=tuple(str(address) for address in own.addresses) if own else (),
        networks=_network_texts(own) if own else (),
        public_key=str(device.public_key) if device and device.public_key else None,
        interface=observed.interface,
        listen_port=device.listen_port if device else 0,
        mtu_bytes=observed.mtu_bytes,
        backend=inputs.backend,
        interface_up=observed.up,
        key_created_at=inputs.key_created_at,
        endpoints=tuple(map(str, own.record.endpoints)) if own and own.record else (),
        learned=tuple(map(str, inputs.learned)),
        behind_nat=own.record.behind_nat if own and own.record else False,
    )


def _peer(host: Host, inputs: StatusInputs) -> PeerStatus:
    record = host.record
    peers = _peers_of(host, inputs)
    stats = _sum(peers)
    endpoint = peers[0].config.endpoint if peers else None
    return PeerStatus(
        hid=host.hid,
        name=host.name,
        region=host.region,
        roles=tuple(sorted(host.roles)),
        addresses=tuple(str(address) for address in host.addresses),
        networks=_network_texts(host),
        public_key=str(record.public_key) if record else None,
        endpoint=str(endpoint) if endpoint else None,
        configured=bool(peers),
        latest_handshake_at=stats.latest_handshake_at or None,
        receive_bytes=stats.receive_bytes,
        transmit_bytes=stats.transmit_bytes,
        mtu_bytes=inputs.path_mtus.get(host.hid),
        granted_by=str(host.provenance),
        record_version=record.version if record else None,
        path=_named_path(host, inputs),
        rotation=str(phase_of(record)),
        grant_ends_at=host.expires_at,
        endpoint_reason=(
            inputs.explain_endpoint(host, endpoint) if endpoint and inputs.explain_endpoint else None
        ),
    )


def _named_path(host: Host, inputs: StatusInputs) -> PathStats:
    """With the name of the host that its packets go through, for people."""
    path = inputs.paths.get(host.hid, NO_STATS)
    if path.via == DIRECT:
        return path
    relay = inputs.view.membership.hosts.get(path.via)
    return msgspec.structs.replace(path, via=relay.name if relay is not None else path.via)


def _client(host: Host, inputs: StatusInputs) -> ClientStatus:
    peers = _peers_of(host, inputs)
    stats, endpoint = _sum(peers), peers[0].config.endpoint if peers else None
    return ClientStatus(
        hid=host.hid,
        name=host.name,
        addresses=tuple(map(str, host.addresses)),
        public_key=str(host.record.public_key) if host.record else "",
        configured=bool(peers),
        endpoint=str(endpoint) if endpoint else None,
        latest_handshake_at=stats.latest_handshake_at or None,
        receive_bytes=stats.receive_bytes,
        transmit_bytes=stats.transmit_bytes,
        granted_by=str(host.provenance),
    )


def _peers_of(host: Host, inputs: StatusInputs) -> list[Peer]:
    """The host's peer on the interface, and during a rotation the one on the second interface; the one
    with the newest handshake first."""
    record = host.record
    if record is None:
        return []
    keys = {record.public_key, record.next_public_key}
    found = [
        peer
        for observed in (inputs.observed, inputs.second)
        if observed is not None and observed.device is not None
        for key, peer in ((key, observed.device.peers.get(key)) for key in keys if key)
        if peer is not None
    ]
    return sorted(found, key=lambda peer: peer.stats.latest_handshake_at, reverse=True)


def _sum(peers: Sequence[Peer]) -> PeerStats:
    return PeerStats(
        latest_handshake_at=peers[0].stats.latest_handshake_at if peers else 0.0,
        receive_bytes=sum(peer.stats.receive_bytes for peer in peers),
        transmit_bytes=sum(peer.stats.transmit_bytes for peer in peers),
    )


def _network_texts(host: Host) -> tuple[str, ...]:
    return tuple(str(network) for network in sorted(host.networks, key=network_key))
