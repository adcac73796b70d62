"""The relay's two sockets: one UDP port, in each family that the system has.

A host may have several addresses. What goes to somebody leaves from the one that it calls, as nothing comes
in from another one through its NAT or its firewall. So each datagram is read with where it came in.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from functools import lru_cache
from typing import Final

from meshd.errors import BackendError

BUFFER_BYTES: Final = 4 << 20
"""More than most systems allow: a burst waits there while the relay is busy."""
LEAST_BUFFER_BYTES: Final = 64 << 10
"""Less than that every system gives by itself, or nearly."""
# linux/in.h and linux/in6.h, netinet/in.h of FreeBSD; Python has no names for them.
_IP_RECVDSTADDR: Final = 7
_IP_PKTINFO: Final = 8
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_DONT: Final = 0
_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104
ANCILLARY_BYTES: Final = 128
"""Room for where a datagram came in, and for the length of the first of a train."""
_NO_FAMILY: Final = frozenset({errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL})


def open_sockets(port: int) -> dict[socket.AddressFamily, socket.socket]:
    """Bound and non-blocking; a family that the system does not have is left out.

    Raises:
        BackendError: the port is taken, or there is no family at all.
    """
    opened: dict[socket.AddressFamily, socket.socket] = {}
    try:
        for family, everywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            try:
                opened[family] = _open(family, everywhere, port)
            except OSError as error:
                if error.errno not in _NO_FAMILY:
                    raise
    except OSError as error:
        for each in opened.values():
            each.close()
        raise BackendError(f"UDP port {port}: {error.strerror or error}") from None
    if not opened:
        raise BackendError(f"UDP port {port}: neither IPv4 nor IPv6 on this system")
    return opened


def _open(family: socket.AddressFamily, everywhere: str, port: int) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            _widen(opened, option)
        _tell_where_it_came_in(opened, family)
        _let_fragment(opened, family)
        _take_trains(opened)
        opened.bind((everywhere, port))
        opened.setblocking(False)
    except OSError:
        opened.close()
        raise
    return opened


def _widen(opened: socket.socket, option: int) -> None:
    """Linux gives as much as net.core.rmem_max allows. FreeBSD refuses with ENOBUFS what is over
    kern.ipc.maxsockbuf, less what its book-keeping takes (sbreserve_locked_limit(), uipc_sockbuf.c), and
    leaves the 41 KiB that a UDP socket begins with: less is asked for until it is given.
    """
    wanted = BUFFER_BYTES
    while wanted >= LEAST_BUFFER_BYTES:
        try:
            opened.setsockopt(socket.SOL_SOCKET, option, wanted)
            return
        except OSError:
            wanted //= 2


Ancillary = list[tuple[int, int, bytes]]


def from_there(ancillary: Ancillary) -> Ancillary:
    """From what was read with a datagram: what to send with the answer, for it to leave from that address.

    The interface is left to the routes.
    """
    for level, kind, said in ancillary:
        if level != socket.IPPROTO_UDP:
            return _from_there(level, kind, said)
    return []


def car_bytes(ancillary: Ancillary) -> int:
    """Of a train: how long each datagram of it is, the last one perhaps shorter. 0: it is a single one.

    Linux hands datagrams of one source that came in a row over together: udp(7), UDP_GRO.
    """
    for level, kind, said in ancillary:
        if level == socket.IPPROTO_UDP and kind == _UDP_GRO:
            return int.from_bytes(said[:4], sys.byteorder)
    return 0


def as_train(each_bytes: int) -> tuple[int, int, bytes]:
    """What is sent along with datagrams that are handed to Linux in one piece: udp(7), UDP_SEGMENT."""
    return socket.IPPROTO_UDP, _UDP_SEGMENT, each_bytes.to_bytes(2, sys.byteorder)


@lru_cache(maxsize=256)
def _from_there(level: int, kind: int, said: bytes) -> Ancillary:
    """Remembered: it is asked for each datagram, and there are as many as this host has addresses."""
    if level == socket.IPPROTO_IPV6:
        return [(level, socket.IPV6_PKTINFO, said[:16] + bytes(4))]  # RFC 3542, section 6
    if sys.platform.startswith("linux"):
        return [(level, kind, bytes(4) + said[4:8] + bytes(4))]  # ip(7): ipi_spec_dst
    return [(level, kind, said)]  # ip(4) of FreeBSD: IP_SENDSRCADDR is the same number


def _tell_where_it_came_in(opened: socket.socket, family: socket.AddressFamily) -> None:
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    elif sys.platform.startswith("linux"):
        opened.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    else:
        opened.setsockopt(socket.IPPROTO_IP, _IP_RECVDSTADDR, 1)


def _let_fragment(opened: socket.socket, family: socket.AddressFamily) -> None:
    """As WireGuard's own datagrams are: what is larger than a link goes in pieces and is not refused.

    FreeBSD does so by itself.
    """
    if not sys.platform.startswith("linux"):
        return
    if family == socket.AF_INET:
        opened.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
    else:
        opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)


def _take_trains(opened: socket.socket) -> None:
    """An older kernel hands over one at a time."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
