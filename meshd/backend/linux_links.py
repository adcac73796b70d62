"""What both Linux backends share: addresses, MTU and routes are the kernel's, whoever does WireGuard."""

from __future__ import annotations

from collections.abc import Sequence

from meshd.backend.base import DEFAULT_MARK
from meshd.backend.ipv6_switch import why_off
from meshd.backend.netlink import Link, Rtnetlink
from meshd.backend.netlink_routes import split_routes
from meshd.backend.reverse_path import is_strict, loosen
from meshd.model.device import Device, ObservedState
from meshd.model.network import IPInterface, IPNetwork, Route


class LinuxLinks:
    """The half of a Backend that rtnetlink(7) does. A subclass says what device a link carries.
    ``mark``: what is written on interfaces of this host."""

    def __init__(self, mark: str = DEFAULT_MARK) -> None:
        self._links = Rtnetlink()
        self._mark = mark

    def observe(self, interface: str) -> ObservedState:
        link = self._links.link(interface)
        index = None if link is None else link.index
        ours, foreign = split_routes(interface, index, self._links.routes())
        strict, ipv6_off = is_strict(interface), why_off(interface)
        if link is None:
            return ObservedState(
                interface=interface,
                foreign_routes=foreign,
                strict_reverse_path=strict,
                ipv6_off=ipv6_off,
            )
        return ObservedState(
            interface=interface,
            device=self._device_of(interface, link),
            up=link.up,
            mtu_bytes=link.mtu_bytes,
            addresses=self._links.addresses(link.index),
            routes=ours,
            foreign_routes=foreign,
            strict_reverse_path=strict,
            marked=link.alias == self._mark,
            ipv6_off=ipv6_off,
        )

    def find_marked(self) -> frozenset[str]:
        return self._links.links_of(self._mark)

    def mark_interface(self, interface: str) -> None:
        self._links.set_alias(interface, self._mark)

    def _device_of(self, interface: str, link: Link) -> Device | None:
        """The WireGuard device of a link; None when there is none behind it."""
        raise NotImplementedError

    def set_mtu(self, interface: str, mtu_bytes: int) -> None:
        self._links.set_mtu(interface, mtu_bytes)

    def set_up(self, interface: str) -> None:
        self._links.set_up(interface)

    def loosen_reverse_path(self, interface: str) -> None:
        loosen(interface)

    def add_address(self, interface: str, address: IPInterface) -> None:
        self._links.add_address(interface, address)

    def remove_address(self, interface: str, address: IPInterface) -> None:
        self._links.remove_address(interface, address)

    def set_routes(self, interface: str, routes: Sequence[Route]) -> None:
        self._links.set_routes(interface, routes)

    def remove_routes(self, interface: str, destinations: Sequence[IPNetwork]) -> None:
        self._links.remove_routes(interface, destinations)

    def close(self) -> None:
        self._links.close()
