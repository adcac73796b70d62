"""Signed declarations of services and placements -> what counts. Pure.

Two things hold whatever is signed. A name stays with the service that had it first, until that one is
retired. And no placement points outside the addresses and granted networks of its own host, so that
WireGuard's cryptokey routing holds on the wire what the registry says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar, cast

import msgspec

from meshd.errors import RegistryError
from meshd.model.condition import Condition, Severity
from meshd.model.host import Host
from meshd.model.network import IPAddress, contains, host_network
from meshd.model.service import Placement, PlacementState, Scope, Service, parse_check
from meshd.registry import statement as signed
from meshd.registry.ranges import parse_signed_address
from meshd.registry.statement import LogEntry

SERVICE_CONFLICT: Final = "service_conflict"
SERVICE_NOT_ENDORSED: Final = "service_not_endorsed"
PLACEMENT_OUTSIDE_HOST: Final = "placement_outside_host"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnendorsedStatement:
    """A declaration that too few administrators agree with yet: ``signers`` of ``needed``."""

    entry: LogEntry
    signers: frozenset[str]
    needed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceReduction:
    """``services`` by name, retired ones included. ``waiting``: declarations that wait for endorsement.
    ``in_force``: the statement behind each service and placement that counts."""

    services: Mapping[str, Service] = field(default_factory=dict)
    unendorsed: tuple[UnendorsedStatement, ...] = ()
    in_force: tuple[LogEntry, ...] = ()
    conditions: tuple[Condition, ...] = ()


B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class _Word(Generic[B]):
    """A statement on one thing. ``agreed``: enough administrators are behind it."""

    entry: LogEntry
    body: B
    agreed: bool


def reduce_services(
    counted: Iterable[LogEntry],
    hosts: Mapping[str, Host],
    *,
    endorsers: Mapping[str, set[str]] | None = None,
    needed: int = 1,
) -> ServiceReduction:
    """Apply the rules. ``counted``: in the order of statements. ``hosts``: those that are configured, by hid.
    ``needed``: of different administrators behind whatever adds something. Draining and retiring wait for
    nobody."""
    declared: dict[str, list[_Word[signed.Service]]] = {}
    placed: dict[tuple[str, str, str], list[_Word[signed.Place]]] = {}
    unendorsed: list[UnendorsedStatement] = []
    for entry in _of_services(counted):
        signers = {entry.statement.by} | (endorsers or {}).get(entry.hash, set())
        agreed = len(signers) >= needed
        if isinstance(entry.body, signed.Service):
            declared.setdefault(entry.body.name, []).append(_Word(entry, entry.body, agreed))
        elif isinstance(entry.body, signed.Place):
            key = (entry.body.hid, entry.body.service, entry.body.jail)
            placed.setdefault(key, []).append(_Word(entry, entry.body, agreed))
        if not agreed and getattr(entry.body, "state", "") == "active":
            unendorsed.append(UnendorsedStatement(entry=entry, signers=frozenset(signers), needed=needed))
    conditions = [_not_endorsed(each) for each in unendorsed]
    in_force: list[LogEntry] = []
    placements: dict[str, list[Placement]] = {}
    for places in placed.values():
        last = _last_place(places)
        found = _placement(last, hosts, placements, conditions) if last is not None else None
        if last is not None and found is not None:
            in_force.append(last.entry)
            placements.setdefault(found.service, []).append(found)
    services: dict[str, Service] = {}
    for name, declarations in sorted(declared.items()):
        current = _declaration(declarations, conditions)
        if current is not None:
            in_force.append(current.entry)
            services[name] = _service(current, tuple(placements.get(name, ())))
    return ServiceReduction(
        services=services,
        unendorsed=tuple(unendorsed),
        in_force=tuple(in_force),
        conditions=tuple(conditions),
    )


def owns_address(host: Host, address: IPAddress) -> bool:
    """Whether the address is the host's own, or lies in a network that it was granted."""
    return address in host.addresses or any(
        contains(network, host_network(address)) for network in host.granted_networks
    )


def check_service(reduction: ServiceReduction, body: signed.Service) -> None:
    """RegistryError when this declaration, signed now, would have no effect."""
    try:
        parse_check(body.check)
    except ValueError as error:
        raise RegistryError(f"service {body.name}: {error}") from None
    known = reduction.services.get(body.name)
    living = known is not None and not known.retired
    if known is not None and living and body.kind != known.kind:
        raise RegistryError(
            f"service {body.name}: kind {body.kind!r} seen, {known.kind!r} expected, as {known.provenance} "
            "says: retire it first, or choose another name"
        )
    if body.state == "retired" and not living:
        raise RegistryError(f"service {body.name}: no service of that name to retire")


def check_place(reduction: ServiceReduction, hosts: Mapping[str, Host], body: signed.Place) -> None:
    """RegistryError when this placement, signed now, would have no effect."""
    host, service = hosts.get(body.hid), reduction.services.get(body.service)
    if host is None:
        raise RegistryError(f"host {body.hid}: configured by no statement held")
    if service is None or service.retired:
        raise RegistryError(f"service {body.service!r}: not declared: wgctl service add {body.service}")
    address = parse_signed_address(body.address)
    if not owns_address(host, address):
        raise RegistryError(_outside(host, address))
    others = [each for each in service.placements if each.key != (body.hid, body.service, body.jail)]
    if body.state != "retired":
        for other in others:
            if other.address == address and other.state != "retired":
                where = other.jail or "the host itself"
                raise RegistryError(f"service {body.service}: {address} is its placement in {where} already")
    elif len(others) == len(service.placements):
        raise RegistryError(f"service {body.service}: not placed on {host.name} in {body.jail or 'no jail'}")


