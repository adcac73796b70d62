"""An HTTP server for short answers, several addresses at once, that nobody can hold up.

Each request has a connection and a thread of its own. Everything has bounds: the connections of all and of
one client, the size of a head, and how long one may last, however slowly its bytes come. A client that may
not be served is turned away before a byte of it is read.

The application is one of WSGI (PEP 3333), of which it is given what ours read.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from meshd.errors import BackendError
from meshd.http_head import Head, HeadError, read_head

SILENCE_SECONDS: Final = 10.0
PROVE: Final = "meshd.prove"
"""In a request's environment: (client) -> whether it is served, of an application that knows its clients."""
MAX_HEAD_BYTES: Final = 16 * 1024
"""Request line and headers together."""
SEGMENT_BYTES: Final = 1140
"""In an IPv6 packet of 1,200 bytes, which fits into WireGuard over the narrowest underlay of IPv6."""

PLAIN: Final = (("Content-Type", "text/plain; charset=utf-8"),)

_BACKLOG: Final = 64
"""A connection over it is tried again only after a second."""
_STOP_TIMEOUT_SECONDS: Final = 5.0

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class ConnectionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """``total`` and ``each``: open connections of all clients and of one address.

    ``seconds``: the life of one connection, from its first byte to the last of the answer;
    ``head_seconds``: what of that its request's head may take. When there is no room, the oldest connection
    of the address that has most gives way to a new one, and one that has not yet asked before one that has.
    So nobody can keep a client out by connections that say nothing.

    ``proven_each``: an application that knows its clients by more than their address says so of each
    (``PROVE``), and so many of one client are served at once, of all together ``each`` fewer than ``total``.
    These give way to no other ones. When they are as many as they may be, a client that has fewer than
    another takes the place of that one's oldest. So clients who act together leave the others a place.
    """

    total: int = 32
    each: int = 8
    seconds: float = 30.0
    head_seconds: float = 30.0
    proven_each: int = 0


class _Visit(msgspec.Struct):
    """``client``: who it is proven to be, empty until then. ``has_asked``: its request's head was read."""

    address: str
    entered_at: float
    ends_at: float
    client: str = ""
    has_asked: bool = False


