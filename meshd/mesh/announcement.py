"""Which jail networks this host announces when the settings leave it to the jails themselves. Pure.

A granted network is announced as a whole from the moment that one local address lies in it, and
stays announced for as long as it is granted. A network that went with its last jail would make
every host of the mesh change its peers and routes at each restart of a jail, and meanwhile
packets for it would leave the other hosts by their default routes, in the clear. What was announced
before is read off this host's own record, so that a restart of the daemon forgets nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meshd.model.host import Host
from meshd.model.network import IPAddress, IPNetwork, overlaps


def choose_announced(own: Host, local: Iterable[IPAddress]) -> frozenset[IPNetwork]:
    """The granted networks to announce. ``local``: addresses of jails or containers on this host."""
    before = own.record.announced if own.record else frozenset()
    addresses = list(local)
    return frozenset(
        network
        for network in own.granted_networks
        if any(overlaps(network, announced) for announced in before)
        or any(address in network for address in addresses)
    )


def find_ungranted(
    own: Host, local: Mapping[IPAddress, str], mesh_ranges: Iterable[IPNetwork]
) -> Mapping[IPAddress, str]:
    """Local addresses in the mesh's ranges that no grant of this host covers, by their holders."""
    ranges = list(mesh_ranges)
    return {
        address: holder
        for address, holder in local.items()
        if any(address in network for network in ranges)
        and address not in own.addresses
        and not any(address in network for network in own.granted_networks)
    }
