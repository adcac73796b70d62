"""What tells that somebody changed interfaces, addresses, routes or jails, on each system.

Every source is a descriptor that becomes readable. Reading it says whether the state is worth
reading anew, never what to do.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import sys
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from meshd.backend.freebsd_changes import ChangeLog

LINK, IPV4_ADDRESS, IPV4_ROUTE, IPV6_ADDRESS, IPV6_ROUTE = 0x1, 0x10, 0x40, 0x100, 0x400
"""RTMGRP_* of linux/rtnetlink.h."""
GROUPS: Final = LINK | IPV4_ADDRESS | IPV4_ROUTE | IPV6_ADDRESS | IPV6_ROUTE
DATAGRAM_BYTES: Final = 65536


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
        # No more (EAGAIN), or some were missed (ENOBUFS): a reason to look all the same.
        with contextlib.suppress(OSError):
            while self._socket.recv(DATAGRAM_BYTES):
                pass
        return KernelEvent(Recheck.MESH, "rtnetlink")

    def close(self) -> None:
        self._socket.close()


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
