"""Which jail networks this host announces when the settings leave it to the jails themselves. Pure.

A granted network is announced as a whole from the moment that one local address lies in it, and stays
announced for as long as it is granted. If it went with its last jail, every host of the mesh would change
its peers and routes at each restart of a jail. Meanwhile packets for it would leave the other hosts by
their default routes, in the clear. What was announced before is read off this host's own record, so that
a restart of the daemon forgets nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from meshd.model.host import Host
from meshd.model.jail import Survey
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


def leave_out_hosts(survey: Survey, others: Iterable[Host]) -> Survey:
    """The jails that are this host's own to announce and to route for.

    A jail that holds another host's mesh address is that host, with a network stack and a daemon of its
    own: it and the jails inside it (``newton.web``) are announced by that one.
    """
    theirs = {address for host in others for address in host.addresses}
    hosts = {holder for address, holder in survey.addresses.items() if address in theirs}
    if not hosts:
        return survey
    inside = tuple(f"{name}." for name in hosts)

    def is_own(jail: str) -> bool:
        return jail not in hosts and not jail.startswith(inside)

    return replace(
        survey,
        addresses={address: jail for address, jail in survey.addresses.items() if is_own(jail)},
        stacks=tuple(stack for stack in survey.stacks if is_own(stack.jail.name)),
        problems={jail: problem for jail, problem in survey.problems.items() if is_own(jail)},
    )
