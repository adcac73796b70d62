"""What an administrator decides about a host's request, checked and signed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_network
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from meshd.errors import ConfigError, RegistryError
from meshd.model.host import CLIENT_ROLE
from meshd.model.network import (
    AnyEndpoint,
    IPAddress,
    IPNetwork,
    NamedEndpoint,
    contained_in_any,
    overlaps,
    underlay_fault,
)
from meshd.registry.allocation import derive_link_address
from meshd.registry.bundle import EnrollmentRequest, parse_request
from meshd.registry.layout import LogKeyName, host_key, parse_object_key
from meshd.registry.ledger import Ledger
from meshd.registry.reducer import EffectiveGrant, UnendorsedGrant
from meshd.registry.signer import LogSigner
from meshd.registry.statement import Grant
from wgctl.admin.grant_change import Difference, choose_networks, find_differences
from wgctl.admin.session import AdminSession

T = TypeVar("T")


class GrantRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for on the command line; None: as it is, or the default for a new host."""

    address: IPAddress | None
    networks: tuple[IPNetwork, ...] | None
    region: str | None
    roles: tuple[str, ...] | None
    tags: tuple[str, ...] | None
    expires_at: int | None
    """0: never."""
    added_networks: tuple[IPNetwork, ...] = ()
    """Besides those that the host has, in place of ``networks``."""
    removed_networks: tuple[IPNetwork, ...] = ()

    @property
    def changes_what_a_client_lacks(self) -> bool:
        """Whether anything is asked for but an address and an end."""
        named = (self.networks, self.region, self.roles, self.tags)
        return any(each is not None for each in named) or bool(self.added_networks or self.removed_networks)


class KnownHost(msgspec.Struct, frozen=True, kw_only=True):
    """A host that is granted already, where nothing new came from it."""

    hid: str
    name: str
    gen: int
    identity: bytes


Candidate = EnrollmentRequest | KnownHost


class GrantOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a host has now that it was granted."""

    addresses: tuple[str, ...]
    networks: tuple[str, ...]
    seq: int | None
    """Of the new statement; None: the host had this very grant already."""
    gen: int
    """Of the identity that is granted."""
    is_member: bool
    """False: the grant waits for endorsement, so there is nothing to join yet."""
    warnings: tuple[str, ...]


def parse_named_request(text: str, name: str) -> EnrollmentRequest:
    """The verified request; ConfigError when the host asks for another name."""
    request = parse_request(text)
    if request.name != name:
        raise ConfigError(f"the request is of host {request.name!r}, {name!r} expected")
    return request


Consent = Callable[[Sequence[Difference]], None]
"""Asks whether that is wanted; raises where it is not."""


def change_grant(
    session: AdminSession, hid: str, asked: GrantRequest, consent: Consent, *, now: float
) -> GrantOutcome:
    """Sign and publish what a host has from now on that is granted already; it hears of it by itself."""
    before = newest_grant(session.ledger, hid)
    if before is None:
        raise ConfigError(f"host {hid[:8]}: no grant in force")
    if CLIENT_ROLE in before.grant.roles and asked.changes_what_a_client_lacks:
        raise ConfigError(
            f"{before.grant.name} is a client: it has an address and an end (--address, --expires), and no "
            "networks, roles, region or tags"
        )
    known = KnownHost(hid=hid, name=before.grant.name, gen=before.grant.gen, identity=before.ranges.identity)
    return admit(session, known, asked, consent, now=now)


def admit(
    session: AdminSession,
    request: Candidate,
    asked: GrantRequest,
    consent: Consent,
    *,
    now: float,
    on_member: Callable[[], None] = lambda: None,
) -> GrantOutcome:
    """Sign and publish the grant, and the host's first record. RegistryError names both sides of a clash.

    ``consent`` is asked once, before anything is signed, if a known host loses something. ``on_member``:
    called before it is published, once it is signed and kept here, if the host is then a member.
    """
    signer = session.signer()
    ledger = session.ledger
    before = newest_grant(ledger, request.hid)
    old = before.grant if before else None
    if old is None:
        _check_room(ledger, request.name)
    check_identity(before, request)
    asked = _with_all_networks(request.name, before, asked)
    _check_underlay(ledger, request, asked, now)

    def on_kept() -> None:
        if isinstance(newest_grant(ledger, request.hid), EffectiveGrant):
            on_member()

    seq: int | None = None
    if old is None or request.gen > old.gen or _differs(old, asked):
        if old is not None:
            _ask_about_losses(ledger, old, asked, consent, now)
        statement = _sign(signer, ledger, request, asked, before, now)
        seq = session.commit(statement, _first_record(ledger, request), on_kept)
        found: EffectiveGrant | UnendorsedGrant | None = _signed_grant(ledger, request.name, statement, seq)
    else:
        on_kept()
        session.publish(_first_record(ledger, request), what="nothing was signed; the host's record is")
        found = newest_grant(ledger, request.hid)
    grant = found.grant if found else None
    return GrantOutcome(
        addresses=grant.addresses if grant else (),
        networks=grant.networks if grant else (),
        seq=seq,
        gen=request.gen,
        is_member=isinstance(found, EffectiveGrant),
        warnings=tuple(_warnings(ledger, request, is_client=CLIENT_ROLE in (asked.roles or ()), now=now)),
    )


def _sign(
    signer: LogSigner,
    ledger: Ledger,
    request: Candidate,
    asked: GrantRequest,
    before: EffectiveGrant | UnendorsedGrant | None,
    now: float,
) -> tuple[str, bytes]:
    """The grant: object key, body. What was not asked for stays as it is granted."""
    old, kept = (before.grant, before.ranges) if before else (None, None)
    return signer.grant(
        now=now,
        hid=request.hid,
        identity=request.identity,
        name=request.name,
        addresses=_addresses(ledger, request.hid, asked.address),
        networks=asked.networks if asked.networks is not None else (kept.networks if kept else ()),
        region=_pick(asked.region, old.region if old else ""),
        roles=_pick(asked.roles, old.roles if old else ()),
        tags=_pick(asked.tags, old.tags if old else ()),
        expires_at=_pick(asked.expires_at, old.expires if old else None),
        gen=request.gen,
    )


def _with_all_networks(
    name: str, before: EffectiveGrant | UnendorsedGrant | None, asked: GrantRequest
) -> GrantRequest:
    kept = before.ranges.networks if before else ()
    networks = choose_networks(name, kept, asked.networks, asked.added_networks, asked.removed_networks)
    return replace(asked, networks=networks, added_networks=(), removed_networks=())


def _ask_about_losses(ledger: Ledger, old: Grant, asked: GrantRequest, consent: Consent, now: float) -> None:
    addresses = _addresses(ledger, old.hid, asked.address)
    wanted = msgspec.structs.replace(
        old,
        addresses=old.addresses if addresses is None else tuple(map(str, addresses)),
        networks=old.networks if asked.networks is None else tuple(map(str, asked.networks)),
        region=_pick(asked.region, old.region),
        roles=_pick(asked.roles, old.roles),
        tags=_pick(asked.tags, old.tags),
        expires=_pick(asked.expires_at, old.expires),
    )
    differences = find_differences(old, wanted, now=now)
    if any(each.taken for each in differences):
        consent(differences)


def _signed_grant(
    ledger: Ledger, name: str, statement: tuple[str, bytes], seq: int
) -> EffectiveGrant | UnendorsedGrant:
    """What became of the grant that was signed. RegistryError when it changed nothing: "granted" would be a
    lie."""
    reduction = ledger.reduction()
    said = parse_object_key(statement[0])
    assert isinstance(said, LogKeyName)
    idle = reduction.idle.get(said.hash)
    found: list[EffectiveGrant | UnendorsedGrant] = [*reduction.effective.values(), *reduction.unendorsed]
    mine = [each for each in found if each.entry.hash == said.hash]
    if idle is not None or not mine:
        reason = idle.reason if idle is not None else "another grant of that host stands"
        raise RegistryError(f"{name}: statement {seq} is signed, but has no effect: {reason}")
    return mine[0]


def newest_grant(ledger: Ledger, hid: str) -> EffectiveGrant | UnendorsedGrant | None:
    """What a host was granted last, also when that still waits for endorsement."""
    reduction = ledger.reduction()
    # What asks for another administrator's property is a wish, and must not stand in that one's way.
    waiting = [each for each in reduction.unendorsed if each.grant.hid == hid and not each.wanted]
    return waiting[-1] if waiting else reduction.effective.get(hid)


def check_identity(before: EffectiveGrant | UnendorsedGrant | None, request: Candidate) -> None:
    """RegistryError unless the request is of the identity in force, or of the next one of that host."""
    if before is None:
        if request.gen > 1:
            raise RegistryError(f"{request.name}: identity {request.gen} of a host that is not granted")
        return
    grant = before.grant
    if request.gen > 1 and grant.name != request.name:
        raise RegistryError(f"the request is of host {request.hid[:8]}, which is called {grant.name}")
    if request.gen > grant.gen + 1:
        raise RegistryError(f"{request.name}: identity {request.gen} seen, {grant.gen + 1} would be the next")
    if request.gen < grant.gen:
        raise RegistryError(
            f"{request.name}: identity {request.gen} was replaced, {grant.gen} is in force: "
            "whoever holds it still must ask with the new one"
        )
    if request.gen == grant.gen and request.identity != before.ranges.identity:
        raise RegistryError(f"{request.name}: another key than the one granted as identity {grant.gen}")


def _pick(wished: T | None, kept: T) -> T:
    return kept if wished is None else wished


def _addresses(ledger: Ledger, hid: str, wished: IPAddress | None) -> Sequence[IPAddress] | None:
    """None leaves the choice to the signer."""
    if wished is None:
        return None
    derived = [derive_link_address(network, hid) for network in ledger.chain.current.link_ranges]
    return [wished, *(address for address in derived if address != wished)]


def _differs(old: Grant, asked: GrantRequest) -> bool:
    """True when something was asked for that the grant does not say already."""
    return any(
        (
            asked.address is not None and str(asked.address) != old.addresses[0],
            asked.networks is not None and set(map(str, asked.networks)) != set(old.networks),
            asked.region is not None and asked.region != old.region,
            asked.roles is not None and set(asked.roles) != set(old.roles),
            asked.tags is not None and set(asked.tags) != set(old.tags),
            asked.expires_at is not None and asked.expires_at != old.expires,
        )
    )


def _check_room(ledger: Ledger, name: str) -> None:
    held, limit = len(ledger.reduction().effective), ledger.chain.root.max_hosts
    if held >= limit:
        raise RegistryError(f"{name}: the mesh holds {held} hosts, the limit of its root is {limit}")


def _check_underlay(ledger: Ledger, request: Candidate, asked: GrantRequest, now: float) -> None:
    """A mesh range that holds somebody's endpoint would send WireGuard's own packets into the tunnel."""
    membership = ledger.membership(now)
    endpoints: list[tuple[str, AnyEndpoint]] = []
    if isinstance(request, EnrollmentRequest):
        endpoints += [(request.name, endpoint) for endpoint in request.record.keys.endpoints]
    for host in membership.hosts.values():
        endpoints += [(host.name, endpoint) for endpoint in (host.record.endpoints if host.record else ())]
    networks = asked.networks or ()
    for owner, endpoint in endpoints:
        if isinstance(endpoint, NamedEndpoint):
            continue  # its peers look when they have resolved it
        if owner == request.name and (fault := underlay_fault(endpoint.address)):
            raise RegistryError(
                f"{owner} says that it is reached at {endpoint}, {fault}: correct host.endpoints there"
            )
        alone = ip_network(endpoint.address)
        ranges: Iterable[IPNetwork] = (
            (*networks, *membership.mesh_ranges) if owner == request.name else networks
        )
        for network in ranges:
            if overlaps(network, alone):
                raise RegistryError(
                    f"{network} holds the endpoint {endpoint} of {owner}: WireGuard's own packets to it "
                    f"would be routed into the mesh"
                )


def _first_record(ledger: Ledger, request: Candidate) -> list[tuple[str, bytes]]:
    """The enrollment record, so that others know the host's key at once; nothing if it spoke since."""
    if isinstance(request, KnownHost):
        return []
    known = ledger.record_bytes(request.hid)
    if known is not None and known != request.record_body:
        return []
    return [(host_key(request.hid), request.record_body)]


