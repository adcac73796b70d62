"""Requests to Garage's admin API: a bearer token, several nodes, one deadline each, bounded answers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec.structs import replace

from meshd.errors import ConfigError, StoreDeniedError, StoreError

try:
    import urllib3
    from urllib3.connection import HTTPConnection, HTTPSConnection

    from meshd.store.deadlines import Timeouts, deadline_connection_class
except ImportError as error:
    raise ConfigError(f"Garage needs the Python packages botocore and urllib3: {error}") from None

TIMEOUTS: Final = Timeouts(connect_seconds=3.0, read_seconds=20.0, request_seconds=20.0)
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
_CHUNK_BYTES: Final = 1 << 16
_EXPECTED: Final = "http://host:3903 or https://host:port expected"


@dataclass(frozen=True, slots=True)
class AdminToken:
    """The bearer token of the admin API: in no repr, so in no message and no log."""

    secret: str = field(repr=False)


class RefusedError(StoreError):
    """An answer that is an error; ``code`` is Garage's word for it, or empty."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class NoAnswerError(StoreError):
    """Nobody answered; what was asked for may have happened all the same."""


class _Refusal(msgspec.Struct, frozen=True, kw_only=True):
    code: str = ""
    message: str = ""


class AdminTransport:
    """The admin APIs of one cluster's nodes: each request goes to the first that answers it.

    Every request made here may be repeated. Raises ConfigError for a URL that is none.
    """

    def __init__(self, urls: Sequence[str], token: AdminToken, timeouts: Timeouts) -> None:
        if not urls:
            raise ConfigError(f"Garage's admin API: no URL given, {_EXPECTED}")
        self._token = token
        self._timeouts = timeouts
        self._urls = tuple(urls)
        self._pools: dict[tuple[str, float], urllib3.HTTPConnectionPool] = {}
        for url in urls:
            self._pool(url, timeouts.request_seconds)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()

    def ask(
        self,
        method: str,
        call: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        seconds: float | None = None,
    ) -> bytes:
        """The body of a good answer. ``seconds``: how long each node may take instead of the default.

        NoAnswerError when no node answers, StoreDeniedError for a bad token, else RefusedError.
        """
        seconds = min(seconds or self._timeouts.request_seconds, self._timeouts.request_seconds)
        pools = {url: self._pool(url, seconds) for url in self._urls}
        return self._ask_each(pools, seconds, method, call, query, body)

    def begin(
        self, method: str, call: str, *, body: Mapping[str, Any], seconds: float, first: int = 0
    ) -> BegunCall:
        """As ``ask``, without waiting. ``first``: the number of the node to begin with."""
        seconds = min(seconds, self._timeouts.request_seconds)
        times = replace(self._timeouts, read_seconds=seconds, request_seconds=seconds)
        at = first % len(self._urls)
        # Connections of its own, as giving up cuts them.
        pools = {url: _open_pool(url, times) for url in (*self._urls[at:], *self._urls[:at])}
        return BegunCall(pools, lambda: self._ask_each(pools, seconds, method, call, None, body))

    def _ask_each(
        self,
        pools: Mapping[str, urllib3.HTTPConnectionPool],
        seconds: float,
        method: str,
        call: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
    ) -> bytes:
        failures = []
        for url, pool in pools.items():
            try:
                status, answer = self._request(pool, method, call, query, body)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                failures.append(f"{url}: {_reason(error, seconds)}")
                continue
            if status == 200:
                return answer
            raise _refusal(url, call, status, answer)
        raise NoAnswerError(f"Garage's admin API: {call}: {'; '.join(failures)}")

    def _request(
        self,
        pool: urllib3.HTTPConnectionPool,
        method: str,
        call: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
    ) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self._token.secret}", "User-Agent": "wg-meshd"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        response = pool.urlopen(
            method,
            f"/v2/{call}" + (f"?{urlencode(query)}" if query else ""),
            body=msgspec.json.encode(body) if body is not None else None,
            headers=headers,
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            data = bytearray()
            while len(data) <= MAX_ANSWER_BYTES and (chunk := response.read(_CHUNK_BYTES)):
                data += chunk
            if len(data) > MAX_ANSWER_BYTES:
                raise StoreError(f"Garage's admin API: {call}: over {MAX_ANSWER_BYTES} bytes seen")
            response.release_conn()
            return response.status, bytes(data)
        finally:
            response.close()

    def _pool(self, url: str, seconds: float) -> urllib3.HTTPConnectionPool:
        if (url, seconds) not in self._pools:
            times = replace(self._timeouts, read_seconds=seconds, request_seconds=seconds)
            self._pools[url, seconds] = _open_pool(url, times)
        return self._pools[url, seconds]


