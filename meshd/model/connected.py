"""Which of our routes would take part of a network that this host has on a link of its own. Pure.

A kernel sends by the most specific route. So a granted 192.168.1.1/32, or 192.168.1.0/25, would win
over the 192.168.1.0/24 of the own LAN: whoever was granted it would be this host's gateway.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Final

from meshd.model.network import ForeignRoute, IPNetwork

LEAST_PREFIX_BITS: Final = 4
"""Nobody has a link with more addresses. 0.0.0.0/0, 0.0.0.0/1 and 2000::/3 through an interface are what
dial-up links and VPNs mean by "everywhere else"."""


def find_connected(
    foreign: Mapping[IPNetwork, ForeignRoute], own_interfaces: Container[str | None]
) -> dict[IPNetwork, ForeignRoute]:
    """The networks of links that are not ours, by destination."""
    return {
        destination: route
        for destination, route in foreign.items()
        if route.connected
        and destination.prefixlen >= LEAST_PREFIX_BITS
        and route.interface not in own_interfaces
    }


class PrefixIndex:
    """Finds the network that holds a destination in one look for each length of prefix, as there may be
    thousands of destinations and a link for each container."""

    def __init__(self, networks: Iterable[IPNetwork] = ()) -> None:
        self._by_length: dict[tuple[int, int], dict[int, IPNetwork]] = {}
        for network in networks:
            shift = network.max_prefixlen - network.prefixlen
            same = self._by_length.setdefault((network.version, network.prefixlen), {})
            same[int(network.network_address) >> shift] = network

    def holder(self, destination: IPNetwork) -> IPNetwork | None:
        """A network that ``destination`` is a part of; None for the same network, a wider one, or none."""
        for (version, length), networks in self._by_length.items():
            if version == destination.version and length < destination.prefixlen:
                shift = destination.max_prefixlen - length
                found = networks.get(int(destination.network_address) >> shift)
                if found is not None:
                    return found
        return None


def prefix_lengths(networks: Iterable[IPNetwork]) -> dict[int, list[int]]:
    """By family the lengths of these prefixes, the longest first: what ``find_holder`` is given."""
    found = {(network.version, network.prefixlen) for network in networks}
    return {
        family: sorted((length for version, length in found if version == family), reverse=True)
        for family in (4, 6)
    }


def find_holder(
    destination: IPNetwork, networks: Container[IPNetwork], lengths: Mapping[int, Sequence[int]]
) -> IPNetwork | None:
    """The most specific of ``networks`` that ``destination`` is a part of, as ``PrefixIndex.holder``.

    For few questions about thousands of networks: an index of them costs more than the answers.
    """
    for length in lengths[destination.version]:
        if length < destination.prefixlen:
            around = destination.supernet(new_prefix=length)
            if around in networks:
                return around
    return None


class ConnectedNetworks:
    """The networks of this host's own links, by what is inside of them."""

    def __init__(self, networks: Mapping[IPNetwork, ForeignRoute] | None = None) -> None:
        self.networks: Mapping[IPNetwork, ForeignRoute] = networks or {}
        self._index = PrefixIndex(self.networks)

    def holder(self, destination: IPNetwork) -> ForeignRoute | None:
        """The network that ``destination`` is a part of; None for the same network, a wider one, or none."""
        found = self._index.holder(destination)
        return None if found is None else self.networks[found]
