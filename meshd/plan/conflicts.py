"""Where packets for the mesh go somewhere else, and whose route takes them there. Pure.

A kernel sends by the most specific route of the first table that its rules name. So a route of ours may
stand and still carry nothing. Another program's longer prefix takes a part of it: that is read off the table.
Or another VPN's policy rule takes all of it before our table is looked at: that is asked of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Final

from meshd.model.condition import Condition, Severity
from meshd.model.connected import find_holder, prefix_lengths
from meshd.model.network import ForeignRoute, IPAddress, IPNetwork, network_key
from meshd.plan.diff import Side, foreign_routes

MAX_CONFLICTS: Final = 16
"""So many are named; who has more has one cause."""


def find_route_conflicts(sides: Sequence[Side], strays: Container[str] = ()) -> tuple[Condition, ...]:
    """Foreign routes where one of ours belongs or inside of it, and networks of this host's own links that
    one of ours would take a part of: reported, never touched.

    One that already leads into an interface of ours does the same work and is no conflict.
    """
    own = {side.observed.interface for side in sides}
    labels: dict[IPNetwork, str] = {}
    for side in reversed(sides):
        labels.update(side.desired.route_labels if side.desired else {})
    interface = sides[0].observed.interface
    return (
        *_foreign_conflicts(foreign_routes(sides, strays), labels, interface, own),
        *_left_out(sides, interface),
    )


def _foreign_conflicts(
    foreign: Mapping[IPNetwork, ForeignRoute],
    labels: Mapping[IPNetwork, str],
    interface: str,
    own: Container[str | None],
) -> Iterator[Condition]:
    lengths: Mapping[int, Sequence[int]] | None = None
    found = 0
    for destination, route in foreign.items():
        if route.interface in own or found >= MAX_CONFLICTS:
            continue
        if lengths is None:
            lengths = prefix_lengths(labels)
        if destination in labels:
            text = (
                f"route {destination} ({route.description}) is not meshd's, so traffic to "
                f"{labels[destination]} does not go through {interface}; remove it or narrow the grant"
            )
        elif (holder := find_holder(destination, labels, lengths)) is not None:
            text = (
                f"route {destination} ({route.description}) is not meshd's and is a part of {holder} of "
                f"{labels[holder]}, so traffic to that part does not go through {interface}; give that "
                "network another range, or narrow the grant"
            )
        else:
            continue
        found += 1
        yield Condition(code="route_conflict", severity=Severity.WARNING, subject=str(destination), text=text)


def _left_out(sides: Sequence[Side], interface: str) -> Iterator[Condition]:
    left_out = {d: why for side in sides if side.desired for d, why in side.desired.left_out.items()}
    for destination, why in sorted(left_out.items(), key=lambda item: network_key(item[0])):
        yield Condition(
            code="route_conflict",
            severity=Severity.WARNING,
            subject=str(destination),
            text=f"no route {destination} to {why.host}: it is part of {why.connected.destination} "
            f"({why.connected.description}), a network of this host's own, so what is sent there "
            f"does not go through {interface}; narrow the grant, or that network",
        )


def find_diverted(
    places: Iterable[tuple[str, IPAddress]],
    own_addresses: Container[IPAddress | None],
    source_of: Callable[[IPAddress], IPAddress | None],
    interface: str,
) -> tuple[Condition, ...]:
    """Addresses to which this system would not send through the mesh, although it has the route.

    Args:
        places: names of hosts, and mesh addresses of theirs that have a route of ours.
        own_addresses: this host's mesh addresses; whatever goes through the mesh is sent from one of them.
        source_of: asks the kernel. None: it has no route, or a rule that prohibits the destination.
    """
    found: list[Condition] = []
    for name, address in places:
        source = source_of(address)
        if source not in own_addresses and len(found) < MAX_CONFLICTS:
            instead = f"would send them from {source}" if source else "sends them nowhere"
            found.append(
                Condition(
                    code="route_conflict",
                    severity=Severity.WARNING,
                    subject=str(address),
                    text=f"packets to {name} ({address}) do not go through {interface}, although its "
                    f"route is there: the kernel {instead}. Another table or rule comes first, another VPN's "
                    f"perhaps, or its switch that lets nothing out beside it: see ip rule and ip route get "
                    f"{address} (FreeBSD: route -n get {address})",
                )
            )
    return tuple(found)