class _Doors:
    """Who is in. Entered by the accepting thread, left by the thread of the connection."""

    def __init__(self, limits: ConnectionLimits, admits: Callable[[str, str], bool]) -> None:
        self._limits = limits
        self._admits = admits
        self._lock = threading.Lock()
        self._open: dict[socket.socket, _Visit] = {}

    def enter(self, connection: socket.socket, address: str) -> bool:
        if not self._admits(address, connection.getsockname()[0]):
            return False
        with self._lock:
            if not self._make_room(address):
                return False
            now = time.monotonic()
            self._open[connection] = _Visit(address, now, now + self._limits.head_seconds)
        return True

    def head_read(self, connection: socket.socket) -> None:
        with self._lock:
            if (visit := self._open.get(connection)) is not None:
                visit.ends_at = visit.entered_at + self._limits.seconds
                visit.has_asked = True

    def prove(self, connection: socket.socket, client: str) -> bool:
        """This connection is that client's, and gives way to no nameless one now; False when it has enough of
        them, or when there are too many in all and nobody has more."""
        with self._lock:
            visit = self._open.get(connection)
            proven = Counter(each.client for each in self._open.values() if each.client)
            if visit is None or proven[client] >= self._limits.proven_each:
                return False
            if proven.total() >= self._limits.total - self._limits.each:
                greedy, count = proven.most_common(1)[0]
                if count <= proven[client] + 1:
                    return False
                self._cut_first(lambda other: other.client == greedy)
            visit.client = client
        return True

    def leave(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.pop(connection, None)

    def end_overdue(self) -> float | None:
        """Cut those whose time is over -> seconds until the next is due; None: nobody is in."""
        now = time.monotonic()
        with self._lock:
            for connection, visit in self._open.items():
                if visit.ends_at <= now:
                    _cut(connection)
            left = [visit.ends_at - now for visit in self._open.values()]
        # One that was just cut leaves as soon as its thread notices.
        return max(min(left), 0.1) if left else None

    def _make_room(self, address: str) -> bool:
        """Room for one more of ``address``, if need be by cutting one that is not proven."""
        unproven = Counter(visit.address for visit in self._open.values() if not visit.client)
        if unproven[address] >= self._limits.each:
            return self._cut_oldest(address)
        if len(self._open) < self._limits.total:
            return True
        return bool(unproven) and self._cut_oldest(unproven.most_common(1)[0][0])

    def _cut_oldest(self, address: str) -> bool:
        def gives_way(visit: _Visit) -> bool:
            return visit.address == address and not visit.client

        if self._cut_first(lambda visit: gives_way(visit) and not visit.has_asked):
            return True
        return self._cut_first(gives_way)

    def _cut_first(self, is_meant: Callable[[_Visit], bool]) -> bool:
        """The oldest of these, if there is one."""
        for connection, visit in self._open.items():  # in the order of entering
            if is_meant(visit):
                _cut(connection)
                del self._open[connection]
                return True
        return False


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Body:
    """What follows the head; an application bounds itself how much of it is read."""

    def __init__(self, connection: socket.socket, begun: bytes) -> None:
        self._connection = connection
        self._begun = begun

    def read(self, size: int) -> bytes:
        """So many bytes, or less where the client sends no more. OSError when it takes too long."""
        body, self._begun = bytearray(self._begun[:size]), self._begun[size:]
        while len(body) < size and (piece := self._connection.recv(size - len(body))):
            body += piece
        return bytes(body)


class _Server:
    """One address that is listened on."""

    def __init__(self, address: str, port: int, doors: _Doors, application: Application) -> None:
        """OSError when it cannot be had."""
        self._doors = doors
        self._application = application
        self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        try:
            limit_segments(self._socket)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((address, port))
            self._socket.listen(_BACKLOG)
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise
        place = self._socket.getsockname()
        self.place = str(place[0]), int(place[1])

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def accept(self) -> None:
        """Begin to serve the next client; nothing where it has gone already."""
        try:
            connection, client = self._socket.accept()
        except OSError:
            return
        address, is_served = str(client[0]), False
        # Whatever is wrong with one client, or where no thread can be had, the port stays open.
        with contextlib.suppress(Exception):
            connection.settimeout(SILENCE_SECONDS)
            limit_segments(connection)
            if self._doors.enter(connection, address):
                threading.Thread(target=self._serve, args=(connection, address), daemon=True).start()
                is_served = True
        if not is_served:
            self._end(connection)

    def _serve(self, connection: socket.socket, address: str) -> None:
        try:
            with contextlib.suppress(OSError):  # a client that went away or said nothing is no event
                self._answer(connection, address)
        finally:
            self._end(connection)

    def _end(self, connection: socket.socket) -> None:
        """It has left before its client can know: the next one may come at once."""
        self._doors.leave(connection)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        connection.close()

    def _answer(self, connection: socket.socket, address: str) -> None:
        try:
            head, begun = read_head(connection.recv, MAX_HEAD_BYTES)
            environ = _environ(head, address)
        except HeadError as error:
            _send(connection, error.status, PLAIN, f"{error}\n".encode())
            return
        self._doors.head_read(connection)
        environ["wsgi.input"] = _Body(connection, begun)
        environ[PROVE] = lambda client: self._doors.prove(connection, client)
        said: list[tuple[str, Sequence[tuple[str, str]]]] = []
        try:
            body = b"".join(self._application(environ, lambda status, fields: said.append((status, fields))))
            ((status, fields),) = said
        except Exception:
            _send(connection, "500 Internal Server Error", PLAIN, b"failed\n")
            raise
        _send(connection, status, fields, body, is_head=environ["REQUEST_METHOD"] == "HEAD")


def _environ(head: Head, address: str) -> dict[str, Any]:
    """A request as WSGI has it; HeadError when its first line is none."""
    method, target, protocol, *more = [*head.line.split(" "), "", ""]
    if not (method and target and protocol.startswith("HTTP/1.")) or any(more):
        raise HeadError("400 Bad Request", "a method, a target and HTTP/1.1 expected")
    path, _, query = target.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": unquote(path, "latin-1"),
        "QUERY_STRING": query,
        "REMOTE_ADDR": address,
        "CONTENT_LENGTH": head.fields.get("content-length", ""),
    }
    for name, value in head.fields.items():
        environ["HTTP_" + name.upper().replace("-", "_")] = value
    return environ


