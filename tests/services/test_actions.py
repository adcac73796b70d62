"""Questions to running services: what counts as an answer, and what an odd one does."""

from __future__ import annotations

import socket
import struct

import pytest
from hostile_servers import answering, http

from meshd.services.actions import run
from meshd.services.dns_query import parse_answer
from meshd.services.plan import Command, DnsAsk, HttpCall, HttpGet, RedisCall, SocketAsk


def test_an_answer_must_have_the_status_and_the_words() -> None:
    with answering(lambda _: http("200 OK", '{"status": "healthy", "generation": 42}')) as place:
        url = f"http://{place}/health"
        assert run(HttpGet(url=url, expect=("healthy",)), {}) is None
        assert run(HttpGet(url=url, expect=('generation": {generation}',)), {}, fill="42") is None
        assert "'gone' expected" in (run(HttpGet(url=url, expect=("gone",)), {}) or "")
        assert "healthy" in (run(HttpGet(url=url, refuse="health.*"), {}) or "")
        assert "status 200 seen, 503 expected" in (run(HttpGet(url=url, status=(503,)), {}) or "")


def test_a_command_of_another_user_is_run_as_whom_the_jail_knows_by_that_name() -> None:
    """jexec(8): -U, before the jail's name."""
    who = Command(argv=("psql",), user="postgres", expect=("-l -U postgres pg psql",))
    assert run(who, {}, prefix=("/bin/echo", "-l", "pg")) is None


@pytest.mark.root
def test_a_command_of_another_user_is_run_as_that_one() -> None:
    assert run(Command(argv=("id", "-un"), user="nobody", expect=("nobody",)), {}) is None
    problem = run(Command(argv=("id",), user="no-such-user"), {})
    assert problem == "id: user 'no-such-user': not known on this host"


def test_a_call_sends_its_body_and_its_secret_and_shows_neither() -> None:
    heard: list[bytes] = []

    def respond(said: bytes) -> bytes:
        heard.append(said)
        return http("401 Unauthorized", "no")

    with answering(respond) as place:
        call = HttpCall(method="POST", url=f"http://{place}/v2/x", body=["a"], secret="token")
        said = run(call, {"token": "hunter2"}) or ""
    assert b"Authorization: Bearer hunter2" in heard[0] and b'["a"]' in heard[0]
    assert "401" in said and "hunter2" not in said


def test_nobody_there_is_an_answer_too() -> None:
    free = socket.create_server(("127.0.0.1", 0))
    place = f"127.0.0.1:{free.getsockname()[1]}"
    free.close()
    for action in (
        HttpGet(url=f"http://{place}/"),
        SocketAsk(target=place, send="x"),
        SocketAsk(target="/nowhere/socket", send="x"),
        RedisCall(target=place, commands=(("PING",),)),
        DnsAsk(server=place, name="a.mesh", record="A", expect=("1",)),
        Command(argv=("/nowhere/program",)),
    ):
        assert run(action, {}) is not None


def test_redis_answers_are_read_and_errors_are_errors() -> None:
    with answering(lambda said: b"-ERR no such thing\r\n") as place:
        assert "no such thing" in (run(RedisCall(target=place, commands=(("X",),)), {}) or "")
    with answering(lambda said: b"*2\r\n$4\r\nport\r\n$4\r\n6379\r\n") as place:
        call = RedisCall(target=place, commands=(("CONFIG", "GET", "port"),), expect=("6379",))
        assert run(call, {}) is None
    with answering(lambda said: b"$9999999999\r\n") as place:
        assert "too long" in (run(RedisCall(target=place, commands=(("X",),)), {}) or "")


def test_a_command_that_is_needless_is_not_sent() -> None:
    heard: list[bytes] = []

    def respond(said: bytes) -> bytes:
        heard.append(said)
        return b"$2\r\n90\r\n"

    with answering(respond) as place:
        call = RedisCall(target=place, commands=(("SET",),), unless=(("GET",), "90"))
        assert run(call, {}) is None
    assert len(heard) == 1 and b"GET" in heard[0]


def test_a_name_servers_answer_is_read_and_its_refusal_named() -> None:
    question = b"\x01a\x04mesh\x00" + struct.pack(">HH", 1, 1)
    record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes((10, 77, 0, 1))
    message = struct.pack(">HHHHHH", 7, 0x8400, 1, 1, 0, 0) + question + record
    assert parse_answer(message, 7) == ["10.77.0.1"]
    assert parse_answer(struct.pack(">HHHHHH", 7, 0x8402, 0, 0, 0, 0), 7) == ["SERVFAIL"]
    with pytest.raises(ValueError, match="not the answer"):
        parse_answer(message, 8)
    for length in range(len(message)):
        with pytest.raises(ValueError, match=r"broken|not the answer"):
            parse_answer(message[:length], 7)
    loop = struct.pack(">HHHHHH", 7, 0x8400, 1, 0, 0, 0) + b"\xc0\x0c"
    with pytest.raises(ValueError, match="without end"):
        parse_answer(loop, 7)
