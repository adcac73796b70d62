"""What a plan touches and what was there before it, as the way back needs it. Pure.

No secret is in a record: the private key never changes on the way back, and a preshared key stays as it
is then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from meshd.mesh.desired import DesiredState
from meshd.model.device import ObservedState
from meshd.model.keys import PublicKey
from meshd.model.network import (
    IPNetwork,
    network_key,
)
from meshd.plan.changes import (
    AddAddress,
    AddPeer,
    AddRoute,
    Change,
    CreateInterface,
    PeerChange,
    RemoveAddress,
    RemovePeer,
    RemoveRoute,
    SetListenPort,
    SetMtu,
    SetPeer,
    SetPrivateKey,
    SetRoute,
)
from meshd.plan.plan import Plan

State = Literal["done", "trial", "held"]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class PeerBefore(_Part, frozen=True, kw_only=True):
    label: str
    allowed_ips: tuple[str, ...]
    endpoint: str = ""
    keepalive_seconds: int = 0


class RouteBefore(_Part, frozen=True, kw_only=True):
    mtu_bytes: int | None = None


class ChangeRecord(_Part, frozen=True, kw_only=True):
    """A plan that was carried out, by what it touched, each with its value before."""

    digest: str
    """Of the plan."""
    interface: str
    applied_at: float
    """Unix seconds."""
    changes: int
    peers: dict[str, PeerBefore | None] = {}
    """By public key; None: the peer was not there."""
    routes: dict[str, RouteBefore | None] = {}
    """By destination; None: the route was not there."""
    listen_port: int | None = None
    """This and the device's other values: None when the plan did not touch them."""
    mtu_bytes: int | None = None
    addresses: tuple[str, ...] | None = None
    hosts: int = 0
    """How many the plan touched."""
    watched: tuple[str, ...] = ()
    """Hids of touched hosts that answered before."""
    others: tuple[str, ...] = ()
    """Hids of untouched hosts that answered before."""
    state: State = "done"
    """done; trial, while it has to prove itself; held: undone, and kept so until the registry wants something
    else of what it touched than ``desired_digest`` says, or an operator asks for it."""
    by: Literal["", "meshd", "operator"] = ""
    """Who undid it."""
    why: str = ""
    held_at: float = 0.0
    desired_digest: str = ""
    """Of what was desired when it was undone; empty until the next plan."""


def record_change(
    plan: Plan, observed: ObservedState, desired: DesiredState, up: frozenset[str], *, now: float
) -> ChangeRecord | None:
    """What there is to go back to if this plan is carried out on ``observed``. ``up``: hids that answer;
    ``now``: unix seconds. None: nothing, or only what follows measurements: endpoints, a path's MTU."""
    ours = [change for change in plan.changes if change.interface == observed.interface]
    fresh = any(isinstance(change, CreateInterface | SetPrivateKey) for change in ours)
    if observed.device is None or fresh or all(map(_is_measured, ours)):
        return None
    peers = dict(_peers_before(ours, observed, desired))
    routes = dict(_routes_before(ours))
    device = _device_before(ours, observed)
    if not peers and not routes and not device:
        return None
    touched = _touched_hosts(desired, peers, routes, everybody=bool(device))
    known = {peer.hid for peer in desired.peers.values()}
    return ChangeRecord(
        digest=plan.digest,
        interface=plan.interface,
        applied_at=now,
        changes=len(ours),
        peers={str(key): before for key, before in peers.items()},
        routes={str(destination): before for destination, before in routes.items()},
        hosts=len(touched),
        watched=tuple(sorted(touched & up)),
        others=tuple(sorted((known - touched) & up)),
        **device,
    )


def _is_measured(change: Change) -> bool:
    if isinstance(change, SetPeer):
        return replace(change.old, endpoint=change.new.endpoint) == change.new
    return isinstance(change, SetRoute)


