"""What tells that somebody changed interfaces, addresses, routes or jails, on each system.

Every source is a descriptor that becomes readable. Reading it says whether the state is worth
reading anew, never what to do.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import sys
from dataclasses import dataclass
from typing import Final, Protocol

LINK, IPV4_ADDRESS, IPV4_ROUTE, IPV6_ADDRESS, IPV6_ROUTE = 0x1, 0x10, 0x40, 0x100, 0x400
"""RTMGRP_* of linux/rtnetlink.h."""
GROUPS: Final = LINK | IPV4_ADDRESS | IPV4_ROUTE | IPV6_ADDRESS | IPV6_ROUTE
DATAGRAM_BYTES: Final = 65536


class Recheck(enum.IntEnum):
    """What a source advises. SEVERAL: what was announced takes seconds to be complete, as a jail
    that starts, so look now and again a little later."""

    NONE = 0
    ONCE = 1
    SEVERAL = 2


@dataclass(frozen=True, slots=True)
class KernelEvent:
    """``what``: the last thing worth a look, for the log."""

    recheck: Recheck
    what: str = ""


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
        return KernelEvent(Recheck.ONCE, "rtnetlink")

    def close(self) -> None:
        self._socket.close()


def open_event_sources() -> list[EventSource]:
    """Those that this system has; one that it refuses is left out, the regular look finds it all."""
    sources: list[EventSource] = []
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            sources.append(RtnetlinkEvents())
    elif sys.platform.startswith("freebsd"):
        from meshd.backend.freebsd_events import JailEvents, RouteEvents

        for opener in (RouteEvents.open, JailEvents.open):
            with contextlib.suppress(OSError):
                sources.append(opener())
    return sources
