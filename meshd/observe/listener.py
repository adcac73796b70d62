"""Prometheus's WSGI application on the standard library's HTTP server, several addresses at once.

prometheus_client's ``start_http_server`` looks every address up in the DNS before it listens,
wakes up twice a second per address, and lets a client that says nothing hold a thread for
ever. This is the same server and the same application without those three.
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client.exposition import make_wsgi_app
from prometheus_client.registry import CollectorRegistry

from meshd.errors import BackendError

CLIENT_TIMEOUT_SECONDS: Final = 10.0
_STOP_TIMEOUT_SECONDS: Final = 5.0

_Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_TIMEOUT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """A scrape is no event."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    timeout = 0

    def __init__(self, address: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), _Handler)
        self.socket.setblocking(False)

    def server_bind(self) -> None:
        """Without http.server's reverse look-up of the address."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away or said nothing is no event either."""


class MetricsListener:
    """One thread waits on all addresses; each request has a short-lived one of its own."""

    def __init__(self, registry: CollectorRegistry, listen: tuple[tuple[str, int], ...]) -> None:
        self._application = _guard(make_wsgi_app(registry))
        self._listen = listen
        self._servers: list[_Server] = []
        self._wake: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(_url(server.server_name, server.server_port) for server in self._servers)

    def start(self) -> None:
        """Raises BackendError when one of the addresses cannot be had; then none is open."""
        try:
            for address, port in self._listen:
                self._servers.append(_open(address, port))
        except BackendError:
            self._close_servers()
            raise
        for server in self._servers:
            server.set_app(self._application)
        ours, theirs = socket.socketpair()
        self._wake = ours
        self._thread = threading.Thread(
            target=_serve, args=(tuple(self._servers), theirs), name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        if self._wake is not None:
            self._wake.close()
            self._wake = None
        if self._thread is not None:
            self._thread.join(_STOP_TIMEOUT_SECONDS)
            self._thread = None
        self._close_servers()

    def _close_servers(self) -> None:
        for server in self._servers:
            server.server_close()
        self._servers.clear()


def _open(address: str, port: int) -> _Server:
    try:
        return _Server(address, port)
    except OSError as error:
        raise BackendError(f"metrics: cannot listen on {_url(address, port)}: {error.strerror}") from None


def _serve(servers: tuple[_Server, ...], wake: socket.socket) -> None:
    """Until the other end of ``wake`` is closed."""
    with selectors.DefaultSelector() as selector, wake:
        selector.register(wake, selectors.EVENT_READ)
        for server in servers:
            selector.register(server, selectors.EVENT_READ, server)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    return
                key.data.handle_request()


def _guard(application: _Application) -> _Application:
    """Whatever keeps the Status from being had, the scraper gets an answer that says so."""

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            return application(environ, start_response)
        except Exception as error:
            start_response("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"no metrics now: {type(error).__name__}\n".encode()]

    return guarded


def _url(address: str, port: int) -> str:
    return f"http://[{address}]:{port}/metrics" if ":" in address else f"http://{address}:{port}/metrics"