def _warnings(ledger: Ledger, request: Candidate, *, is_client: bool, now: float) -> Iterable[str]:
    membership = ledger.membership(now)
    if request.hid in membership.unplaced:
        yield f"{request.name} is configured nowhere: {membership.unplaced[request.hid]}"
    for waits in ledger.reduction().unendorsed:
        if waits.grant.hid == request.hid:
            agree = f"{len(waits.signers)} of {waits.needed} administrators agree"
            root = ledger.chain.root
            owners = sorted(root.keys[kid].name for kid in waits.wanted - waits.signers)
            who = " and ".join(owners) if owners else "another one"
            yield (
                f"{request.name} waits for endorsement, {agree}: {who} types: "
                f"wgctl endorse {waits.entry.hash[:12]}"
            )
    if isinstance(request, KnownHost):
        return
    host = membership.hosts.get(request.hid)
    excess = [
        network
        for network in sorted(request.record.keys.announced, key=str)
        if host is not None and not contained_in_any(network, host.granted_networks)
    ]
    if excess:
        wanted = " ".join(f"--jails {network}" for network in excess)
        yield f"{request.name} announces networks that are not granted, so not routed; to grant: {wanted}"
    if not request.record.keys.endpoints and not is_client:
        yield f"{request.name} names no endpoint: others cannot call it before it has called one of them"
