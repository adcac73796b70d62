"""What a service that lies may do to who asks it: have secrets told, take memory, end its run."""

from __future__ import annotations

import base64
import tracemalloc
from collections.abc import Callable

import pytest
from hostile_servers import answering, http, streaming
from tls_front import Authority, make_authority

from meshd.services.actions import MAX_ANSWER_BYTES, bring_live, run
from meshd.services.plan import HttpCall, HttpGet, LiveServer, LiveServers, RedisCall
from meshd.services.pushes import MAX_WAIT_SECONDS, Request, send

SECRET = "hunter2hunter2"


@pytest.mark.parametrize("user", ["", "admin"])
def test_a_server_that_repeats_what_it_was_told_gets_no_secret_into_a_report(user: str) -> None:
    """In whatever form the secret was sent to it."""
    with answering(lambda said: http("401 Unauthorized", said.decode())) as place:
        call = HttpCall(method="POST", url=f"http://{place}/", secret="own", user=user)
        said = run(call, {"own": SECRET}) or ""
    sent = base64.b64encode(f"{user}:{SECRET}".encode()).decode()
    assert "401" in said and SECRET not in said and sent not in said


def test_a_redis_that_repeats_what_it_was_told_gets_no_secret_into_a_report() -> None:
    """As a real one does where AUTH was renamed."""
    with answering(lambda _: f"-ERR unknown command `AUTH`, with args: `{SECRET}`\r\n".encode()) as place:
        said = run(RedisCall(target=place, commands=(("PING",),), secret="own"), {"own": SECRET}) or ""
    assert "unknown command" in said and SECRET not in said


def test_a_redis_that_never_stops_takes_no_memory() -> None:
    piece = b"$1000000\r\n" + bytes(1_000_000) + b"\r\n"
    with streaming(b"*100000\r\n", piece) as place:
        tracemalloc.start()
        said = run(RedisCall(target=place, commands=(("X",),), timeout_seconds=30.0), {}) or ""
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert "too long an answer" in said and most < 8 * MAX_ANSWER_BYTES


def test_a_haproxy_that_says_something_else_the_second_time_is_reloaded() -> None:
    state = "1\n# head\n" + "3 app 1 a 10.0.0.1 2 0 1 1 1 6 0 0 0 6 0 0 - 80 - 0 0 - - 0\n"
    answers = iter([state, "Unknown command\n"])
    with answering(lambda _: next(answers).encode()) as place:
        server = LiveServer(address="10.0.0.1", port=80, options="", agent="")
        said = bring_live(LiveServers(target=place, frame="", backends={"app": {"a": server}}))
    assert said == "app: not as wanted"


@pytest.mark.parametrize(
    "body",
    [
        '{"retry_after": 1' + "0" * 400 + "}",
        '{"retry_after": 1e999}',
        '{"retry_after": ' + "[" * 30_000 + "]" * 30_000 + "}",
        '{"retry_after": -1}',
        '{"retry_after": null}',
        "[" * 60_000,
        "\ud800",
    ],
)
def test_whatever_a_webhook_says_of_waiting_is_waited_for_within_reason(body: str) -> None:
    with answering(lambda _: http("429 Too Many", body.encode("utf-8", "surrogatepass"))) as place:
        answer = send(Request(url=f"http://{place}/", shown="webhook"))
    assert answer.problem and 1.0 <= answer.retry_seconds <= MAX_WAIT_SECONDS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("ca"), "IP:127.0.0.1")


def asked_by_module(place: str) -> str:
    return run(HttpGet(url=f"https://{place}/", timeout_seconds=0.3), {}) or ""


def told(place: str) -> str:
    return send(Request(url=f"https://{place}/", shown="webhook"), 0.3).problem


@pytest.mark.slow
@pytest.mark.parametrize("ask", [asked_by_module, told])
def test_a_greeting_of_tls_that_comes_a_byte_at_a_time_ends_in_its_time(ask: Callable[[str], str]) -> None:
    """A record of 16 KiB, of which each byte would begin the time-out of the socket anew."""
    with streaming(b"\x16\x03\x03\x40\x00", b"a", pause_seconds=0.02) as place:
        assert "handshake operation timed out" in ask(place)
