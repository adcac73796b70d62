"""What a module sees of the mesh: one immutable value, made of the verified registry. Pure.

Topology (hosts, services, placements) is signed and slow. Health and paths are measured and fast: they
are in the view for what is answered at run time, and are no part of ``digest``, so that a slow path or a
failed check alone never writes a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from meshd.mesh.view import MeshView
from meshd.model.host import Host
from meshd.model.network import contains, host_network
from meshd.model.path import PathStats
from meshd.model.service import Health, Placement, PlacementKey, Service
from meshd.services.latency import UNKNOWN_BUCKET

VIEW_SCHEMA: Final = 1
DOMAIN: Final = "mesh"


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class HostView(_Part, frozen=True, kw_only=True):
    """``addresses``: in the overlay, the first one is for people. ``jail_networks``: granted and routed."""

    hid: str
    name: str
    region: str
    roles: tuple[str, ...]
    tags: tuple[str, ...]
    addresses: tuple[str, ...]
    jail_networks: tuple[str, ...]

    @property
    def address(self) -> str:
        return self.addresses[0]


class PlacementView(_Part, frozen=True, kw_only=True):
    """``health``: what its own host's check found ``health_age_seconds`` ago; ``unknown``: not told."""

    service: str
    host: str
    hid: str
    jail: str
    address: str
    port: int
    tags: dict[str, str]
    state: Literal["active", "draining"]
    health: Health = "unknown"
    health_age_seconds: float | None = None

    @property
    def id(self) -> str:
        return endpoint_id(self.service, self.host, self.jail, self.address)

    @property
    def at(self) -> str:
        return address_port(self.address, self.port)


class ServiceEntry(_Part, frozen=True, kw_only=True):
    """``placements``: in the order of their hosts' names. Retired ones are in ``ServiceView.removed``."""

    name: str
    kind: str
    port: int
    scope: Literal["host", "region", "mesh"]
    min_endpoints: int
    check: str
    placements: tuple[PlacementView, ...]

    @property
    def active(self) -> tuple[PlacementView, ...]:
        return tuple(each for each in self.placements if each.state == "active")


class PathView(_Part, frozen=True, kw_only=True):
    """The path from this host. ``bucket``: 0 (under 2 ms) to 5 (160 ms and more, or never measured)."""

    up: bool | None = None
    bucket: int = UNKNOWN_BUCKET
    srtt_seconds: float | None = None


class ServiceView(_Part, frozen=True, kw_only=True):
    """``generation`` never falls on one host. ``stale``: neither a store nor another host has answered
    for too long. ``removed``: ids of endpoints whose going was signed. ``paths``: by host name, from here."""

    schema: int = VIEW_SCHEMA
    generation: int
    digest: str
    built_at: float
    registry_age_seconds: float | None
    stale: bool
    self_name: str
    domain: str
    hosts: dict[str, HostView]
    services: dict[str, ServiceEntry]
    removed: tuple[str, ...] = ()
    paths: dict[str, PathView] = {}

    @property
    def me(self) -> HostView:
        return self.hosts[self.self_name]

    def bucket(self, host: str) -> int:
        """How far away a host is; this one is nearest."""
        if host == self.self_name:
            return 0
        path = self.paths.get(host)
        return path.bucket if path is not None else UNKNOWN_BUCKET

    def of_kind(self, *kinds: str) -> tuple[ServiceEntry, ...]:
        return tuple(each for each in self.services.values() if each.kind in kinds)

    def nearest(self, placements: Iterable[PlacementView]) -> tuple[PlacementView, ...]:
        """The same placements, this host's first, then by distance, then by name: never fewer."""
        return tuple(sorted(placements, key=lambda each: (self.bucket(each.host), each.host, each.jail)))

    def in_scope(self, service: ServiceEntry) -> tuple[PlacementView, ...]:
        """The placements that this host may use."""
        if service.scope == "mesh":
            return service.placements
        region = self.me.region
        return tuple(
            each
            for each in service.placements
            if each.host == self.self_name
            or (service.scope == "region" and self.hosts[each.host].region == region)
        )

    def mesh_networks(self) -> tuple[str, ...]:
        """Every jail network and the overlay address of every host, as CIDR."""
        networks = {network for host in self.hosts.values() for network in host.jail_networks}
        networks |= {
            f"{address}/{128 if ':' in address else 32}"
            for host in self.hosts.values()
            for address in host.addresses
        }
        return tuple(sorted(networks))


class Measured(_Part, frozen=True, kw_only=True):
    """What is known beside the registry. ``paths`` and ``buckets`` by hid, ``health`` by placement key."""

    now: float
    verified_at: float | None = None
    stale: bool = False
    paths: Mapping[str, PathStats] = {}
    buckets: Mapping[str, int] = {}
    health: Mapping[PlacementKey, tuple[Health, float]] = {}


