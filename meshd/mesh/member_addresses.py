"""Whose an address is: of a member of the mesh, or of nobody there."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from meshd.model.host import Host
from meshd.model.network import host_network


class MemberAddresses:
    """Addresses and routed networks of hosts; asked in time that the number of hosts has no part in.

    A host that has those of its peers behind WireGuard sends what it answers them into the tunnel. So
    a connection from one of them is of that peer: a stranger in a network of the host, who writes such
    an address on his packets, never gets the answer that a TCP connection begins with.
    """

    def __init__(self, hosts: Iterable[Host]) -> None:
        self._networks = frozenset(
            network for host in hosts for network in (*map(host_network, host.addresses), *host.networks)
        )
        self._lengths = sorted({(network.version, network.prefixlen) for network in self._networks})

    def __contains__(self, text: str) -> bool:
        """``text``: an address as a socket has it, with or without a scope."""
        address = ip_address(text.partition("%")[0])
        return any(
            ip_network((address, length), strict=False) in self._networks
            for version, length in self._lengths
            if version == address.version
        )
