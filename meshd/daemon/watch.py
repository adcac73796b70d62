"""Wakes the daemon when somebody changes interfaces, addresses or routes under it.

Only a wake-up: what changed is read by the next turn. Linux tells by rtnetlink(7); elsewhere
the turn that comes every few seconds finds it. Our own changes wake us too; the turn after
them finds nothing to do, so it ends there.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable
from typing import Final

LINK, IPV4_ADDRESS, IPV4_ROUTE, IPV6_ADDRESS, IPV6_ROUTE = 0x1, 0x10, 0x40, 0x100, 0x400
"""RTMGRP_* of linux/rtnetlink.h."""
GROUPS: Final = LINK | IPV4_ADDRESS | IPV4_ROUTE | IPV6_ADDRESS | IPV6_ROUTE
DATAGRAM_BYTES: Final = 65536
SETTLE_SECONDS: Final = 0.05
"""Changes come in bunches: a lost interface takes its addresses and routes with it."""
LEAST_PAUSE_SECONDS: Final = 1.0
"""A host that speaks BGP sees thousands of changes that are not ours: one look a second at most."""


class KernelWatch:
    """Calls back on the event loop soon after a change; no socket, no calls."""

    def __init__(self) -> None:
        self._wake: Callable[[], None] | None = None
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._woken_at = 0.0

    def start(self, wake: Callable[[], None]) -> None:
        """Listen, where the system can tell; a system that refuses is as one that cannot."""
        self._wake = wake
        if not sys.platform.startswith("linux"):
            return
        with contextlib.suppress(OSError):
            kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
            opened = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
            try:
                opened.bind((0, GROUPS))
            except OSError:
                opened.close()
                raise
            self._socket = opened
            asyncio.get_running_loop().add_reader(opened.fileno(), self._changed)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _changed(self) -> None:
        assert self._socket is not None
        try:
            while self._socket.recv(DATAGRAM_BYTES):
                pass
        except OSError:
            pass  # no more (EAGAIN), or some were missed (ENOBUFS): a reason to look all the same
        if self._timer is None:
            loop = asyncio.get_running_loop()
            at = max(loop.time() + SETTLE_SECONDS, self._woken_at + LEAST_PAUSE_SECONDS)
            self._timer = loop.call_at(at, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._woken_at = asyncio.get_running_loop().time()
        if self._wake is not None:
            self._wake()
