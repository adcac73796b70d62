"""Observed and desired -> the ordered changes between them.

The order is data and has reasons:
1. An interface of ours under another name goes: it has the port and the addresses. Then the interface,
   its key, port, addresses, MTU, then up: routes need an interface that is up and an address to take
   their source from.
2. Routes that go, before the peer behind them: a packet without route is refused at once, one
   for a prefix without peer vanishes.
3. Allowed IPs that a staying peer gives up, before another peer receives them: a prefix has one
   owner, and taking it from the giver later would take it from the receiver.
4. New peers and changed ones, before the peers that go: a key that replaces another takes its
   prefixes over in one step, and removing the old peer then removes nothing else.
5. New routes, when a peer stands behind them, and routes that move to the other interface of a
   key rotation: replaced, never deleted and added.
6. Peers and addresses that go, and last an interface that carries nothing any more.
Stopping after any of these steps leaves a state from which the next plan converges.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from meshd.mesh.desired import DesiredPeer, DesiredState
from meshd.model.device import Device, ObservedState, PeerConfig
from meshd.model.keys import PublicKey
from meshd.model.network import ForeignRoute, IPNetwork, Route, network_key
from meshd.plan.changes import (
    AddAddress,
    AddPeer,
    AddRoute,
    Change,
    CreateInterface,
    DestroyInterface,
    LoosenReversePath,
    MarkInterface,
    RemoveAddress,
    RemovePeer,
    RemoveRoute,
    SetListenPort,
    SetMtu,
    SetPeer,
    SetPrivateKey,
    SetRoute,
    SetUp,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One interface as it is and as it should be. ``desired`` None: it should not be there."""

    observed: ObservedState
    desired: DesiredState | None

    def __post_init__(self) -> None:
        wanted, seen = self.desired, self.observed.interface
        if wanted is not None and wanted.interface != seen:
            raise ValueError(f"observed {seen}, desired {wanted.interface}: expected the same")


def diff_state(observed: ObservedState, desired: DesiredState) -> tuple[Change, ...]:
    """The changes that turn ``observed`` into ``desired``; empty when nothing differs."""
    return diff_sides((Side(observed=observed, desired=desired),))


def diff_sides(sides: Sequence[Side], strays: Collection[str] = ()) -> tuple[Change, ...]:
    """The changes on all of a host's interfaces together. A route has one place in the table, so what
    one side gives up and the other one takes is moved. ``strays``: interfaces with this host's mark under
    names that are none of the settings'."""
    wanted = [(side.observed, side.desired) for side in sides if side.desired is not None]
    gone = [side.observed for side in sides if side.desired is None and side.observed.device is not None]
    differing = [_differing_routes(side) for side in sides]
    leaving = [(side, side.observed.routes & differ) for side, differ in zip(sides, differing, strict=True)]
    here = {route.destination: route for _, routes in leaving for route in routes}
    foreign = [d for d in foreign_routes(sides, strays) if d not in here]
    return (
        *(_destroy_stray(name, sides[0].observed.interface) for name in sorted(strays)),
        *(change for observed, desired in wanted for change in _device(observed, desired)),
        *_routes_that_go(leaving, [desired for _, desired in wanted]),
        *(change for observed, desired in wanted for change in _peers(observed, desired)),
        *(
            change
            for side, differ in zip(sides, differing, strict=True)
            if side.desired is not None
            for change in _routes_that_come(differ, side.desired, here, frozenset(foreign))
        ),
        *(change for observed, desired in wanted for change in _peers_that_go(observed, desired)),
        *(change for observed, desired in wanted for change in _addresses_that_go(observed, desired)),
        *(_destroy(observed) for observed in gone),
    )


def foreign_routes(sides: Sequence[Side], strays: Container[str] = ()) -> dict[IPNetwork, ForeignRoute]:
    """What is foreign to every side; to each of them the routes of the others are. Those of a stray go with
    it, before any route comes."""
    ours = {route.destination for side in sides for route in side.observed.routes} if len(sides) > 1 else ()
    return {
        destination: route
        for side in sides
        for destination, route in side.observed.foreign_routes.items()
        if destination not in ours and (route.interface is None or route.interface not in strays)
    }


def _device(observed: ObservedState, desired: DesiredState) -> Iterator[Change]:
    name, device = desired.interface, observed.device
    if device is None:
        yield CreateInterface(interface=name, reason=f"interface {name} does not exist")
    elif not observed.marked:
        yield MarkInterface(interface=name, reason="it has this host's key, and somebody else made it")
    if device is None or device.public_key != desired.public_key:
        yield SetPrivateKey(
            interface=name,
            reason=_key_reason(device, desired),
            old=device.public_key if device else None,
            new=desired.public_key,
            private_key=desired.private_key,
        )
    if device is None or device.listen_port != desired.listen_port:
        yield SetListenPort(
            interface=name,
            reason="wireguard.listen_port in the settings" + (", plus one" if desired.is_second else ""),
            old=device.listen_port if device else 0,
            new=desired.listen_port,
        )
    for address in sorted(desired.addresses - observed.addresses, key=lambda a: network_key(a.network)):
        yield AddAddress(interface=name, reason="granted to this host", new=address)
    if observed.mtu_bytes != desired.mtu_bytes:
        yield SetMtu(
            interface=name,
            reason="wireguard.mtu_bytes in the settings",
            old=observed.mtu_bytes,
            new=desired.mtu_bytes,
        )
    if not observed.up:
        yield SetUp(interface=name, reason="the interface is down")
    if desired.migrating and observed.strict_reverse_path:
        yield LoosenReversePath(interface=name, reason="a key rotation moves traffic between interfaces")


