"""Links, addresses and routes of Linux by rtnetlink(7), for every WireGuard of Linux."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from meshd.backend import netlink_socket
from meshd.backend.netlink_routes import RouteTable, TableRoute
from meshd.backend.netlink_socket import ACK, CREATE, DUMP, EXCLUSIVE, REQUEST, KernelRefusal
from meshd.errors import BackendError
from meshd.model.network import IPInterface, IPNetwork, Route

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22

_IFF_UP: Final = 0x1
_SKIP_STATISTICS: Final = 1 << 3
_FAMILIES: Final[Mapping[int, socket.AddressFamily]] = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """``kind``: wireguard, tun, veth...; empty for hardware. ``alias``: what somebody wrote on it."""

    index: int
    kind: str
    up: bool
    mtu_bytes: int
    alias: str = ""


class Rtnetlink:
    """Every call reads or changes the kernel at once; nothing is remembered between calls."""

    def __init__(self) -> None:
        self._messages = netlink_socket.load()
        self._socket = netlink_socket.NetlinkSocket(netlink_socket.NETLINK_ROUTE)
        self._table = RouteTable(self._socket)

    def close(self) -> None:
        self._socket.close()

    def link(self, name: str) -> Link | None:
        """The link of that name in this network namespace, or None."""
        attributes = [("IFLA_IFNAME", name), ("IFLA_EXT_MASK", _SKIP_STATISTICS)]
        message = self._link_message(_RTM_GETLINK, 0, attributes)
        (number, text), bodies = self._socket.request(message)
        if number == errno.ENODEV:
            return None
        if number or not bodies:
            raise KernelRefusal(f"interface {name}", number, text)
        return self._parse_link(bodies[0])

    def links_of(self, alias: str) -> frozenset[str]:
        """The names of the links that have this alias."""
        message = self._link_message(_RTM_GETLINK, DUMP, [("IFLA_EXT_MASK", _SKIP_STATISTICS)])
        found = set()
        for body in self._socket.dump(message):
            link = self._messages.LinkMessage(body)
            link.decode()
            if link.get_attr("IFLA_IFALIAS") == alias:
                found.add(link.get_attr("IFLA_IFNAME"))
        return frozenset(found)

    def set_alias(self, name: str, alias: str) -> None:
        attributes = [("IFLA_IFALIAS", alias)]
        message = self._link_message(_RTM_NEWLINK, 0, attributes, index=self._index(name))
        self._change(message, f"write {alias!r} on interface {name}")

    def create_link(self, name: str, kind: str) -> bool:
        """Create the link; False if one of that name is there already."""
        attributes = [("IFLA_IFNAME", name), ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", kind)]})]
        message = self._link_message(_RTM_NEWLINK, CREATE | EXCLUSIVE, attributes)
        done = self._change(message, f"create interface {name} of kind {kind}", accept=(errno.EEXIST,))
        return done == 0

    def delete_link(self, name: str) -> None:
        message = self._link_message(_RTM_DELLINK, 0, [("IFLA_IFNAME", name)])
        self._change(message, f"delete interface {name}", accept=(errno.ENODEV,))

    def set_mtu(self, name: str, mtu_bytes: int) -> None:
        attributes = [("IFLA_MTU", mtu_bytes)]
        message = self._link_message(_RTM_NEWLINK, 0, attributes, index=self._index(name))
        self._change(message, f"set MTU of interface {name} to {mtu_bytes}")

    def set_up(self, name: str) -> None:
        index = self._index(name)
        message = self._link_message(_RTM_NEWLINK, 0, [], index=index, flags=_IFF_UP, change=_IFF_UP)
        self._change(message, f"set interface {name} up")

    def addresses(self, index: int) -> frozenset[IPInterface]:
        """Configured addresses; the link-local IPv6 address that the kernel makes is left out."""
        message = self._messages.new(self._messages.ifaddrmsg, _RTM_GETADDR, REQUEST | DUMP, [], index=index)
        found = (self._parse_address(body, index) for body in self._socket.dump(message))
        return frozenset(address for address in found if address is not None)

    def add_address(self, name: str, address: IPInterface) -> None:
        message = self._address_message(_RTM_NEWADDR, CREATE | EXCLUSIVE, self._index(name), address)
        self._change(message, f"add address {address} to interface {name}", accept=(errno.EEXIST,))

    def remove_address(self, name: str, address: IPInterface) -> None:
        link = self.link(name)
        if link is not None:
            message = self._address_message(_RTM_DELADDR, 0, link.index, address)
            self._change(
                message,
                f"remove address {address} from interface {name}",
                accept=(errno.EADDRNOTAVAIL, errno.ENODEV),
            )

    def routes(self) -> list[TableRoute]:
        """The main table: see RouteTable.read."""
        return self._table.read()

    def set_routes(self, name: str, routes: Sequence[Route]) -> None:
        if routes:
            self._table.set(name, self._index(name), routes)

    def remove_routes(self, name: str, destinations: Sequence[IPNetwork]) -> None:
        link = self.link(name)
        if link is not None and destinations:
            self._table.remove(name, link.index, destinations)

    def _index(self, name: str) -> int:
        link = self.link(name)
        if link is None:
            raise BackendError(f"interface {name}: missing, expected to exist")
        return link.index

    def _change(self, message: Any, what: str, accept: tuple[int, ...] = ()) -> int:
        ((number, text),) = self._socket.transact([message])
        if number and number not in accept:
            raise KernelRefusal(what, number, text)
        return number

    def _link_message(self, kind: int, how: int, attributes: Any, **fields: int) -> Any:
        return self._messages.new(self._messages.LinkMessage, kind, REQUEST | ACK | how, attributes, **fields)

    def _address_message(self, kind: int, flags: int, index: int, address: IPInterface) -> Any:
        text = str(address.ip)
        return self._messages.new(
            self._messages.ifaddrmsg,
            kind,
            REQUEST | ACK | flags,
            [("IFA_LOCAL", text), ("IFA_ADDRESS", text)],
            family=_FAMILIES[address.version],
            prefixlen=address.network.prefixlen,
            index=index,
        )

    def _parse_link(self, body: bytes) -> Link:
        message = self._messages.LinkMessage(body)
        message.decode()
        info = message.get_attr("IFLA_LINKINFO")
        return Link(
            index=message["index"],
            kind=(info.get_attr("IFLA_INFO_KIND") or "") if info else "",
            up=bool(message["flags"] & _IFF_UP),
            mtu_bytes=message.get_attr("IFLA_MTU"),
            alias=message.get_attr("IFLA_IFALIAS") or "",
        )

    def _parse_address(self, body: bytes, index: int) -> IPInterface | None:
        message = self._messages.ifaddrmsg(body)
        message.decode()
        text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        if message["index"] != index or text is None:
            return None
        address = ipaddress.ip_interface(f"{text}/{message['prefixlen']}")
        return None if address.version == 6 and address.is_link_local else address
