"""Our routes in Linux's main table, and everybody else's, by rtnetlink(7).

Ours carry the routing protocol number 77, which iproute2's rt_protos leaves free. A route
without that number is somebody else's and is never touched.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from meshd.backend import netlink_socket
from meshd.backend.events import ROUTE_PROTOCOL as ROUTE_PROTOCOL
from meshd.backend.netlink_attributes import NESTED, UINT32, network, pack, unpack, walk
from meshd.backend.netlink_socket import (
    CREATE,
    DUMP,
    EXCLUSIVE,
    REPLACE,
    REQUEST,
    KernelRefusal,
    NetlinkSocket,
)
from meshd.errors import BackendError
from meshd.model.network import ForeignRoute, IPNetwork, Route

_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26

_MAIN_TABLE: Final = 254
_SCOPE_LINK, _SCOPE_NOWHERE = 253, 255
_UNICAST: Final = 1
_LISTED_TYPES: Final[Mapping[int, str]] = {
    1: "route",
    6: "blackhole route",
    7: "unreachable route",
    8: "prohibit route",
    9: "throw route",
}
_CLONED: Final = 0x200
_RTA_DST, _RTA_OIF, _RTA_METRICS, _RTA_TABLE = 1, 4, 8, 15
_RTAX_MTU: Final = 2
_GATEWAYS: Final = frozenset({5, 9, 18})
"""RTA_GATEWAY, RTA_MULTIPATH and RTA_VIA (linux/rtnetlink.h)."""
# One fixed layout a family, because there are thousands: the headers, then OIF, TABLE and DST.
_ROUTE_V4: Final = struct.Struct("=IHH8xBBxxBBBB4xHHIHHIHH4s")
_ROUTE_V6: Final = struct.Struct("=IHH8xBBxxBBBB4xHHIHHIHH16s")
_ROUTE_HEADER: Final = struct.Struct("=BBBBBBBBI")
_MESSAGE_HEADER_BYTES: Final = 16
KNOWN_ROUTES: Final = 8192
"""Of a mesh of 1,000 hosts. Each look at the kernel reads the same ones."""
_FAMILIES: Final[Mapping[int, socket.AddressFamily]] = {4: socket.AF_INET, 6: socket.AF_INET6}


class TableRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A route of the main table as the kernel has it; ``interface_index`` 0: more than one, or none.

    ``by_gateway``: another machine passes its packets on.
    """

    destination: IPNetwork
    protocol: int
    kind: int
    interface_index: int
    mtu_bytes: int | None
    by_gateway: bool = False

    @property
    def connected(self) -> bool:
        """Whatever wrote it: the kernel for an address, a router advertisement, an administrator."""
        return self.kind == _UNICAST and self.interface_index != 0 and not (self.by_gateway or self.ours)

    @property
    def ours(self) -> bool:
        return self.protocol == ROUTE_PROTOCOL


class RouteTable:
    """Reads or changes the kernel at every call; nothing is remembered between calls."""

    def __init__(self, connection: NetlinkSocket) -> None:
        self._socket = connection
        self._questions = {family: _ask_for_routes(family) for family in _FAMILIES.values()}

    def read(self, versions: Iterable[int] = (4, 6)) -> list[TableRoute]:
        """The main table without local, broadcast, anycast and multicast routes."""
        found: list[TableRoute] = []
        for version in versions:
            found.extend(self._family_routes(_FAMILIES[version]))
        return found

    def set(self, name: str, index: int, routes: Sequence[Route]) -> None:
        """Add our routes or replace ours; BackendError before any change if one is foreign.

        A new route is added exclusively, so a route that somebody else adds in between is
        refused by the kernel and never overwritten.
        """
        wanted = {route.destination: route for route in routes}
        present = self._present(wanted)
        messages: list[bytearray] = []
        sent = []
        for destination, route in wanted.items():
            before = present.get(destination) if present else None
            if before is None or (before.interface_index, before.mtu_bytes) != (index, route.mtu_bytes):
                how = CREATE | (EXCLUSIVE if before is None else REPLACE)
                messages.append(_pack_route(_RTM_NEWROUTE, how, route, index))
                sent.append(destination)
        self._check_routes(name, sent, self._socket.transact_packed(messages))

    def remove(self, name: str, index: int, destinations: Sequence[IPNetwork]) -> None:
        """Remove ours through the interface; those that are gone already are no error."""
        routes = [Route(destination=destination, interface=name) for destination in destinations]
        messages = [_pack_route(_RTM_DELROUTE, 0, route, index) for route in routes]
        for route, (number, text) in zip(routes, self._socket.transact_packed(messages), strict=True):
            if number not in (0, errno.ESRCH, errno.ENOENT, errno.ENODEV):
                raise KernelRefusal(f"remove route {route.destination} through {name}", number, text)

    def _present(self, wanted: Mapping[IPNetwork, Route]) -> dict[IPNetwork, TableRoute]:
        """Our routes to these destinations; BackendError names the first foreign one.

        A foreign one that came beside ours has another metric: replacing ours leaves it alone.
        """
        versions = sorted({destination.version for destination in wanted})
        there = [route for route in self.read(versions) if route.destination in wanted]
        present = {route.destination: route for route in there if route.ours}
        for route in there:
            if route.destination not in present:
                raise _conflict(route)
        return present

    def _check_routes(
        self, name: str, destinations: Sequence[IPNetwork], answers: Sequence[netlink_socket.Kernel]
    ) -> None:
        for destination, (number, text) in zip(destinations, answers, strict=True):
            if number == errno.EEXIST:
                for route in self.read((destination.version,)):
                    if route.destination == destination and not route.ours:
                        raise _conflict(route)
            if number:
                raise KernelRefusal(f"route {destination} through {name}", number, text)

    def _family_routes(self, family: socket.AddressFamily) -> list[TableRoute]:
        try:
            bodies = self._socket.dump(self._questions[family])
        except KernelRefusal as refusal:
            if refusal.number == errno.ENOENT:  # no route has been added to that table yet
                return []
            raise
        found = (_parse_route(body[_MESSAGE_HEADER_BYTES:]) for body in bodies)
        return [route for route in found if route is not None]


