"""Who gives way when a listener has no more room."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from until import wait_until

from meshd.listener import ConnectionLimits, WsgiListener

ROOM = 4


class Port:
    """``/slow`` is answered when the test says so."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.begun = 0
        limits = ConnectionLimits(total=ROOM, each=ROOM, seconds=60.0, head_seconds=60.0)
        self.listener = WsgiListener(self.serve, (("127.0.0.1", 0),), name="test", limits=limits)
        self.listener.start()
        self.address = self.listener.places[0]

    def serve(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/slow":
            self.begun += 1
            self.go_on.wait(60)
        start_response("200 OK", [])
        return [b"here"]

    def say(self, words: bytes) -> socket.socket:
        client = socket.create_connection(self.address, timeout=20)
        client.sendall(words)
        return client

    def ask(self) -> int:
        connection = http.client.HTTPConnection(*self.address, timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            return connection.getresponse().status


@pytest.fixture
def port() -> Iterator[Port]:
    port = Port()
    yield port
    port.go_on.set()
    port.listener.close()


def test_requests_that_take_no_answer_keep_no_newer_one_out(port: Port) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(ROOM):
            stack.enter_context(port.say(b"GET /slow HTTP/1.0\r\n\r\n"))
        wait_until("all are asked", lambda: port.begun == ROOM)
        assert port.ask() == 200


def test_connections_that_say_nothing_give_way_before_those_that_asked(port: Port) -> None:
    with port.say(b"GET /slow HTTP/1.0\r\n\r\n") as first, contextlib.ExitStack() as stack:
        wait_until("it is asked", lambda: port.begun == 1)
        for _ in range(2 * ROOM):
            stack.enter_context(port.say(b"GET /"))
        assert port.ask() == 200
        port.go_on.set()
        assert first.makefile("rb").read().endswith(b"here")


def test_a_request_that_is_none_is_answered_with_its_own_words_escaped(port: Port) -> None:
    with port.say(b"GET / <script>&'\" HTTP/1.0\r\n\r\n") as client:
        answer = client.makefile("rb").read()
    assert (
        b"400" in answer
        and b"&lt;script&gt;&amp;" in answer
        and b"<script>" not in answer.partition(b"\r\n\r\n")[2]
    )