def _of_services(counted: Iterable[LogEntry]) -> Iterable[LogEntry]:
    return (entry for entry in counted if isinstance(entry.body, signed.Service | signed.Place))


def _last_place(words: Iterable[_Word[signed.Place]]) -> _Word[signed.Place] | None:
    """The newest word on a placement. One that too few agree with can take it back, and changes nothing else
    of it: neither its address nor its tags."""
    last: _Word[signed.Place] | None = None
    for word in words:
        if word.agreed:
            last = word
        elif last is not None and word.body.state != "active":
            last = _Word(word.entry, msgspec.structs.replace(last.body, state=word.body.state), True)
    return last


def _declaration(
    words: Iterable[_Word[signed.Service]], conditions: list[Condition]
) -> _Word[signed.Service] | None:
    """The newest declaration of the service that has the name. Another kind is another service: it gets the
    name only when it is free, or an administrator would turn a database into a web server by one word."""
    current: _Word[signed.Service] | None = None
    for word in words:
        body = word.body
        if current is None or current.body.state == "retired":
            if word.agreed and body.state == "active":
                current = word
        elif body.kind != current.body.kind:
            conditions.append(_taken_name(word, current))
        elif word.agreed:
            current = word
        elif body.state == "retired":
            current = _Word(word.entry, msgspec.structs.replace(current.body, state="retired"), True)
    return current


def _service(word: _Word[signed.Service], placements: tuple[Placement, ...]) -> Service:
    entry, body = word.entry, word.body
    return Service(
        name=body.name,
        kind=body.kind,
        port=body.port,
        scope=cast(Scope, body.scope),
        min_endpoints=body.min_endpoints,
        check=body.check,
        retired=body.state == "retired",
        provenance=entry.provenance,
        placements=tuple(sorted(placements, key=lambda each: each.key)),
    )


def _placement(
    word: _Word[signed.Place],
    hosts: Mapping[str, Host],
    others: Mapping[str, list[Placement]],
    conditions: list[Condition],
) -> Placement | None:
    entry, body = word.entry, word.body
    host, address = hosts.get(body.hid), parse_signed_address(body.address)
    if host is None:
        return None  # a host that is revoked or configured nowhere has no services
    if body.state != "retired" and not owns_address(host, address):
        conditions.append(_outside_condition(entry, host, body, address))
        return None
    for other in others.get(body.service, ()):
        if other.address == address and "retired" not in (other.state, body.state):
            conditions.append(_taken_address(entry, host, body, other))
            return None
    return Placement(
        hid=body.hid,
        service=body.service,
        jail=body.jail,
        address=address,
        state=cast(PlacementState, body.state),
        provenance=entry.provenance,
        tags=dict(body.tags),
    )


def _outside(host: Host, address: IPAddress) -> str:
    own = ", ".join((*map(str, host.addresses), *sorted(map(str, host.granted_networks))))
    return f"{address} seen, an address of {host.name} ({own}) expected"


def _outside_condition(entry: LogEntry, host: Host, body: signed.Place, address: IPAddress) -> Condition:
    return Condition(
        code=PLACEMENT_OUTSIDE_HOST,
        severity=Severity.WARNING,
        subject=f"{body.service}/{host.name}/{body.jail}",
        text=f"placement of {body.service} by {entry.provenance}: {_outside(host, address)}: it does not "
        "count; place it at another address, or grant the host that network",
    )


def _taken_address(entry: LogEntry, host: Host, body: signed.Place, other: Placement) -> Condition:
    return Condition(
        code=SERVICE_CONFLICT,
        severity=Severity.WARNING,
        subject=f"{body.service}/{host.name}/{body.jail}",
        text=f"placement of {body.service} by {entry.provenance}: {body.address} is the older placement of "
        f"{other.provenance}: it does not count; retire one of the two",
    )


def _taken_name(word: _Word[signed.Service], current: _Word[signed.Service]) -> Condition:
    body, held = word.body, current.body
    return Condition(
        code=SERVICE_CONFLICT,
        severity=Severity.WARNING,
        subject=body.name,
        text=f"service {body.name} of kind {body.kind} by {word.entry.provenance}: the name belongs to the "
        f"service of kind {held.kind} by {current.entry.provenance}: it does not count; choose another name, "
        "or retire that service first",
    )


def _not_endorsed(waits: UnendorsedStatement) -> Condition:
    body = waits.entry.body
    name = body.name if isinstance(body, signed.Service) else cast(signed.Place, body).service
    return Condition(
        code=SERVICE_NOT_ENDORSED,
        severity=Severity.INFO,
        subject=f"{name}/{waits.entry.hash[:12]}",
        text=f"service {name} by {waits.entry.provenance}: {len(waits.signers)} of {waits.needed} admins "
        f"agree: another admin must endorse it: wgctl endorse {waits.entry.hash[:12]}",
    )