def _peers_before(
    changes: Iterable[Change], observed: ObservedState, desired: DesiredState
) -> Iterator[tuple[PublicKey, PeerBefore | None]]:
    assert observed.device is not None
    ours = [change for change in changes if isinstance(change, PeerChange)]
    retired = {
        network
        for change in ours
        if isinstance(change, RemovePeer) and change.public_key in desired.explained
        for network in change.old.allowed_ips
    }
    for change in ours:
        key = change.public_key
        if isinstance(change, AddPeer):
            if not change.new.allowed_ips & retired:  # else it takes over from a key that a signature ended
                yield key, None
        elif key not in desired.explained:
            config = observed.device.peers[key].config
            yield (
                key,
                PeerBefore(
                    label=change.label,
                    allowed_ips=tuple(str(n) for n in sorted(config.allowed_ips, key=network_key)),
                    endpoint=str(config.endpoint or ""),
                    keepalive_seconds=config.persistent_keepalive_seconds,
                ),
            )


def _routes_before(changes: Iterable[Change]) -> Iterator[tuple[IPNetwork, RouteBefore | None]]:
    for change in changes:
        if isinstance(change, AddRoute):
            yield change.new.destination, None
        elif isinstance(change, RemoveRoute):
            yield change.old.destination, RouteBefore(mtu_bytes=change.old.mtu_bytes)


def _device_before(changes: Iterable[Change], observed: ObservedState) -> dict[str, Any]:
    assert observed.device is not None
    before: dict[str, Any] = {}
    for change in changes:
        if isinstance(change, SetListenPort):
            before["listen_port"] = observed.device.listen_port
        elif isinstance(change, SetMtu):
            before["mtu_bytes"] = observed.mtu_bytes
        elif isinstance(change, AddAddress | RemoveAddress):
            before["addresses"] = tuple(sorted(str(address) for address in observed.addresses))
    return before


def _touched_hosts(
    desired: DesiredState, peers: Iterable[PublicKey], routes: Iterable[IPNetwork], *, everybody: bool
) -> set[str]:
    if everybody:
        return {peer.hid for peer in desired.peers.values()}
    destinations = set(routes)
    touched = {desired.peers[key].hid for key in peers if key in desired.peers}
    for peer in desired.peers.values():
        if peer.config.allowed_ips & destinations:
            touched.add(peer.hid)
    return touched


def digest_desired(desired: DesiredState, record: ChangeRecord) -> str:
    """A digest of what the registry and the settings want of everything that the record touches; another
    one means that somebody signed or set something anew. What is measured is not in it."""
    said: list[object] = []
    for text in sorted(record.peers):
        peer = desired.peers.get(PublicKey.parse(text))
        said.append(
            (
                text,
                peer
                and (
                    peer.reason,
                    sorted(map(str, peer.config.allowed_ips)),
                    peer.config.persistent_keepalive_seconds,
                ),
            )
        )
    wanted = {str(route.destination) for route in desired.routes}
    said += [(text, text in wanted) for text in sorted(record.routes)]
    for before, now in (
        (record.listen_port, desired.listen_port),
        (record.mtu_bytes, desired.mtu_bytes),
        (record.addresses, sorted(map(str, desired.addresses))),
    ):
        said.append(None if before is None else now)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:32]


def merge_records(first: ChangeRecord, then: ChangeRecord) -> ChangeRecord:
    """Both changes as one: what was before the first, and before the second where only that touched."""
    watched = {*first.watched, *then.watched}
    return msgspec.structs.replace(
        first,
        digest=then.digest,
        changes=first.changes + then.changes,
        peers={**then.peers, **first.peers},
        routes={**then.routes, **first.routes},
        listen_port=then.listen_port if first.listen_port is None else first.listen_port,
        mtu_bytes=then.mtu_bytes if first.mtu_bytes is None else first.mtu_bytes,
        addresses=then.addresses if first.addresses is None else first.addresses,
        hosts=max(first.hosts, then.hosts),
        watched=tuple(sorted(watched)),
        others=tuple(sorted({*first.others, *then.others} - watched)),
    )


def without_witnesses(first: ChangeRecord, then: ChangeRecord) -> ChangeRecord:
    """The first change alone, beside one that is independent of it: whom that one touched may be silent
    because of it, so the silence speaks no longer for another cause."""
    others = tuple(hid for hid in first.others if hid not in then.watched)
    return first if others == first.others else msgspec.structs.replace(first, others=others)


def overlap(first: ChangeRecord, then: ChangeRecord) -> bool:
    """Whether the second change touches something of the first."""
    return bool(first.peers.keys() & then.peers.keys() or first.routes.keys() & then.routes.keys())
