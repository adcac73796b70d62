"""What a service may do to who asks it: send its answer a byte at a time, for ever."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.model.service import HealthCheck
from meshd.services.actions import run
from meshd.services.health import works
from meshd.services.plan import HttpCall, HttpGet, Probe, RedisCall, SocketAsk
from meshd.services.pushes import Request, send

SECONDS = 0.2
PAUSE_SECONDS = 0.02


class Slow:
    """Answers whoever comes with ``head`` and then a byte each ``PAUSE_SECONDS``, until it is cut off."""

    def __init__(self, family: socket.AddressFamily, place: str | tuple[str, int], head: bytes) -> None:
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.bind(place)
        self._listener.listen()
        self._head = head
        self.was_cut = threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    @property
    def place(self) -> str:
        address, port = self._listener.getsockname()
        return f"{address}:{port}"

    def _serve(self) -> None:
        with self._listener, contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            with connection:
                connection.sendall(self._head)
                ends_at = time.monotonic() + 10
                while time.monotonic() < ends_at:
                    try:
                        connection.sendall(b"a")
                    except OSError:
                        self.was_cut.set()
                        return
                    time.sleep(PAUSE_SECONDS)


@contextlib.contextmanager
def slow(head: bytes = b"", path: Path | None = None) -> Iterator[Slow]:
    """On a port of loopback, or a socket in a directory."""
    if path is not None:
        server = Slow(socket.AF_UNIX, str(path), head)
    else:
        server = Slow(socket.AF_INET, ("127.0.0.1", 0), head)
    yield server
    assert server.was_cut.wait(20), "it was left while it went on sending"
    server.thread.join(20)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX: "])
def test_a_check_of_a_slow_service_fails_in_its_time_and_keeps_no_other_waiting(head: bytes) -> None:
    check = HealthCheck(kind="http", port=None, path="/health")
    with slow(head) as server:
        address, _, port = server.place.partition(":")
        assert not works(check, address, int(port), SECONDS)


@pytest.mark.parametrize("kind", ["get", "call", "redis", "socket"])
@pytest.mark.slow
def test_what_a_module_asks_ends_in_its_time(kind: str, tmp_path: Path) -> None:
    """Also where all that came fits: it is no whole answer."""
    path = tmp_path / "asked" if kind == "socket" else None
    head = {"redis": b"$100000\r\n", "socket": b"pid: 7"}.get(kind, b"HTTP/1.1 200 OK\r\n\r\nfine ")
    with slow(head, path) as server:
        asked: dict[str, Probe | HttpCall | RedisCall] = {
            "socket": SocketAsk(target=str(path), send="info", expect=("pid",), timeout_seconds=SECONDS),
        }
        if path is None:
            url = f"http://{server.place}/"
            asked |= {
                "get": HttpGet(url=url, expect=("fine",), timeout_seconds=SECONDS),
                "call": HttpCall(url=url, method="POST", timeout_seconds=SECONDS),
                "redis": RedisCall(target=server.place, commands=(("PING",),), timeout_seconds=SECONDS),
            }
        assert "no whole answer within 0.2 s" in str(run(asked[kind], {}))


@pytest.mark.slow
def test_a_webhook_that_answers_slowly_was_not_told() -> None:
    with slow(b"HTTP/1.1 200 OK\r\n\r\n") as server:
        answer = send(Request(url=f"http://{server.place}/", shown="a webhook"), SECONDS)
        assert "no whole answer" in str(answer.problem) and not answer.reached
