"""What tells that somebody changed interfaces, addresses, routes or jails, on each system.

Every source is a descriptor that becomes readable. Reading it says whether the state is worth
reading anew, never what to do.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import struct
import sys
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from meshd.backend.freebsd_changes import ChangeLog

LINK, IPV4_ADDRESS, IPV4_ROUTE, IPV6_ADDRESS, IPV6_ROUTE = 0x1, 0x10, 0x40, 0x100, 0x400
"""RTMGRP_* of linux/rtnetlink.h."""
GROUPS: Final = LINK | IPV4_ADDRESS | IPV4_ROUTE | IPV6_ADDRESS | IPV6_ROUTE
DATAGRAM_BYTES: Final = 65536
ROUTE_PROTOCOL: Final = 77
"""What Linux notes as the writer of our routes; iproute2's rt_protos leaves it free."""

_RTM_NEWROUTE: Final = 24
_ROUTE: Final = struct.Struct("=IH10x5xB6x")
"""Length and type of struct nlmsghdr, and the protocol of struct rtmsg (linux/rtnetlink.h)."""


class Recheck(enum.Flag):
    """What may have changed, and so is worth a look."""

    NONE = 0
    MESH = enum.auto()
    """Interfaces, addresses or routes."""
    JAILS = enum.auto()
    """Which jails there are, and at which addresses."""
    YOUNG = enum.auto()
    """The network stacks of jails that have just started: their addresses come after them."""


class KernelEvent(msgspec.Struct, frozen=True):
    """``later``: what is to be looked at again in a few seconds, because what was announced takes as long
    to be complete. ``what``: the last thing worth a look, for the log."""

    recheck: Recheck
    what: str = ""
    later: Recheck = Recheck.NONE

    def __or__(self, other: KernelEvent) -> KernelEvent:
        """Both; of words the later ones that say something."""
        return KernelEvent(self.recheck | other.recheck, other.what or self.what, self.later | other.later)


class EventSource(Protocol):
    def fileno(self) -> int: ...

    def take(self) -> KernelEvent:
        """Read all that is there, without waiting; never raises for what it reads."""

    def close(self) -> None: ...


class RtnetlinkEvents:
    """Linux: rtnetlink(7). OSError when the system refuses."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        try:
            self._socket.bind((0, GROUPS))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def take(self) -> KernelEvent:
        news = KernelEvent(Recheck.NONE)
        try:
            while datagram := self._socket.recv(DATAGRAM_BYTES):
                if not is_own_work(datagram):
                    news = KernelEvent(Recheck.MESH, "rtnetlink")
        except BlockingIOError:
            return news
        except OSError:  # some were missed (ENOBUFS): a reason to look all the same
            pass
        return KernelEvent(Recheck.MESH, "rtnetlink")

    def close(self) -> None:
        self._socket.close()


def is_own_work(datagram: bytes) -> bool:
    """Whether it tells of nothing but routes of ours that came: the look after the plan has seen these.

    One of ours that goes is news, as somebody else may have taken it away.
    """
    offset = 0
    while offset < len(datagram):
        if len(datagram) - offset < _ROUTE.size:
            return False
        length, kind, protocol = _ROUTE.unpack_from(datagram, offset)
        if kind != _RTM_NEWROUTE or protocol != ROUTE_PROTOCOL or length < _ROUTE.size:
            return False
        offset += (length + 3) & ~3
    return True


def open_event_sources(changes: ChangeLog | None = None) -> list[EventSource]:
    """Those that this system has; one that it refuses is left out, the regular look finds it all.

    ``changes``: what is to know of everything that FreeBSD's routing socket tells.
    """
    sources: list[EventSource] = []
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            sources.append(RtnetlinkEvents())
    elif sys.platform.startswith("freebsd"):
        from meshd.backend.freebsd_events import JailEvents, RouteEvents

        with contextlib.suppress(OSError):
            sources.append(JailEvents.open())
        hears_jails = bool(sources)
        with contextlib.suppress(OSError):
            sources.append(RouteEvents.open(changes, hears_jails=hears_jails))
    return sources