def _routes_that_go(
    leaving: Iterable[tuple[Side, frozenset[Route]]], wanted: Sequence[DesiredState]
) -> Iterator[Change]:
    for side, routes in leaving:
        for route in _by_destination(routes):
            if any(route.destination in each.route_labels for each in wanted):
                continue
            left_out = [
                each.left_out[route.destination] for each in wanted if route.destination in each.left_out
            ]
            reason = "no host announces it within its grant"
            if left_out:
                network = left_out[0].connected
                reason = f"it is part of {network.destination} of this host's own ({network.description})"
            yield RemoveRoute(interface=side.observed.interface, reason=reason, old=route)


def _peers(observed: ObservedState, desired: DesiredState) -> Iterator[Change]:
    present = observed.device.peers if observed.device else {}
    both = (
        (seen.config, peer)
        for key, peer in desired.peers.items()
        if (seen := present.get(key)) is not None and seen.config is not peer.config
    )
    changed = [(old, peer) for old, peer in both if old != peer.config]
    for old, peer in changed:
        kept = old.allowed_ips & peer.config.allowed_ips
        if kept != old.allowed_ips:
            yield _set_peer(desired, peer, old, replace(old, allowed_ips=kept))
    for old, peer in changed:
        reduced = replace(old, allowed_ips=old.allowed_ips & peer.config.allowed_ips)
        new = peer.config
        if new.endpoint is None and old.endpoint is not None:
            new = replace(new, endpoint=old.endpoint)  # WireGuard cannot forget an endpoint
        if reduced != new:
            yield _set_peer(desired, peer, reduced, new)
    if desired.peers.keys() <= present.keys():
        return
    for key, peer in desired.peers.items():
        if key not in present:
            yield AddPeer(interface=desired.interface, reason=peer.reason, label=peer.label, new=peer.config)


def _set_peer(desired: DesiredState, peer: DesiredPeer, old: PeerConfig, new: PeerConfig) -> SetPeer:
    only_endpoint = old != new and replace(old, endpoint=new.endpoint) == new
    reason = peer.reason
    if only_endpoint and old.endpoint is not None:
        reason = peer.endpoint_reason or f"{peer.label} does not answer at {old.endpoint}"
    return SetPeer(interface=desired.interface, reason=reason, label=peer.label, old=old, new=new)


def _differing_routes(side: Side) -> frozenset[Route]:
    """What is there or wanted, and not both, in one walk: comparing thousands of routes is most of a turn's
    work, and few differ."""
    return side.observed.routes ^ (side.desired.routes if side.desired else frozenset())


def _routes_that_come(
    differing: frozenset[Route],
    desired: DesiredState,
    here: Mapping[IPNetwork, Route],
    foreign: Container[IPNetwork],
) -> Iterator[Change]:
    for route in _by_destination(desired.routes & differing):
        old = here.get(route.destination)
        reason = f"belongs to {desired.route_labels[route.destination]}"
        if old is not None:
            if old.interface != route.interface:
                reason = desired.moves.get(route.destination, reason)
            elif not old.missing_fibs:
                carried, label = route.mtu_bytes or desired.mtu_bytes, desired.route_labels[route.destination]
                reason = f"the path to {label} carries {carried} bytes"
            yield SetRoute(interface=desired.interface, reason=reason, old=old, new=route)
        elif route.destination not in foreign:
            yield AddRoute(interface=desired.interface, reason=reason, new=route)


def _by_destination(routes: Iterable[Route]) -> list[Route]:
    return sorted(routes, key=lambda route: network_key(route.destination))


def _peers_that_go(observed: ObservedState, desired: DesiredState) -> Iterator[Change]:
    present = observed.device.peers if observed.device else {}
    if present.keys() <= desired.peers.keys():
        return
    for key, peer in present.items():
        if key not in desired.peers:
            yield RemovePeer(
                interface=desired.interface,
                reason=desired.explained.get(key, "no verified host record has this key"),
                label=_key_label(key),
                old=peer.config,
                is_final=key in desired.ended,
            )


def _addresses_that_go(observed: ObservedState, desired: DesiredState) -> Iterator[Change]:
    for address in sorted(observed.addresses - desired.addresses, key=lambda a: network_key(a.network)):
        if address.is_link_local:
            continue  # the kernel's own (fe80::/10); it comes and goes with the interface
        yield RemoveAddress(interface=desired.interface, reason="not granted to this host", old=address)


def _key_reason(device: Device | None, desired: DesiredState) -> str:
    if device is None or device.public_key is None:
        return "the interface has no key"
    if device.public_key in desired.retired_keys:
        return "the key was rotated, and nothing goes over this interface any more"
    return "the key is not this host's"


def _destroy(observed: ObservedState) -> Change:
    return DestroyInterface(
        interface=observed.interface, reason="no key rotation of this host or of a peer needs it any more"
    )


def _destroy_stray(name: str, interface: str) -> Change:
    return DestroyInterface(
        interface=name,
        reason=f"it is this host's, and is to be {interface}: the settings or somebody gave it another name",
    )


def _key_label(key: PublicKey) -> str:
    return f"{str(key)[:8]}..."
