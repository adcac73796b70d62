"""Connections whose every request ends in time, whatever the other side does.

Time-outs of sockets bound the wait for the next byte only, so a server that sends one byte a second could
hold a reader for hours. Here the connection itself knows the deadline of its request.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from urllib3.connection import HTTPConnection

CONNECT_TIMEOUT_SECONDS: Final = 3.0
READ_TIMEOUT_SECONDS: Final = 10.0
REQUEST_TIMEOUT_SECONDS: Final = 15.0


class _DeadlineReader(io.RawIOBase):
    """The read side of a socket; every read waits for the next byte or the deadline, the nearer."""

    def __init__(self, connection: _DeadlineSocket) -> None:
        self._connection = connection
        self._raw = connection.socket.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._connection.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the whole answer took too long")
        self._connection.socket.settimeout(min(left, self._connection.read_timeout))
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _DeadlineSocket:
    """A connected socket (plain or TLS) whose answers are read by a _DeadlineReader."""

    def __init__(self, socket: Any, timeouts: Timeouts, deadline: float) -> None:
        self.socket = socket
        self.read_timeout = timeouts.read_seconds
        self.deadline = deadline

    def makefile(self, *_args: Any, **_options: Any) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.socket, name)


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """``connect_seconds`` to connect, ``read_seconds`` between bytes, ``request_seconds`` for all of it,
    whatever is repeated."""

    connect_seconds: float = CONNECT_TIMEOUT_SECONDS
    read_seconds: float = READ_TIMEOUT_SECONDS
    request_seconds: float = REQUEST_TIMEOUT_SECONDS


def deadline_connection_class(
    base: type[HTTPConnection], timeouts: Timeouts, deadline: Callable[[], float] | None = None
) -> type[HTTPConnection]:
    """A connection of urllib3 whose every request ends by ``deadline()``, an instant of the monotonic
    clock; None: within ``timeouts.request_seconds``."""
    ends = deadline or (lambda: time.monotonic() + timeouts.request_seconds)

    class DeadlineConnection(base):  # type: ignore[misc, valid-type]
        sock: Any

        def connect(self) -> None:
            super().connect()
            self.sock = _DeadlineSocket(self.sock, timeouts, ends())

        def _tunnel(self) -> None:
            # http.client reads a proxy's answer as long as each of its bytes comes in time.
            plain, self.sock = self.sock, _DeadlineSocket(self.sock, timeouts, ends())
            super()._tunnel()
            plain.settimeout(timeouts.connect_seconds)
            self.sock = plain

        def request(self, *args: Any, **options: Any) -> None:
            if isinstance(self.sock, _DeadlineSocket):
                self.sock.deadline = ends()
            super().request(*args, **options)

    return DeadlineConnection
