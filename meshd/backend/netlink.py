"""Links, addresses and routes of Linux by rtnetlink(7), for every WireGuard of Linux."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from meshd.backend import netlink_socket
from meshd.backend.netlink_attributes import UINT32, interface, pack, pack_message, text, unpack, walk
from meshd.backend.netlink_routes import RouteTable, TableRoute
from meshd.backend.netlink_socket import ACK, CREATE, DUMP, EXCLUSIVE, REQUEST, KernelRefusal
from meshd.errors import BackendError
from meshd.model.network import IPInterface, IPNetwork, Route

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22

_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_EXT_MASK = 3, 4, 18, 20, 29
_IFLA_INFO_KIND: Final = 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_LINK: Final = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, type, index, flags, change."""
_ADDRESS: Final = struct.Struct("=BBBBI")
"""struct ifaddrmsg: family, prefix length, flags, scope, index."""
_HEADER_BYTES: Final = 16

_IFF_UP: Final = 0x1
_SKIP_STATISTICS: Final = 1 << 3
_FAMILIES: Final[Mapping[int, socket.AddressFamily]] = {4: socket.AF_INET, 6: socket.AF_INET6}


class Link(msgspec.Struct, frozen=True, kw_only=True):
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
        which = pack(_IFLA_IFNAME, name.encode() + b"\0") + pack(
            _IFLA_EXT_MASK, UINT32.pack(_SKIP_STATISTICS)
        )
        message = pack_message(_RTM_GETLINK, REQUEST | ACK, _LINK.pack(0, 0, 0, 0, 0) + which)
        (number, said), bodies = self._socket.request(message)
        if number == errno.ENODEV:
            return None
        if number or not bodies:
            raise KernelRefusal(f"interface {name}", number, said)
        return _parse_link(bodies[0])

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
        message = pack_message(_RTM_GETADDR, REQUEST | DUMP, _ADDRESS.pack(0, 0, 0, 0, index))
        found = (_parse_address(body, index) for body in self._socket.dump(message))
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


def _parse_link(body: bytes) -> Link:
    _, _, index, flags, _ = unpack(_LINK, body, _HEADER_BYTES, len(body))
    kind, mtu_bytes, alias = "", 0, ""
    for attribute, start, end in walk(body, _HEADER_BYTES + _LINK.size, len(body)):
        if attribute == _IFLA_MTU:
            (mtu_bytes,) = unpack(UINT32, body, start, end)
        elif attribute == _IFLA_IFALIAS:
            alias = text(body, start, end)
        elif attribute == _IFLA_LINKINFO:
            kinds = [text(body, at, to) for said, at, to in walk(body, start, end) if said == _IFLA_INFO_KIND]
            kind = kinds[0] if kinds else ""
    return Link(index=index, kind=kind, up=bool(flags & _IFF_UP), mtu_bytes=mtu_bytes, alias=alias)


def _parse_address(body: bytes, index: int) -> IPInterface | None:
    _, length, _, _, through = unpack(_ADDRESS, body, _HEADER_BYTES, len(body))
    said = {
        attribute: body[start:end]
        for attribute, start, end in walk(body, _HEADER_BYTES + _ADDRESS.size, len(body))
        if attribute in (_IFA_ADDRESS, _IFA_LOCAL)
    }
    packed = said.get(_IFA_LOCAL) or said.get(_IFA_ADDRESS)  # on a link of two ends they differ
    if through != index or packed is None:
        return None
    address = interface(packed, length)
    return None if address.version == 6 and address.is_link_local else address
