"""Values of every part of the daemon -> the one Status that metrics and wgctl show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from meshd.mesh.view import MeshView
from meshd.model.device import ObservedState, Peer
from meshd.model.host import Host
from meshd.model.network import Endpoint, network_key
from meshd.model.path import PathStats
from meshd.observe.status import (
    ConditionStatus,
    ExchangeStatus,
    PathStatus,
    PeerStatus,
    PlanStatus,
    ReconcileCounters,
    RegistryStatus,
    SelfStatus,
    Status,
    StoreStatus,
)

NO_STATS = PathStats()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
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


def build_status(facts: Facts) -> Status:
    """One document; no I/O, nothing secret in it."""
    view, membership = facts.view, facts.view.membership
    hosts = sorted((*view.peers, *view.waiting), key=lambda host: (host.name, host.hid))
    return Status(
        at=facts.at,
        version=facts.version,
        started_at=facts.started_at,
        host=_self(facts),
        registry=RegistryStatus(
            mesh_id=membership.mesh_id,
            mesh_name=membership.mesh_name,
            generation=membership.generation,
            applied_generation=facts.applied_generation,
            root_version=membership.root_version,
            hosts=len(membership.hosts),
            conflicts=membership.conflicts,
            forks=membership.forks,
            gaps=membership.gaps,
            verified_at=facts.verified_at,
            stores=facts.stores,
        ),
        peers=tuple(_peer(host, facts) for host in hosts),
        conditions=facts.conditions,
        last_plan=facts.last_plan,
        counters=facts.counters,
        metrics_urls=facts.metrics_urls,
        exchange=facts.exchange,
    )


def _self(facts: Facts) -> SelfStatus:
    own, observed = facts.view.own, facts.observed
    device = observed.device
    return SelfStatus(
        hid=facts.hid,
        name=own.name if own else None,
        region=own.region if own else "",
        addresses=tuple(str(address) for address in own.addresses) if own else (),
        networks=_network_texts(own) if own else (),
        public_key=str(device.public_key) if device and device.public_key else None,
        interface=observed.interface,
        listen_port=device.listen_port if device else 0,
        mtu_bytes=observed.mtu_bytes,
        backend=facts.backend,
        interface_up=observed.up,
        key_created_at=facts.key_created_at,
        endpoints=tuple(map(str, own.record.endpoints)) if own and own.record else (),
        learned=tuple(map(str, facts.learned)),
        behind_nat=own.record.behind_nat if own and own.record else False,
    )


def _peer(host: Host, facts: Facts) -> PeerStatus:
    device = facts.observed.device
    record = host.record
    peer: Peer | None = device.peers.get(record.public_key) if device and record else None
    stats = peer.stats if peer else None
    endpoint = peer.config.endpoint if peer else None
    return PeerStatus(
        hid=host.hid,
        name=host.name,
        region=host.region,
        roles=tuple(sorted(host.roles)),
        addresses=tuple(str(address) for address in host.addresses),
        networks=_network_texts(host),
        public_key=str(record.public_key) if record else None,
        endpoint=str(endpoint) if endpoint else None,
        configured=peer is not None,
        latest_handshake_at=stats.latest_handshake_at or None if stats else None,
        receive_bytes=stats.receive_bytes if stats else 0,
        transmit_bytes=stats.transmit_bytes if stats else 0,
        mtu_bytes=facts.observed.mtu_bytes,
        granted_by=str(host.provenance),
        record_version=record.version if record else None,
        path=_path(facts.paths.get(host.hid, NO_STATS)),
        endpoint_reason=(
            facts.explain_endpoint(host, endpoint) if endpoint and facts.explain_endpoint else None
        ),
    )


def _path(stats: PathStats) -> PathStatus:
    return PathStatus(
        up=stats.up,
        srtt_seconds=stats.srtt_seconds,
        rttvar_seconds=stats.rttvar_seconds,
        jitter_seconds=stats.jitter_seconds,
        minimum_rtt_seconds=stats.minimum_rtt_seconds,
        loss_ratio=stats.loss_ratio,
        sent=stats.sent,
        received=stats.received,
        last_reply_at=stats.last_reply_at,
    )


def _network_texts(host: Host) -> tuple[str, ...]:
    return tuple(str(network) for network in sorted(host.networks, key=network_key))
