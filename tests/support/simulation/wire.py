"""Carries the exchange's requests over the tunnels, to the server object of the host that is called."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from meshd.exchange.messages import MAX_ANSWER_BYTES
from meshd.exchange.server import ExchangeServer
from meshd.exchange.wire import SocketAddress, WireAnswer, WireError
from simulation.tunnels import Kernel, Tunnels

HEADERS_BYTES = 200
"""About what the heads of a request and its answer have."""


@dataclass(slots=True)
class Traffic:
    """Requests by verb, and bytes of the requests and answers."""

    requests: Counter[str] = field(default_factory=Counter)
    transferred: Counter[str] = field(default_factory=Counter)


class Wires:
    """What all hosts of a fleet are called by."""

    def __init__(self, tunnels: Tunnels, clock: Callable[[], float]) -> None:
        self.tunnels = tunnels
        self.clock = clock
        self.servers: dict[SocketAddress, ExchangeServer] = {}
        self.traffic = Traffic()

    def of(self, kernel: Kernel) -> MeshWire:
        return MeshWire(self, kernel)


@dataclass(slots=True)
class _Listening:
    wires: Wires
    server: ExchangeServer
    places: tuple[SocketAddress, ...]

    def close(self) -> None:
        for place in self.places:
            if self.wires.servers.get(place) is self.server:
                del self.wires.servers[place]


class MeshWire:
    """``meshd.exchange.wire.Wire`` for one host."""

    def __init__(self, wires: Wires, kernel: Kernel) -> None:
        self._wires = wires
        self._kernel = kernel

    def listen(self, server: ExchangeServer, places: Sequence[SocketAddress]) -> _Listening:
        for place in places:
            self._wires.servers[place] = server
        return _Listening(self._wires, server, tuple(places))

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
        wires = self._wires
        server = wires.servers.get(place)
        if server is None or not wires.tunnels.reaches(self._kernel, place[0], wires.clock()):
            raise WireError("no whole answer in time")
        if source is None or not server.admits(source):
            raise WireError("connection closed")
        verb = path.rpartition("/")[2]
        answer = _call(server, path, header, body, source, answer_header)
        wires.traffic.requests[verb] += 1
        wires.traffic.transferred[verb] += len(body) + len(answer.body) + HEADERS_BYTES
        return answer


def _call(
    server: ExchangeServer, path: str, header: tuple[str, str], body: bytes, source: str, answer_header: str
) -> WireAnswer:
    heads: list[tuple[str, dict[str, str]]] = []

    def start_response(status: str, headers: Sequence[tuple[str, str]], exc_info: Any = None) -> None:
        heads.append((status, dict(headers)))

    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "REMOTE_ADDR": source,
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_" + header[0].upper().replace("-", "_"): header[1],
        "wsgi.input": io.BytesIO(body),
    }
    content = b"".join(server(environ, start_response))
    ((status, headers),) = heads
    return WireAnswer(
        status=int(status.split()[0]),
        header=headers.get(answer_header),
        body=content[: MAX_ANSWER_BYTES + 1],
        missing_bytes=0,
    )
