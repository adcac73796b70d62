"""Servers on loopback that answer as no server should."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ENDLESS_SECONDS = 60.0


@contextmanager
def answering(respond: Callable[[bytes], bytes]) -> Iterator[str]:
    """Answers each connection's first words and closes."""

    def serve(channel: socket.socket) -> None:
        said = channel.recv(65536)
        if b"Content-Length: 5" in said and said.endswith(b"\r\n\r\n"):
            said += channel.recv(65536)
        channel.sendall(respond(said))

    with _serving(serve) as place:
        yield place


@contextmanager
def streaming(head: bytes, piece: bytes, *, pause_seconds: float = 0.0) -> Iterator[str]:
    """Says ``head``, and then ``piece`` again and again until it is cut off."""

    def serve(channel: socket.socket) -> None:
        channel.sendall(head)
        ends_at = time.monotonic() + ENDLESS_SECONDS
        while time.monotonic() < ends_at:
            channel.sendall(piece)
            time.sleep(pause_seconds)

    with _serving(serve) as place:
        yield place


def http(status: str, body: str | bytes) -> bytes:
    said = body.encode() if isinstance(body, str) else body
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(said)}\r\nConnection: close\r\n\r\n".encode() + said


@contextmanager
def _serving(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                channel, _ = server.accept()
            except OSError:
                return
            with channel, contextlib.suppress(OSError):
                channel.settimeout(5)
                serve(channel)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)