def _ask_for_routes(family: int) -> bytearray:
    """Encoded once, as each look at the kernel asks it."""
    messages = netlink_socket.load()
    attributes = [("RTA_TABLE", _MAIN_TABLE)]
    message = messages.new(
        messages.rtmsg, _RTM_GETROUTE, REQUEST | DUMP, attributes, family=family, table=_MAIN_TABLE
    )
    return bytearray(netlink_socket.encode(message, 0))


def split_routes(
    name: str, index: int | None, routes: Iterable[TableRoute]
) -> tuple[frozenset[Route], dict[IPNetwork, ForeignRoute]]:
    """Ours through the interface, and all others by destination, as ObservedState holds them."""
    ours: set[Route] = set()
    foreign: dict[IPNetwork, ForeignRoute] = {}
    names: dict[int, str | None] = {}
    for route in routes:
        through = route.interface_index
        if route.ours and index is not None and through == index:
            ours.add(Route(destination=route.destination, interface=name, mtu_bytes=route.mtu_bytes))
            continue
        if through not in names:
            names[through] = _interface_name(through)
        foreign[route.destination] = ForeignRoute(
            destination=route.destination,
            interface=names[through],
            description=_describe(route, names[through]),
            connected=route.connected,
        )
    return frozenset(ours), foreign


def _pack_route(kind: int, flags: int, route: Route, index: int) -> bytearray:
    """struct nlmsghdr, struct rtmsg (linux/rtnetlink.h) and the attributes of one route."""
    destination, adding = route.destination, kind == _RTM_NEWROUTE
    v4 = destination.version == 4
    layout, address_bytes = (_ROUTE_V4, 4) if v4 else (_ROUTE_V6, 16)
    metrics = b""
    if route.mtu_bytes is not None:
        metrics = pack(_RTA_METRICS | NESTED, pack(_RTAX_MTU, UINT32.pack(route.mtu_bytes)))
    message = bytearray(
        layout.pack(
            layout.size + len(metrics),
            kind,
            REQUEST | flags,
            _FAMILIES[4 if v4 else 6],
            destination.prefixlen,
            _MAIN_TABLE,
            ROUTE_PROTOCOL,
            _SCOPE_LINK if adding else _SCOPE_NOWHERE,
            _UNICAST if adding else 0,
            8,
            _RTA_OIF,
            index,
            8,
            _RTA_TABLE,
            _MAIN_TABLE,
            4 + address_bytes,
            _RTA_DST,
            destination.network_address.packed,
        )
    )
    message += metrics
    return message


@lru_cache(maxsize=KNOWN_ROUTES)
def _parse_route(body: bytes) -> TableRoute | None:
    """``body``: without the message's header, in which a number differs each time."""
    family, length, _, _, table, protocol, _, kind, flags = unpack(_ROUTE_HEADER, body, 0, len(body))
    if kind not in _LISTED_TYPES or flags & _CLONED:
        return None
    address = bytes(4 if family == socket.AF_INET else 16)
    index, mtu_bytes, by_gateway = 0, None, False
    for attribute, start, end in walk(body, _ROUTE_HEADER.size, len(body)):
        if attribute == _RTA_DST:
            address = body[start:end]
        elif attribute == _RTA_OIF:
            (index,) = unpack(UINT32, body, start, end)
        elif attribute == _RTA_TABLE:
            (table,) = unpack(UINT32, body, start, end)
        elif attribute in _GATEWAYS:
            by_gateway = True
        elif attribute == _RTA_METRICS:
            mtu_bytes = _parse_mtu(body, start, end)
    if table != _MAIN_TABLE:
        return None
    return TableRoute(
        destination=network(address, length),
        protocol=protocol,
        kind=kind,
        interface_index=index,
        mtu_bytes=mtu_bytes,
        by_gateway=by_gateway,
    )


def _parse_mtu(body: bytes, offset: int, end: int) -> int | None:
    for metric, start, stop in walk(body, offset, end):
        if metric == _RTAX_MTU:
            return unpack(UINT32, body, start, stop)[0]
    return None


def _interface_name(index: int) -> str | None:
    try:
        return socket.if_indextoname(index) if index else None
    except OSError:
        return None


def _describe(route: TableRoute, interface: str | None) -> str:
    protocols: Any = netlink_socket.load().rt_proto
    protocol = "meshd" if route.ours else protocols.get(route.protocol, str(route.protocol))
    through = f" through {interface}" if interface else ""
    return f"{_LISTED_TYPES[route.kind]} of protocol {protocol}{through}"


def _conflict(route: TableRoute) -> BackendError:
    seen = _describe(route, _interface_name(route.interface_index))
    return BackendError(f"route {route.destination}: {seen} seen, no foreign route expected")
