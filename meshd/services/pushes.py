"""What meshd says to others over HTTP at run time, and how: never a file, never a reload.

A secret is put in at the moment of sending and is in no text that anybody sees: neither in what went
wrong nor in what an answer said back.
"""

from __future__ import annotations

import contextlib
import http.client
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from meshd.model.condition import Severity
from meshd.services.deadline import ends_within
from meshd.services.web import web_connection

TIMEOUT_SECONDS: Final = 10.0
MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_WAIT_SECONDS: Final = 3600.0
SHOWN: Final = 120


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """A GET that is repeated. ``target``: path and query, with ``{secret}``; ``name``: for people."""

    name: str
    base: str
    target: str
    secret: str
    every_seconds: float
    expect: str = ""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions go to the URL that a secret holds. ``quiet``: somebody else tells of new ones.
    ``settle_seconds``: how long something must have been so; ``least_seconds``: between two messages."""

    speaker: str
    secret: str
    severity: Severity
    quiet: bool
    settle_seconds: float
    least_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``problem``: for people; empty: it was taken. ``retry_seconds``: how long to wait, by the other end."""

    problem: str = ""
    retry_seconds: float = 0.0
    reached: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """``shown``: what people are told was asked; ``hide``: texts that nobody may see."""

    url: str
    shown: str
    body: Any = None
    expect: str = ""
    hide: tuple[str, ...] = field(default=(), repr=False)


def send(request: Request, seconds: float = TIMEOUT_SECONDS) -> Answer:
    """Blocking, in bounded time. No redirect is followed: a secret goes to nobody else."""
    try:
        parts = urlsplit(request.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return Answer(problem=f"{request.shown}: a URL of http:// or https:// expected")
        if not (request.url.isascii() and request.url.isprintable()) or " " in request.url:
            return Answer(problem=f"{request.shown}: a URL without spaces and control characters expected")
        connection = web_connection(parts.scheme, parts.hostname, parts.port, seconds)
        body = None if request.body is None else msgspec.json.encode(request.body)
        headers = {"Accept": "application/json", "User-Agent": "wg-meshd"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.connect()
            with ends_within(connection.sock, seconds):
                connection.request("GET" if body is None else "POST", target, body, headers)
                response = connection.getresponse()
                text = response.read(MAX_ANSWER_BYTES).decode("utf-8", "replace")
            return _judge(request, response.status, response.getheader("Retry-After"), text)
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Answer(problem=f"{request.shown}: {_without(request, str(error))}", reached=False)


def _judge(request: Request, status: int, header: str | None, text: str) -> Answer:
    if status == 429:
        wait = _retry_seconds(header, text)
        return Answer(problem=f"{request.shown}: asks to wait {wait:.0f} s", retry_seconds=wait)
    if not 200 <= status < 300:
        said = _without(request, text.strip())[:SHOWN]
        return Answer(problem=f"{request.shown}: status {status} seen, 200 or 204 expected: {said}")
    if request.expect and request.expect not in text.replace(" ", ""):
        said = _without(request, text.strip())[:SHOWN]
        return Answer(problem=f"{request.shown}: {request.expect} expected, {said!r} seen")
    return Answer()


def _retry_seconds(header: str | None, text: str) -> float:
    """The longer one of the header and the body, within reason: Discord says it in both."""
    waits = [1.0]
    with contextlib.suppress(ValueError):  # a date, which Discord does not send
        waits.append(float(header or 0))
    with contextlib.suppress(msgspec.DecodeError, TypeError, ValueError, OverflowError, RecursionError):
        waits.append(float(msgspec.json.decode(text, type=dict[str, Any]).get("retry_after", 0)))
    return min(max(each for each in waits if each == each), MAX_WAIT_SECONDS)


def _without(request: Request, text: str) -> str:
    for secret in request.hide:
        text = text.replace(secret, "...")
    return text
