"""Messages of FreeBSD's routing socket, route(4), as values. Pure.

The layouts are those of the LP64 platforms (net/route.h, net/if.h of FreeBSD 11 to 15): every
message begins with its length, version 5 and type; a fixed part follows, then socket addresses,
each padded to eight bytes. A netmask may be cut short and have no family.

The messages only wake the daemon, which then reads the kernel's state anew: what happened is
decoded far enough to tell what is worth a look, and to say it in the log.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import msgspec

from meshd.errors import BackendError
from meshd.model.network import IPAddress

VERSION: Final = 5
AF_INET, AF_LINK, AF_INET6 = 2, 18, 28
"""Address families as FreeBSD numbers them."""
IFF_UP: Final = 0x1

_HEADER: Final = struct.Struct("=HBB")
_RT_MSGHDR: Final = struct.Struct("=4xHxxiiii")  # index@4, flags@8, addrs@12, pid@16, seq@20
_RT_MSGHDR_BYTES: Final = 152
_IF_MSGHDR: Final = struct.Struct("=4xiiH")  # addrs@4, flags@8, index@12
_IFA_MSGHDR: Final = struct.Struct("=4xiiHxxi")  # addrs@4, flags@8, index@12, metric@16
_IFMA_MSGHDR: Final = struct.Struct("=4xiiHxx")  # the same without a metric
_ANNOUNCE: Final = struct.Struct("=4xH16sH")  # index@4, name@6, what@22
_DST, _GATEWAY, _NETMASK, _IFP, _IFA, _SLOTS = 0, 1, 2, 4, 5, 8


class Kind(enum.IntEnum):
    """RTM_* of net/route.h."""

    ADD = 1
    DELETE = 2
    CHANGE = 3
    GET = 4
    LOSING = 5
    REDIRECT = 6
    MISS = 7
    LOCK = 8
    RESOLVE = 11
    NEWADDR = 12
    DELADDR = 13
    IFINFO = 14
    NEWMADDR = 15
    DELMADDR = 16
    IFANNOUNCE = 17


class RouteMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message. ``index``: of the interface, 0 where none is named; ``flags``: of the route (RTF_*)
    or of the interface (IFF_*); ``departed``: an announced interface went away."""

    kind: Kind
    index: int = 0
    flags: int = 0
    interface: str = ""
    address: IPAddress | None = None
    prefix_length: int | None = None
    departed: bool = False

    def __str__(self) -> str:
        """For the log: ``add 10.17.2.0/24``, ``newaddr 10.17.1.10/32 lo0``, ``ifannounce epair0b gone``."""
        words = [self.kind.name.lower()]
        if self.address is not None:
            length = "" if self.prefix_length is None else f"/{self.prefix_length}"
            words.append(f"{self.address}{length}")
        if self.interface:
            words.append(self.interface)
        if self.departed:
            words.append("gone")
        return " ".join(words)


def decode_messages(data: bytes) -> list[RouteMessage]:
    """What one read gave; messages of another version or of an unknown type are passed over.

    BackendError where the bytes are no messages of a routing socket.
    """
    return [message for message in _walk(data) if message is not None]


def _walk(data: bytes) -> Iterator[RouteMessage | None]:
    offset = 0
    while offset < len(data):
        rest = len(data) - offset
        if rest < _HEADER.size:
            raise BackendError(f"routing socket: {rest} bytes left over seen, a message expected")
        length, version, number = _HEADER.unpack_from(data, offset)
        if not _HEADER.size <= length <= rest:
            raise BackendError(f"routing socket: a message of {length} bytes in {rest} seen")
        yield _decode(data[offset : offset + length], number) if version == VERSION else None
        offset += length


def _decode(body: bytes, number: int) -> RouteMessage | None:
    try:
        kind = Kind(number)
    except ValueError:
        return None
    try:
        match kind:
            case Kind.IFANNOUNCE:
                return _decode_announcement(body)
            case Kind.IFINFO:
                _, flags, index = _IF_MSGHDR.unpack_from(body)
                return RouteMessage(kind=kind, index=index, flags=flags)
            case Kind.NEWADDR | Kind.DELADDR:
                addrs, flags, index, _ = _IFA_MSGHDR.unpack_from(body)
                return _with_addresses(kind, index, flags, _slots(body, _IFA_MSGHDR.size, addrs), _IFA)
            case Kind.NEWMADDR | Kind.DELMADDR:
                addrs, flags, index = _IFMA_MSGHDR.unpack_from(body)
                return _with_addresses(kind, index, flags, _slots(body, _IFMA_MSGHDR.size, addrs), _IFA)
            case _:
                index, flags, addrs, _, _ = _RT_MSGHDR.unpack_from(body)
                return _with_addresses(kind, index, flags, _slots(body, _RT_MSGHDR_BYTES, addrs), _DST)
    except struct.error:
        raise BackendError(
            f"routing socket: {kind.name} of {len(body)} bytes seen, a longer one expected"
        ) from None


def _decode_announcement(body: bytes) -> RouteMessage:
    index, name, what = _ANNOUNCE.unpack_from(body)
    return RouteMessage(
        kind=Kind.IFANNOUNCE, index=index, interface=_text(name.partition(b"\0")[0]), departed=what == 1
    )


def _slots(body: bytes, offset: int, addrs: int) -> dict[int, bytes]:
    """The socket addresses that the bits of ``addrs`` (RTA_*) announce, by their number (RTAX_*)."""
    found: dict[int, bytes] = {}
    for slot in range(_SLOTS):
        if addrs & 1 << slot and offset < len(body):
            length = body[offset]
            found[slot] = body[offset : offset + length]
            offset += 8 if length == 0 else 1 + ((length - 1) | 7)
    return found


def _with_addresses(kind: Kind, index: int, flags: int, slots: dict[int, bytes], which: int) -> RouteMessage:
    address = _address(slots.get(which, b""))
    return RouteMessage(
        kind=kind,
        index=index,
        flags=flags,
        interface=_link_name(slots.get(_IFP, b"")) or _link_name(slots.get(_GATEWAY, b"")),
        address=address,
        prefix_length=_prefix_length(address, slots.get(_NETMASK)),
    )


def _address(sockaddr: bytes) -> IPAddress | None:
    family = sockaddr[1] if len(sockaddr) > 1 else 0
    if family == AF_INET and len(sockaddr) >= 8:
        return IPv4Address(sockaddr[4:8])
    if family == AF_INET6 and len(sockaddr) >= 24:
        return IPv6Address(sockaddr[8:24])
    return None


def _prefix_length(address: IPAddress | None, netmask: bytes | None) -> int | None:
    """A mask cut short means zeros; none at all, a route to one host. None where it is no prefix."""
    if address is None:
        return None
    width = address.max_prefixlen
    if netmask is None:
        return width
    start = 4 if address.version == 4 else 8
    bits = int.from_bytes(netmask[start : start + width // 8].ljust(width // 8, b"\0"), "big")
    length = bits.bit_count()
    return length if bits == (1 << width) - (1 << (width - length)) else None


def _link_name(sockaddr: bytes) -> str:
    """The name in a sockaddr_dl: its length at byte 5, its characters from byte 8."""
    if len(sockaddr) < 8 or sockaddr[1] != AF_LINK:
        return ""
    return _text(sockaddr[8 : 8 + sockaddr[5]])


def _text(name: bytes) -> str:
    return name.decode("ascii", "replace")
