"""The relay's sockets: what a system refuses them, and what it gives instead."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from meshd.relay import sockets

FREEBSD_MOST = (2 << 20) * 2048 // 2304
"""With kern.ipc.maxsockbuf at 2 MiB (sb_max_adj, uipc_sockbuf.c)."""


def test_a_system_that_refuses_a_large_buffer_gives_the_largest_that_it_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """FreeBSD gives nothing at all of what is too much, and a burst would find 41 KiB."""
    given: dict[int, int] = {}

    class Strict(socket.socket):
        def setsockopt(self, level: int, option: int, value: Any) -> None:  # type: ignore[override]
            if level == socket.SOL_SOCKET and option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                if value > FREEBSD_MOST:
                    raise OSError(errno.ENOBUFS, "No buffer space available")
                given[option] = value
            super().setsockopt(level, option, value)

    monkeypatch.setattr("meshd.relay.sockets.socket.socket", Strict)
    opened = sockets._open(socket.AF_INET, "127.0.0.1", 0)
    opened.close()
    assert given == {socket.SO_RCVBUF: 1 << 20, socket.SO_SNDBUF: 1 << 20}
