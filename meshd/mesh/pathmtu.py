"""The MTU of a host's routes, from what the path to it was found to carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from meshd.model.host import Host
from meshd.model.network import IPNetwork, Route, host_network

IPV6_LEAST_BYTES: Final = 1280
"""RFC 8200 section 5. A route with less makes Linux refuse to send at all, so an IPv6 route never gets it."""


def build_routes(
    host: Host,
    networks: Iterable[IPNetwork],
    interface: str,
    *,
    interface_mtu_bytes: int,
    mtu_bytes: int | None,
    link_stays_wide: bool,
) -> tuple[Route, ...]:
    """A route for each network; ``mtu_bytes`` None or not less than the interface's: with no MTU of its own.

    ``link_stays_wide``: where the kernel lets no probe exceed a route's MTU (FreeBSD), the route of the
    link address keeps the interface's, unless it is the address that people use.
    """
    link = host.link_address
    wide = host_network(link) if link_stays_wide and link != host.addresses[0] else None
    return tuple(
        Route(
            destination=network,
            interface=interface,
            mtu_bytes=None if network == wide else _route_mtu(network, mtu_bytes, interface_mtu_bytes),
        )
        for network in networks
    )


def kernel_mtus(*sides: Iterable[Route]) -> dict[IPNetwork, int]:
    """The routes, over whichever interface, that have an MTU of their own."""
    return {
        route.destination: route.mtu_bytes
        for routes in sides
        for route in routes
        if route.mtu_bytes is not None
    }


def kept_mtu(host: Host, in_kernel: Mapping[IPNetwork, int]) -> int | None:
    """What an earlier process found for this host, read off its routes; None: nothing."""
    if not in_kernel:
        return None
    networks = (*map(host_network, host.addresses), *host.networks)
    return min((in_kernel[network] for network in networks if network in in_kernel), default=None)


def _route_mtu(network: IPNetwork, mtu_bytes: int | None, interface_mtu_bytes: int) -> int | None:
    if mtu_bytes is None:
        return None
    least = max(mtu_bytes, IPV6_LEAST_BYTES) if network.version == 6 else mtu_bytes
    return least if least < interface_mtu_bytes else None
