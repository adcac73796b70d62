"""Addresses for new hosts: counted for IPv4, derived for IPv6. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from meshd.errors import RegistryError
from meshd.model.network import IPAddress, IPNetwork

_LAST_WITH_BROADCAST: Final = 30


def allocate_address(pools: Iterable[IPNetwork], used: Collection[IPAddress]) -> IPv4Address:
    """The lowest IPv4 address of the pools that nobody has or had. RegistryError: none is left.

    Revoked hosts count as used, so that an address never names two hosts one after the other.
    The network and broadcast addresses of a pool are left out: some tools treat them apart.
    """
    networks = sorted(pool for pool in pools if isinstance(pool, IPv4Network))
    for network in networks:
        for number in _host_numbers(network):
            address = IPv4Address(number)
            if address not in used:
                return address
    raise RegistryError(
        f"address pool {', '.join(map(str, networks)) or '(none)'}: no free IPv4 address: "
        "a root with a wider pool is needed"
    )


def count_addresses(network: IPv4Network) -> int:
    """How many hosts can have one in it."""
    return len(_host_numbers(network))


def _host_numbers(network: IPv4Network) -> range:
    edge = 1 if network.prefixlen <= _LAST_WITH_BROADCAST else 0
    return range(int(network.network_address) + edge, int(network.broadcast_address) - edge + 1)


def derive_link_address(network: IPv6Network, hid: str) -> IPv6Address:
    """The host's own IPv6 address in a range: the range's prefix, then the first bits of its hid.

    Nothing to allocate: two hosts share one only when their hids share that many bits.
    """
    return IPv6Address(int(network.network_address) | int(hid, 16) >> network.prefixlen)
