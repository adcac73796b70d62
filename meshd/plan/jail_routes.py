"""Which VNET jails need a route to the mesh, and through which address of this host. Pure.

A jail with a network stack of its own answers through its default router. Where that is another
machine, the answers to the mesh would go there: so it gets one route for each range of the
mesh, which stays the same when hosts come and go. Whatever else its table holds is left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import msgspec

from meshd.model.jail import JailRoute, JailStack, Survey
from meshd.model.network import IPAddress, IPInterface, IPNetwork, contains, network_key
from meshd.plan.changes import Change


class AddJailRoute(Change, frozen=True, kw_only=True):
    """``interface`` is that of the mesh; the route is inside ``jail``."""

    jail: str
    new: JailRoute

    def summary(self) -> str:
        return f"add route {self.new.destination} via {self.new.gateway} inside jail {self.jail}"


class JailPlan(msgspec.Struct, frozen=True, kw_only=True):
    """``problems``: jails that cannot be given what they need, and why, for people."""

    changes: tuple[AddJailRoute, ...] = ()
    problems: Mapping[str, str] = msgspec.field(default_factory=dict)


def plan_jail_routes(
    survey: Survey, own_networks: Collection[IPNetwork], mesh_ranges: Collection[IPNetwork], interface: str
) -> JailPlan:
    """``own_networks``: those that this host announces; ``mesh_ranges``: all that the mesh may use."""
    changes: list[AddJailRoute] = []
    problems: dict[str, str] = {}
    for stack in survey.stacks:
        for wanted in sorted(mesh_ranges, key=network_key):
            found = _examine(stack, wanted, survey, own_networks)
            if isinstance(found, JailRoute):
                changes.append(
                    AddJailRoute(
                        interface=interface,
                        jail=stack.jail.name,
                        new=found,
                        reason=f"what jail {stack.jail.name} sends to the mesh does not go through this host",
                    )
                )
            elif found:
                problems.setdefault(stack.jail.name, found)
    return JailPlan(changes=tuple(changes), problems=problems)


def _examine(
    stack: JailStack, wanted: IPNetwork, survey: Survey, own_networks: Collection[IPNetwork]
) -> JailRoute | str:
    """The route to add, or what stands in the way; empty: all is well."""
    mesh_addresses = [
        address
        for address in stack.addresses
        if address.version == wanted.version and any(address.ip in network for network in own_networks)
    ]
    if not mesh_addresses:
        return ""
    here = {address.ip for address in survey.host_addresses}
    covering = [route for route in stack.routes if contains(route.destination, wanted)]
    best = max(covering, key=lambda route: route.destination.prefixlen, default=None)
    if best is not None and best.gateway in here:
        return ""
    if best is not None and best.gateway is None:
        return (
            f"its own interface claims {best.destination}, so it looks for the mesh's {wanted} on its own "
            "link: give its address the prefix length of its network, as in /24"
        )
    if best is not None and best.destination == wanted:
        return (
            f"its route {wanted} via {best.gateway}, which is no address of this host, is not meshd's "
            "and is left alone: remove it inside the jail, or make it lead here"
        )
    gateway = next(_gateways(stack, mesh_addresses, survey), None)
    if gateway is None:
        seen = ", ".join(sorted(map(str, mesh_addresses)))
        return (
            f"this host has no address in the network of {seen}, through which the jail could answer the "
            f"mesh ({wanted}): give the jail's bridge one"
        )
    return JailRoute(destination=wanted, gateway=gateway)


def _gateways(
    stack: JailStack, mesh_addresses: Collection[IPInterface], survey: Survey
) -> Iterator[IPAddress]:
    """This host's addresses in the jail's network, best first: the network's own, held by no jail.

    The route is made from the address beside its gateway, and the mesh takes only what comes from
    one that this host announces.
    """
    own = {address.ip for address in stack.addresses}
    candidates = [
        (host.ip in survey.addresses, host.network != address.network, int(host.ip), host.ip)
        for address in mesh_addresses
        for host in survey.host_addresses
        if address.ip in host.network and host.ip in address.network and host.ip not in own
    ]
    for *_, gateway in sorted(candidates):
        yield gateway