class BegunCall:
    """A request under way in a thread of its own, through ``pools`` that nobody else uses."""

    def __init__(self, pools: Mapping[str, urllib3.HTTPConnectionPool], ask: Callable[[], bytes]) -> None:
        self._sockets: list[Any] = []
        self._is_given_up = False
        self._ended = threading.Event()
        self._answer: bytes | StoreError = b""
        for pool in pools.values():
            pool.ConnectionCls = self._noted(pool.ConnectionCls)
        # Whoever gave it up does not wait for it either.
        threading.Thread(target=self._run, args=(ask, pools), name="garage", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Whether it ends within that time."""
        return self._ended.wait(seconds)

    def result(self) -> bytes:
        """The answer, once it has ended; errors as of ``AdminTransport.ask``."""
        if isinstance(self._answer, StoreError):
            raise self._answer
        return self._answer

    def give_up(self) -> None:
        """Hang up, so that the node ends what it still does for the answer. It is not asked again."""
        self._is_given_up = True
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _run(self, ask: Callable[[], bytes], pools: Mapping[str, urllib3.HTTPConnectionPool]) -> None:
        try:
            self._answer = ask()
        except StoreError as error:
            self._answer = error
        finally:
            for pool in pools.values():
                pool.close()
            self._ended.set()

    def _noted(self, base: type[Any]) -> type[Any]:
        call = self

        class NotedConnection(base):  # type: ignore[misc]
            def connect(self) -> None:
                if not call._is_given_up:
                    super().connect()
                    call._sockets.append(self.sock)
                if call._is_given_up:
                    raise OSError("given up")

        return NotedConnection


def _reason(error: Exception, seconds: float) -> str:
    refused = isinstance(error, urllib3.exceptions.NewConnectionError)
    if isinstance(error, urllib3.exceptions.TimeoutError | TimeoutError) and not refused:
        return f"no answer within {seconds:g} s"
    return " ".join(str(error.args[-1] if error.args else error).split())[:200]


def _refusal(url: str, call: str, status: int, answer: bytes) -> StoreError:
    try:
        said = msgspec.json.decode(answer, type=_Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = _Refusal(message="is this Garage's admin API, version 2?")
    text = "".join(c for c in said.message if c.isprintable())[:200]
    message = " ".join(f"{url}: {call}: {status} {said.code[:60]} {text}".split())
    if status in (401, 403):
        return StoreDeniedError(f"{message}; check the admin token")
    return RefusedError(message, said.code)


def _open_pool(url: str, timeouts: Timeouts) -> urllib3.HTTPConnectionPool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"Garage's admin API: {error}; {_EXPECTED}") from None
    if "@" in url:
        raise ConfigError("Garage's admin API: the URL holds '@': the token has a file of its own")
    plain = parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/")
    if not plain or parts.query or parts.fragment:
        raise ConfigError(f"Garage's admin API: {url!r} seen, {_EXPECTED}")
    secure = parts.scheme == "https"
    timeout = urllib3.Timeout(connect=timeouts.connect_seconds, read=timeouts.read_seconds)
    kind = urllib3.HTTPSConnectionPool if secure else urllib3.HTTPConnectionPool
    pool = kind(str(parts.hostname), port or (443 if secure else 80), maxsize=2, timeout=timeout)
    base = HTTPSConnection if secure else HTTPConnection
    pool.ConnectionCls = deadline_connection_class(base, timeouts)
    return pool
