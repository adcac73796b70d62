"""The hosts that this one calls and is called by: who is at which address, and who answers."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from meshd.exchange.partner import Partner, partner_of
from meshd.exchange.server import Member
from meshd.model.host import Host, Membership
from meshd.model.network import IPAddress

PARTNER_SECONDS: Final = 30.0
"""For all that one host is asked in one go. What it handed over until then is kept."""

MeshAddresses = Callable[[Host], tuple[IPAddress, ...]]


class Partners:
    """``use`` brings the members. Lives on the event loop, but ``member_at``."""

    def __init__(self, hid: str, mesh_addresses: MeshAddresses, rng: random.Random) -> None:
        self._hid = hid
        self._mesh_addresses = mesh_addresses
        self._rng = rng
        self._by_address: Mapping[str, Member] = {}
        self._has_ipv6 = True
        self._reachable: Callable[[], Collection[str]] = tuple
        self._membership: Membership | None = None
        self.hosts: Mapping[str, Host] = {}
        """By hid, this host among them."""
        self.others: tuple[str, ...] = ()
        """The hids of all other hosts, in their order."""

    def use(self, membership: Membership, *, has_ipv6: bool = True) -> None:
        """The members as they are now. ``has_ipv6``: the system of this host lets it have IPv6 addresses.

        Clients are called never, and may call: an administrator's laptop is one. They have no identity, so
        what they hand over proves itself or is nothing.
        """
        self._has_ipv6 = has_ipv6
        if membership is self._membership:
            return  # as in most turns
        self._membership, self.hosts = membership, membership.with_daemon
        self.others = tuple(sorted(self.hosts.keys() - {self._hid}))
        self._by_address = {
            str(address): Member(host.hid, host.identity_key)
            for host in membership.hosts.values()
            if host.hid != self._hid
            for address in (*self._mesh_addresses(host), *host.addresses)
        }

    def start(self, reachable: Callable[[], Collection[str]]) -> None:
        """``reachable``: the hids of hosts that answer over the mesh. Until then nobody does."""
        self._reachable = reachable

    def reachable(self) -> Collection[str]:
        """The hids of hosts that answer now; not to be changed."""
        return self._reachable()

    def reachable_hosts(self) -> set[str]:
        """Those of them that are hosts of the mesh now."""
        return self.hosts.keys() & self.reachable()

    def choose(self, count: int, *, first: Sequence[str] = (), but: Collection[str] = ()) -> list[str]:
        """Reachable hosts at random, none of ``but``; one of ``first`` before the others."""
        hids = sorted(self.reachable_hosts() - set(but))
        preferred = [hid for hid in first if hid in hids]
        chosen = [self._rng.choice(preferred)] if preferred else []
        rest = [hid for hid in hids if hid not in chosen]
        return [*chosen, *self._rng.sample(rest, min(count - len(chosen), len(rest)))]

    def find(self, hid: str) -> Partner | None:
        """That host, to be called now. None: it is no host any more, or this one is none."""
        host, own = self.hosts.get(hid), self.hosts.get(self._hid)
        if host is None or own is None:
            return None
        possible = self._usable(host) or self._mesh_addresses(host)
        address = possible[0]
        sources = [each for each in self._usable(own) if each.version == address.version]
        until = time.monotonic() + PARTNER_SECONDS
        return partner_of(host, address, sources[0] if sources else None, until=until)

    def own_addresses(self) -> tuple[IPAddress, ...]:
        """Where this host is called; none while it is no member."""
        own = self.hosts.get(self._hid)
        return self._usable(own) if own is not None else ()

    def _usable(self, host: Host) -> tuple[IPAddress, ...]:
        """Addresses of the families that this host's system has."""
        return tuple(each for each in self._mesh_addresses(host) if self._has_ipv6 or each.version == 4)

    def member_at(self, address: str) -> Member | None:
        """The host at an address; None for strangers. From any thread."""
        return self._by_address.get(address)
