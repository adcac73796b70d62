"""The standard library's HTTP server, several addresses at once, that nobody can hold up.

``wsgiref`` answers the requests. What is added are bounds: on the connections of all and of one
client, and on how long one may last, however slowly its bytes come. A client that may not be
served is turned away before a byte of it is read.
"""

from __future__ import annotations

import contextlib
import io
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from http.client import HTTPException
from socketserver import ThreadingMixIn
from types import ModuleType
from typing import Any, Final

import msgspec

from meshd.errors import BackendError
from meshd.lean import instead_of

SILENCE_SECONDS: Final = 10.0
PROVE: Final = "meshd.prove"
"""In a request's environment: (client) -> whether it is served, of an application that knows its clients."""
MAX_HEAD_BYTES: Final = 16 * 1024
"""Request line and headers together. The library would take a hundred lines of 64 KiB from each client."""
WRITE_BYTES: Final = 16 * 1024
"""The library writes an answer line by line. Gathered it is one packet and not five, at both ends."""
SEGMENT_BYTES: Final = 1140
"""In an IPv6 packet of 1,200 bytes, which fits into WireGuard over the narrowest underlay of IPv6."""

_STOP_TIMEOUT_SECONDS: Final = 5.0


class _Html(ModuleType):
    """What http.server takes of the library's html, without the 2,231 names of characters: 0.5 MiB."""

    @staticmethod
    def escape(text: str, quote: bool = True) -> str:
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return text.replace('"', "&quot;").replace("'", "&#x27;") if quote else text


with instead_of("html", _Html("html")):
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

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


class _BoundedHead(io.BufferedReader):
    """A connection's bytes, of which only so many may be read as lines: those of the head.

    The library reads the head line by line and the application the body by size, which it bounds itself.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__(raw)
        self._left = MAX_HEAD_BYTES

    def readline(self, size: int | None = -1) -> bytes:
        """HTTPException, which the library answers with 431, when the head is over its size."""
        wanted = self._left + 1 if size is None or size < 0 else min(size, self._left + 1)
        line = super().readline(wanted)
        self._left -= len(line)
        if self._left < 0:
            raise HTTPException(f"over {MAX_HEAD_BYTES} bytes of headers")
        return line


class _Handler(WSGIRequestHandler):
    timeout = SILENCE_SECONDS
    wbufsize = WRITE_BYTES

    def setup(self) -> None:
        super().setup()
        self.rfile = _BoundedHead(socket.SocketIO(self.connection, "r"))

    server: _Server

    def get_environ(self) -> dict[str, Any]:
        """Called when the head is read."""
        doors, connection = self.server.doors, self.connection
        doors.head_read(connection)
        return {**super().get_environ(), PROVE: lambda client: doors.prove(connection, client)}

    def log_message(self, format: str, *args: Any) -> None:
        """A request is no event."""


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


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    timeout = 0
    # A connection over the backlog is tried again only after a second.
    request_queue_size = 64

    def __init__(self, address: str, port: int, doors: _Doors) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.doors = doors
        super().__init__((address, port), _Handler)
        self.socket.setblocking(False)

    def server_bind(self) -> None:
        """Without http.server's reverse look-up of the address."""
        limit_segments(self.socket)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        limit_segments(request)
        return self.doors.enter(request, client_address[0])

    def shutdown_request(self, request: Any) -> None:
        self.doors.leave(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away or said nothing is no event either."""


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
        return tuple((server.server_name, server.server_port) for server in self._servers)

    def start(self) -> None:
        """Raises BackendError when one of the addresses cannot be had; then none is open."""
        try:
            for address, port in self._listen:
                self._servers.append(self._open(address, port))
        except BackendError:
            self._close_servers()
            raise
        for server in self._servers:
            server.set_app(self._application)
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
            return _Server(address, port, self._doors)
        except OSError as error:
            url = f"http://{render_place(address, port)}"
            raise BackendError(f"{self._name}: cannot listen on {url}: {error.strerror}") from None

    def _close_servers(self) -> None:
        for server in self._servers:
            server.server_close()
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
                key.data.handle_request()
