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
        if environ["PATH_INFO"] == "/defect":
            raise LookupError
        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/echo":
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            said = (environ[name] for name in ("REQUEST_METHOD", "QUERY_STRING", "HTTP_X_ONE"))
            return [" ".join(said).encode(), b" ", body]
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


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET / <script>&'\" HTTP/1.0",
        b"GET /",
        b"<script> HTTP/1.1",
        b"GET / HTTP/2.0",
        b"",
        b"GET  / HTTP/1.1",
    ],
)
def test_a_request_that_is_none_is_refused_and_none_of_its_words_come_back(
    port: Port, request_line: bytes
) -> None:
    with port.say(request_line + b"\r\n\r\n") as client:
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.0 400 ") and b"script" not in answer


def test_a_head_and_a_body_in_single_bytes_are_one_request(port: Port) -> None:
    with port.say(b"") as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"POST /echo?a=b HTTP/1.1\r\nX-One: 1\r\nx-one:2\r\nContent-Length: 5\r\n\r\nhello":
            client.sendall(bytes((byte,)))
        answer = client.makefile("rb").read()
    assert answer.endswith(b"\r\n\r\nPOST a=b 1,2 hello")


def test_a_question_for_the_head_alone_is_answered_without_a_body(port: Port) -> None:
    with port.say(b"HEAD / HTTP/1.1\r\n\r\n") as client:
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n") and answer.endswith(b"\r\nContent-Length: 4\r\n\r\n")


def test_a_defect_of_what_answers_costs_that_request_and_no_other(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    defects: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda seen: defects.append(seen.exc_type))
    with port.say(b"GET /defect HTTP/1.1\r\n\r\n") as client:
        assert client.makefile("rb").read().startswith(b"HTTP/1.0 500 ")
    wait_until("the defect is reported", lambda: defects == [LookupError])
    assert port.ask() == 200
