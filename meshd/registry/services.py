"""Signed declarations of services and placements -> what counts. Pure.

Three things hold whatever is signed. A name stays with the service that had it first, until that one is
retired. What belongs to one administrator is changed with that one's signature alone: a service to whoever
took its name, a placement to that one and to the owner of its host, of whom each can end it. And no
placement points outside the addresses and granted networks of its own host, so that WireGuard's cryptokey
routing holds on the wire what the registry says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Generic, TypeVar, cast

import msgspec

from meshd.errors import RegistryError
from meshd.model.condition import Condition, Severity
from meshd.model.host import Host
from meshd.model.network import IPAddress, contains, host_network
from meshd.model.service import Placement, PlacementState, Scope, Service, parse_check
from meshd.registry import statement as signed
from meshd.registry.grants import Authority, EffectiveGrant
from meshd.registry.ranges import parse_signed_address
from meshd.registry.statement import LogEntry

SERVICE_CONFLICT: Final = "service_conflict"
SERVICE_NOT_ENDORSED: Final = "service_not_endorsed"
PLACEMENT_OUTSIDE_HOST: Final = "placement_outside_host"


class UnendorsedStatement(msgspec.Struct, frozen=True, kw_only=True):
    """What too few administrators agree with yet: ``signers`` of ``needed``. ``wanted``: by name, those
    without whom it can never count."""

    entry: LogEntry
    signers: frozenset[str]
    wanted: tuple[str, ...]
    needed: int


class ServiceReduction(msgspec.Struct, frozen=True, kw_only=True):
    """``services`` by name, retired ones included. ``unendorsed``: what waits for endorsement.
    ``in_force``: the statement behind each service and placement that counts."""

    services: Mapping[str, Service] = msgspec.field(default_factory=dict)
    unendorsed: tuple[UnendorsedStatement, ...] = ()
    in_force: tuple[LogEntry, ...] = ()
    conditions: tuple[Condition, ...] = ()


B = TypeVar("B")


class ServiceAuthority(msgspec.Struct, frozen=True):
    """Who may change what. ``grants``: of placed hosts, by hid. ``needed``: of administrators behind whatever
    adds something."""

    authority: Authority
    grants: Mapping[str, EffectiveGrant]
    needed: int

    def lacks_for_service(self, founder: str, signers: Mapping[str, LogEntry]) -> set[str]:
        """Whose signature is missing to change a service that ``founder`` declared: nobody's for a free name,
        and that of an empty kid where no administrator is left who could give it."""
        owner = self.authority.heir(founder) if founder else ""
        return {owner} if founder and founder not in signers and owner not in signers else set()

    def lacks_for_host(self, hid: str, signers: Mapping[str, LogEntry]) -> set[str]:
        """Likewise, to change what lives on a host."""
        found = self.grants.get(hid)
        if found is None or self.authority.may_change(found, signers):
            return set()
        return {self.authority.owner(found)}

    def unendorsed(self, word: _Word[B], lacking: Iterable[str]) -> UnendorsedStatement:
        wanted = set(lacking) - {""}
        return UnendorsedStatement(
            entry=word.entry,
            signers=frozenset(word.signers),
            wanted=tuple(sorted(map(self.authority.name, wanted))),
            needed=max(self.needed, len(word.signers.keys() | wanted)),
        )


class _Word(msgspec.Struct, Generic[B], frozen=True):
    """A statement on one thing, and who stands behind it, each by the statement that says so."""

    entry: LogEntry
    body: B
    signers: Mapping[str, LogEntry]


class _Declared(msgspec.Struct, frozen=True):
    """A service as it is. ``founder``: the kid of whoever took its name."""

    word: _Word[signed.Service]
    founder: str


def reduce_services(
    counted: Iterable[LogEntry],
    hosts: Mapping[str, Host],
    endorsements: Mapping[str, Mapping[str, LogEntry]],
    rights: ServiceAuthority,
) -> ServiceReduction:
    """Apply the rules. ``counted``: in the order of statements. ``hosts``: those that are configured, by hid.
    ``endorsements``: by statement and kid."""
    declarations: dict[str, list[_Word[signed.Service]]] = {}
    words: dict[tuple[str, str, str], list[_Word[signed.Place]]] = {}
    for entry in counted:
        signers = {entry.statement.by: entry, **endorsements.get(entry.hash, {})}
        if isinstance(entry.body, signed.Service):
            declarations.setdefault(entry.body.name, []).append(_Word(entry, entry.body, signers))
        elif isinstance(entry.body, signed.Place):
            key = (entry.body.hid, entry.body.service, entry.body.jail)
            words.setdefault(key, []).append(_Word(entry, entry.body, signers))
    unendorsed: list[UnendorsedStatement] = []
    conditions: list[Condition] = []
    declared = {
        name: found
        for name, each in sorted(declarations.items())
        if (found := _declaration(each, rights, unendorsed, conditions)) is not None
    }
    in_force: list[LogEntry] = []
    placements: dict[str, list[Placement]] = {}
    for (_, service, _), each in words.items():
        founder = declared[service].founder if service in declared else ""
        last = _last_place(each, founder, rights, unendorsed)
        found_place = _placement(last, hosts, placements, conditions) if last is not None else None
        if last is not None and found_place is not None:
            in_force.append(last.entry)
            placements.setdefault(service, []).append(found_place)
    return ServiceReduction(
        services={
            name: _service(each.word, tuple(placements.get(name, ()))) for name, each in declared.items()
        },
        unendorsed=tuple(unendorsed),
        in_force=(*in_force, *(each.word.entry for each in declared.values())),
        conditions=(*map(_not_endorsed, unendorsed), *conditions),
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


def _last_place(
    words: Iterable[_Word[signed.Place]],
    founder: str,
    rights: ServiceAuthority,
    unendorsed: list[UnendorsedStatement],
) -> _Word[signed.Place] | None:
    """The newest word on a placement. It belongs to the owner of the service and to that of the host: both
    must be behind whatever is active, each can end it, and any administrator can drain it. A word that is
    not agreed changes the state alone: neither the address nor the tags."""
    last: _Word[signed.Place] | None = None
    left: list[UnendorsedStatement] = []
    for word in words:
        body, state = word.body, word.body.state
        for_service = rights.lacks_for_service(founder, word.signers)
        for_host = rights.lacks_for_host(body.hid, word.signers)
        if not for_service and not for_host and len(word.signers) >= rights.needed:
            last, left = word, []
        elif last is None:
            left += [rights.unendorsed(word, for_service | for_host)] if state == "active" else []
        elif state == "draining" or (state == "retired" and not (for_service and for_host)):
            last = _Word(word.entry, msgspec.structs.replace(last.body, state=state), word.signers)
        else:
            left.append(rights.unendorsed(word, for_service | for_host))
    unendorsed += left
    return last


def _declaration(
    words: Iterable[_Word[signed.Service]],
    rights: ServiceAuthority,
    unendorsed: list[UnendorsedStatement],
    conditions: list[Condition],
) -> _Declared | None:
    """The newest declaration of the service that has the name. Another kind is another service: it gets the
    name only when it is free, or an administrator would turn a database into a web server by one word."""
    current: _Declared | None = None
    left: list[UnendorsedStatement] = []
    for word in words:
        body, author = word.body, word.entry.statement.by
        agreed = len(word.signers) >= rights.needed
        if current is None or current.word.body.state == "retired":
            if body.state == "active" and agreed:
                current, left = _Declared(word, author), []
            elif body.state == "active":
                left.append(rights.unendorsed(word, ()))
            continue
        lacking = rights.lacks_for_service(current.founder, word.signers)
        if body.kind != current.word.body.kind:
            conditions.append(_taken_name(word, current.word))
        elif agreed and not lacking:
            current, left = _Declared(word, current.founder), []
        elif body.state == "retired" and not lacking:
            retired = msgspec.structs.replace(current.word.body, state="retired")
            current = _Declared(_Word(word.entry, retired, word.signers), current.founder)
        else:
            left.append(rights.unendorsed(word, lacking))
    unendorsed += left
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
    who = ", ".join(waits.wanted) or "another admin"
    return Condition(
        code=SERVICE_NOT_ENDORSED,
        severity=Severity.INFO,
        subject=f"{name}/{waits.entry.hash[:12]}",
        text=f"service {name} by {waits.entry.provenance}: {len(waits.signers)} of {waits.needed} admins "
        f"agree: {who} must endorse it: wgctl endorse {waits.entry.hash[:12]}",
    )