def _send(
    connection: socket.socket,
    status: str,
    fields: Iterable[tuple[str, str]],
    body: bytes,
    *,
    is_head: bool = False,
) -> None:
    """The whole answer at once: a packet less at both ends. OSError when the client does not take it."""
    sizes = () if any(name == "Content-Length" for name, _ in fields) else (("Content-Length", len(body)),)
    lines = (f"HTTP/1.0 {status}", *(f"{name}: {value}" for name, value in (*fields, *sizes)))
    left = memoryview("\r\n".join((*lines, "", "")).encode("latin-1") + (b"" if is_head else body))
    while left:  # each piece has its own time, and the doors end it all
        left = left[connection.send(left) :]


class WsgiListener:
    """One thread waits on all addresses; each request has a short-lived one of its own.

    ``admits`` is asked with a client's address and the one that it came to, in the waiting thread, before
    anything is read.
    """

    def __init__(
        self,
        application: Application,
        listen: Iterable[tuple[str, int]],
        *,
        name: str,
        limits: ConnectionLimits,
        admits: Callable[[str, str], bool] = lambda client, place: True,
    ) -> None:
        self._application = application
        self._listen = tuple(listen)
        self._name = name
        self._doors = _Doors(limits, admits)
        self._servers: list[_Server] = []
        self._wake: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """Addresses and ports that are listened on."""
        return tuple(server.place for server in self._servers)

    def start(self) -> None:
        """Raises BackendError when one of the addresses cannot be had; then none is open."""
        try:
            for address, port in self._listen:
                self._servers.append(self._open(address, port))
        except BackendError:
            self._close_servers()
            raise
        ours, theirs = socket.socketpair()
        self._wake = ours
        self._thread = threading.Thread(
            target=_serve, args=(tuple(self._servers), self._doors, theirs), name=self._name, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; a request under way is finished by its own thread."""
        if self._wake is not None:
            self._wake.close()
            self._wake = None
        if self._thread is not None:
            self._thread.join(_STOP_TIMEOUT_SECONDS)
            self._thread = None
        self._close_servers()

    def _open(self, address: str, port: int) -> _Server:
        try:
            return _Server(address, port, self._doors, self._application)
        except OSError as error:
            url = f"http://{render_place(address, port)}"
            raise BackendError(f"{self._name}: cannot listen on {url}: {error.strerror}") from None

    def _close_servers(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()


def limit_segments(connection: socket.socket) -> None:
    """Have TCP send, and on Linux receive, no segment over SEGMENT_BYTES: what hosts tell each other must
    pass before a path's MTU is found, and where it is below IPv6's least.

    Linux heeds it before there is a connection, and a listening socket hands it on. FreeBSD takes no value
    above the present one, which is 536 for IPv4 before there is a connection, and heeds it after.
    """
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)


def render_place(address: str, port: int) -> str:
    """Address and port as a URL has them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _serve(servers: tuple[_Server, ...], doors: _Doors, wake: socket.socket) -> None:
    """Until the other end of ``wake`` is closed."""
    with selectors.DefaultSelector() as selector, wake:
        selector.register(wake, selectors.EVENT_READ)
        for server in servers:
            selector.register(server, selectors.EVENT_READ, server)
        while True:
            for key, _ in selector.select(doors.end_overdue()):
                if key.data is None:
                    return
                key.data.accept()
