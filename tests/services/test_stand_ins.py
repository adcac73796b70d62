"""The stand-ins answer as the documentation of what they stand for says, by its own examples."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest
from stand_ins import DiscordStandIn, KumaStandIn, LokiStandIn, served


def ask(base: str, path: str, body: Any = None) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=10)
    text = None if body is None else json.dumps(body)
    connection.request("GET" if body is None else "POST", path, text, {"Content-Type": "application/json"})
    response = connection.getresponse()
    found = response.status, response.headers, response.read()
    connection.close()
    return found


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", "up"),
        ("?status=up&msg=OK&ping=", "up"),
        ("?status=up&msg=OK&ping=23", "up"),
        ("?status=no", "down"),
    ],
)
def test_kuma_takes_a_push_with_and_without_its_parameters(query: str, status: str) -> None:
    kuma = KumaStandIn({"abc123xyz": "tesla"})
    with served(kuma) as base:
        assert ask(base, f"/api/push/abc123xyz{query}")[::2] == (200, b'{"ok": true}')
    assert kuma.beats["tesla"]["status"] == status


@pytest.mark.parametrize("path", ["/api/push/unknown", "/api/push/", "/other/abc123xyz"])
def test_kuma_knows_no_other_monitor(path: str) -> None:
    with served(KumaStandIn({"abc123xyz": "tesla"})) as base:
        status, _, body = ask(base, path)
    assert status == 404 and json.loads(body) == {"ok": False, "msg": "Monitor not found or not active."}


def test_discord_takes_a_message_and_answers_with_nothing() -> None:
    discord = DiscordStandIn()
    with served(discord) as base:
        assert ask(base, discord.path, {"content": "Hello, World!"})[::2] == (204, b"")
    assert discord.texts == ["Hello, World!"]


def test_discord_says_how_long_to_wait() -> None:
    discord = DiscordStandIn(limits=[64.57])
    with served(discord) as base:
        status, headers, body = ask(base, discord.path, {"content": "Hello, World!"})
        assert status == 429 and headers["Retry-After"] == "65"
        assert json.loads(body) == {
            "message": "You are being rate limited.",
            "retry_after": 64.57,
            "global": False,
        }
    assert not discord.texts


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/webhooks/1/unknown", {"content": "x"}, 404),
        ("", {"content": ""}, 400),
        ("", {"content": "x" * 2001}, 400),
    ],
)
def test_discord_refuses_what_it_cannot_take(path: str, body: Any, status: int) -> None:
    discord = DiscordStandIn()
    with served(discord) as base:
        assert ask(base, path or discord.path, body)[0] == status


def test_loki_takes_streams_with_labels_and_says_that_it_is_ready() -> None:
    """The body of the documentation's own example of a push."""
    loki, path = LokiStandIn(), "/loki/api/v1/push"
    values = [["1570818238000000000", "fizzbuzz"]]
    with served(loki) as base:
        assert ask(base, "/ready")[0] == 200
        pushed = {"streams": [{"stream": {"foo": "bar2"}, "values": values}]}
        assert ask(base, path, pushed)[::2] == (204, b"")
        assert ask(base, path, {"streams": [{"stream": {}, "values": values}]})[0] == 400
        assert ask(base, path, {"nonsense": 1})[0] == 400
        assert ask(base, "/api/prom/push", pushed)[0] == 404
    assert loki.labels == [{"foo": "bar2"}]
