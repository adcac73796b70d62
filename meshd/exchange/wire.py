"""What carries the exchange's requests: HTTP over the mesh, each call with an end."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from meshd.exchange.messages import MAX_ANSWER_BYTES
from meshd.exchange.server import LIMITS, ExchangeServer
from meshd.http_head import HeadError, Receive, read_head
from meshd.listener import MAX_HEAD_BYTES, WsgiListener, limit_segments, render_place

CONNECT_SECONDS: Final = 3.0
END_SECONDS: Final = 0.1
"""How long a call waits for the other end to close once the answer is there."""

RECEIVE_BYTES: Final = 64 * 1024

SocketAddress = tuple[str, int]


class WireError(Exception):
    """There is no answer; the text says why."""


class WireAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back."""

    status: int
    """As in HTTP."""
    header: str | None
    """The value of the header that was asked for."""
    body: bytes
    """At most one byte more than an answer may have."""
    missing_bytes: int
    """So many more were announced and did not come."""


class OpenListener(Protocol):
    """A server that is called until ``close``."""

    @property
    def places(self) -> tuple[SocketAddress, ...]:
        """Where it is called."""

    def close(self) -> None:
        """Take no more calls; may wait for a moment."""


class Wire(Protocol):
    """Carries requests from one host to another, and back their answers."""

    def post(
        self,
        place: SocketAddress,
        path: str,
        header: tuple[str, str],
        body: bytes,
        *,
        source: str | None,
        seconds: float,
        answer_header: str,
    ) -> WireAnswer:
        """Ask, from any thread.

        Args:
            source: the address to call from; None: the system's choice.
            seconds: the end of it all.
            answer_header: the one that is wanted of the answer.

        Raises:
            WireError: nobody answers, not in time, or not as HTTP has it.
        """

    def listen(self, server: ExchangeServer, places: Sequence[SocketAddress]) -> OpenListener:
        """Have calls to these places answered. BackendError where it cannot listen."""


def _connect(place: SocketAddress, source: str | None, seconds: float) -> socket.socket:
    """OSError where nobody answers."""
    timed = socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        timed.settimeout(min(seconds, CONNECT_SECONDS))
        limit_segments(timed)
        timed.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source is not None:
            timed.bind((source, 0))
        timed.connect(place)
        limit_segments(timed)
    except OSError:
        timed.close()
        raise
    return timed


def _until(connection: socket.socket, ends_at: float) -> Receive:
    """Reads that end at one instant, however slowly the bytes come."""

    def receive(size: int) -> bytes:
        left = ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        connection.settimeout(left)
        return connection.recv(size)

    return receive


def _read_answer(receive: Receive, answer_header: str) -> WireAnswer:
    """HeadError for what is no answer."""
    head, body = read_head(receive, MAX_HEAD_BYTES)
    protocol, status, *_ = [*head.line.split(" ", 2), ""]
    length = head.fields.get("content-length", "")
    if not protocol.startswith("HTTP/1.") or not (len(status) == 3 and status.isascii() and status.isdigit()):
        raise HeadError("502 Bad Gateway", f"{head.line[:40]!r} seen")
    if "transfer-encoding" in head.fields or not (length.isascii() and length.isdigit()) or len(length) > 12:
        raise HeadError("502 Bad Gateway", f"Content-Length {length[:40]!r} seen")
    pieces, missing = [body], int(length) - len(body)
    wanted = missing - max(int(length) - MAX_ANSWER_BYTES - 1, 0)
    while wanted > 0 and (piece := receive(min(wanted, RECEIVE_BYTES))):
        pieces.append(piece)
        wanted -= len(piece)
        missing -= len(piece)
    return WireAnswer(
        status=int(status),
        body=b"".join(pieces)[: min(int(length), MAX_ANSWER_BYTES + 1)],
        header=head.fields.get(answer_header.lower()),
        missing_bytes=max(missing, 0),
    )


def _wait_for_end(connection: socket.socket) -> None:
    """Until the other end has closed: as long as it has not, this call counts against the few that it serves
    at once, and the next one may be refused. Not for long, as one that never closes does no harm."""
    connection.settimeout(END_SECONDS)
    with contextlib.suppress(OSError):
        connection.recv(1)


def _render(place: SocketAddress, path: str, header: tuple[str, str], body: bytes) -> bytes:
    """The whole request, for one write: a head that is sent by itself is a packet more.

    No header that nobody reads: parsing them is a good part of what a call costs.
    """
    lines = (
        f"POST {path} HTTP/1.1",
        f"Host: {render_place(*place)}",
        ": ".join(header),
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*lines, "", "")).encode("ascii") + body


class HttpWire:
    """HTTP/1 over TCP, a connection for each request."""

    def post(
        self,
        place: SocketAddress,
        path: str,
        header: tuple[str, str],
        body: bytes,
        *,
        source: str | None,
        seconds: float,
        answer_header: str,
    ) -> WireAnswer:
        """See ``Wire``."""
        ends_at = time.monotonic() + seconds
        try:
            with _connect(place, source, seconds) as connection:
                connection.settimeout(max(ends_at - time.monotonic(), 0.001))
                connection.sendall(_render(place, path, header, body))
                answer = _read_answer(_until(connection, ends_at), answer_header)
                _wait_for_end(connection)
                return answer
        except TimeoutError:
            raise WireError("no whole answer in time") from None
        except OSError as error:
            raise WireError(str(error.strerror or error)) from None
        except HeadError as error:
            raise WireError(f"not HTTP: {error}") from None

    def listen(self, server: ExchangeServer, places: Sequence[SocketAddress]) -> OpenListener:
        """See ``Wire``. Each request has a thread of its own."""
        listener = WsgiListener(
            server,
            places,
            name="exchange",
            limits=LIMITS,
            admits=lambda client, _: server.admits(client),
        )
        listener.start()
        return listener