def address_port(address: str, port: int) -> str:
    """``10.17.1.5:5432``, ``[fd00::5]:5432``."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def endpoint_id(service: str, host: str, jail: str, address: str) -> str:
    """A placement's name, for people and for telling what went away."""
    return f"{service}/{host}{'/' + jail if jail else ''}@{address}"


def build_service_view(mesh: MeshView, measured: Measured) -> ServiceView | None:
    """None while this host has no place in the mesh: there is nothing that a module could be told."""
    membership, own = mesh.membership, mesh.own
    if own is None:
        return None
    members = membership.with_daemon
    hosts = {host.name: _host(host) for host in members.values()}
    removed: list[str] = []
    services: dict[str, ServiceEntry] = {}
    for service in membership.services.values():
        entry, gone = _service(service, members, measured)
        removed += gone
        if not service.retired:
            services[service.name] = entry
        else:
            removed += [each.id for each in entry.placements]
    ended = {each.name for each in membership.revoked.values()}
    ended |= {each.name for each in membership.expired.values()}
    removed += [f"*/{name}" for name in ended if name not in hosts]
    topology = {
        "self": own.name,
        "hosts": {name: msgspec.to_builtins(host) for name, host in hosts.items()},
        "services": {name: _without_health(entry) for name, entry in services.items()},
    }
    return ServiceView(
        generation=membership.generation,
        digest=hashlib.sha256(msgspec.json.encode(topology, order="sorted")).hexdigest(),
        built_at=measured.now,
        registry_age_seconds=(
            None if measured.verified_at is None else max(0.0, measured.now - measured.verified_at)
        ),
        stale=measured.stale,
        self_name=own.name,
        domain=DOMAIN,
        hosts=dict(sorted(hosts.items())),
        services=dict(sorted(services.items())),
        removed=tuple(
            sorted(set(removed) - {each.id for entry in services.values() for each in entry.placements})
        ),
        paths={
            host.name: _path(measured.paths.get(hid), measured.buckets.get(hid, UNKNOWN_BUCKET))
            for hid, host in members.items()
            if hid != own.hid
        },
    )


def _host(host: Host) -> HostView:
    return HostView(
        hid=host.hid,
        name=host.name,
        region=host.region,
        roles=tuple(sorted(host.roles)),
        tags=tuple(sorted(host.tags)),
        addresses=tuple(map(str, host.addresses)),
        jail_networks=tuple(sorted(map(str, host.networks))),
    )


def _service(
    service: Service, hosts: Mapping[str, Host], measured: Measured
) -> tuple[ServiceEntry, list[str]]:
    """The service with the placements that live, and the ids of those that were signed away."""
    living, gone = [], []
    for placement in service.placements:
        host = hosts.get(placement.hid)
        if host is None:
            continue
        if placement.state == "retired":
            gone.append(endpoint_id(service.name, host.name, placement.jail, str(placement.address)))
        elif _is_inside(host, placement):
            living.append(_placement(service, host, placement, measured))
    entry = ServiceEntry(
        name=service.name,
        kind=service.kind,
        port=service.port,
        scope=service.scope,
        min_endpoints=service.min_endpoints,
        check=service.check,
        placements=tuple(sorted(living, key=lambda each: (each.host, each.jail))),
    )
    return entry, gone


def _is_inside(host: Host, placement: Placement) -> bool:
    """Asked for the third time, after signing and reducing: what leaves this function is configured."""
    if placement.address in host.addresses:
        return True
    return any(contains(network, host_network(placement.address)) for network in host.granted_networks)


def _placement(service: Service, host: Host, placement: Placement, measured: Measured) -> PlacementView:
    health: Health = "unknown"
    health, checked_at = measured.health.get(placement.key, (health, None))
    return PlacementView(
        service=service.name,
        host=host.name,
        hid=host.hid,
        jail=placement.jail,
        address=str(placement.address),
        port=service.port,
        tags=dict(sorted(placement.tags.items())),
        state="draining" if placement.state == "draining" else "active",
        health=health,
        health_age_seconds=None if checked_at is None else max(0.0, measured.now - checked_at),
    )


def _path(stats: PathStats | None, bucket: int) -> PathView:
    if stats is None:
        return PathView(bucket=bucket)
    return PathView(up=stats.up, bucket=bucket, srtt_seconds=stats.srtt_seconds)


def _without_health(entry: ServiceEntry) -> Any:
    document = msgspec.to_builtins(entry)
    for placement in document["placements"]:
        del placement["health"], placement["health_age_seconds"]
    return document
