"""Signed HTTP requests to one S3 server, each within one deadline: urllib3 carries, botocore signs.

Imported only when an S3 store is opened: the two libraries cost memory that a daemon with a
directory store does not spend. Time-outs of sockets bound the wait for the next byte only, so
a server that sends one byte a second could hold a reader for hours; here the connection
itself knows the deadline of its request.
"""

from __future__ import annotations

import http.client
import io
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from urllib3.connection import HTTPConnection, HTTPSConnection

from meshd.errors import StoreError, UnusableObjectError
from meshd.store.s3_retries import pause_before

CONNECT_TIMEOUT_SECONDS: Final = 3.0
READ_TIMEOUT_SECONDS: Final = 10.0
REQUEST_TIMEOUT_SECONDS: Final = 15.0


class _DeadlineReader(io.RawIOBase):
    """The read side of a socket; every read waits for the next byte or the deadline, the nearer."""

    def __init__(self, connection: _DeadlineSocket) -> None:
        self._connection = connection
        self._raw = connection.socket.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._connection.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the whole answer took too long")
        self._connection.socket.settimeout(min(left, self._connection.read_timeout))
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _DeadlineSocket:
    """A connected socket (plain or TLS) whose answers are read by a _DeadlineReader."""

    def __init__(self, socket: Any, timeouts: Timeouts, deadline: float) -> None:
        self.socket = socket
        self.read_timeout = timeouts.read_seconds
        self.deadline = deadline

    def makefile(self, *_args: Any, **_options: Any) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.socket, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """``connect_seconds`` to connect, ``read_seconds`` between bytes, ``request_seconds`` for all of it,
    whatever is repeated."""

    connect_seconds: float = CONNECT_TIMEOUT_SECONDS
    read_seconds: float = READ_TIMEOUT_SECONDS
    request_seconds: float = REQUEST_TIMEOUT_SECONDS


def deadline_connection_class(
    base: type[HTTPConnection], timeouts: Timeouts, deadline: Callable[[], float] | None = None
) -> type[HTTPConnection]:
    """A connection of urllib3 whose every request ends by ``deadline()``, an instant of the monotonic
    clock; None: within ``timeouts.request_seconds``."""
    ends = deadline or (lambda: time.monotonic() + timeouts.request_seconds)

    class DeadlineConnection(base):  # type: ignore[misc, valid-type]
        sock: Any

        def connect(self) -> None:
            super().connect()
            self.sock = _DeadlineSocket(self.sock, timeouts, ends())

        def request(self, *args: Any, **options: Any) -> None:
            if isinstance(self.sock, _DeadlineSocket):
                self.sock.deadline = ends()
            super().request(*args, **options)

    return DeadlineConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class SignedTransport:
    """Keeps up to ``connections`` open to one server; safe to use from as many threads."""

    def __init__(
        self,
        *,
        secure: bool,
        host: str,
        port: int,
        region: str,
        access_key: str,
        secret_key: str,
        connections: int,
        timeouts: Timeouts,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """``pause``: waits for so many seconds before a request is repeated."""
        bracketed = f"[{host}]" if ":" in host else host
        self._origin = f"{'https' if secure else 'http'}://{bracketed}:{port}"
        self._credentials = Credentials(access_key, secret_key)
        self._region = region
        self._timeouts = timeouts
        self._pause = pause
        self._of_thread = threading.local()
        pool = urllib3.HTTPSConnectionPool if secure else urllib3.HTTPConnectionPool
        self._pool = pool(
            host,
            port,
            maxsize=connections,
            block=True,
            retries=False,
            timeout=urllib3.Timeout(connect=timeouts.connect_seconds, read=timeouts.read_seconds),
        )
        base = HTTPSConnection if secure else HTTPConnection
        self._pool.ConnectionCls = deadline_connection_class(base, timeouts, self._deadline)

    def request(
        self, method: str, path: str, *, query: Mapping[str, str], body: bytes, max_bytes: int
    ) -> Answer:
        """One request and its whole answer of at most ``max_bytes``, else StoreError.

        Every request made here may be repeated. So a connection that the server had closed meanwhile is
        replaced once, and an answer that means "not now" is asked for again, all within one deadline.
        """
        what = f"{method} {self._origin}{path}"
        url = self._origin + quote(path, safe="/-_.~") + _render_query(query)
        self._of_thread.deadline = time.monotonic() + self._timeouts.request_seconds
        answer, repetition = self._ask(method, url, body, max_bytes, what), 0
        while (pause := self._pause_before(repetition, answer)) is not None:
            self._pause(pause)
            answer, repetition = self._ask(method, url, body, max_bytes, what), repetition + 1
        return answer

    def _pause_before(self, repetition: int, answer: Answer) -> float | None:
        left_seconds = self._deadline() - time.monotonic()
        return pause_before(
            repetition, answer.status, answer.headers, left_seconds=left_seconds, now=time.time()
        )

    def _deadline(self) -> float:
        """Of the request that this thread makes, on the monotonic clock."""
        deadline: float = self._of_thread.deadline
        return deadline

    def _ask(self, method: str, url: str, body: bytes, max_bytes: int, what: str) -> Answer:
        try:
            try:
                return self._attempt(method, url, body, max_bytes, what)
            except urllib3.exceptions.ProtocolError as error:
                if _is_overlong_header(error):
                    raise UnusableObjectError(
                        f"{what}: a header without end: {self._reason(error)}"
                    ) from None
                return self._attempt(method, url, body, max_bytes, what)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise StoreError(f"{what}: {self._reason(error)}") from None

    def close(self) -> None:
        self._pool.close()

    def _attempt(self, method: str, url: str, body: bytes, max_bytes: int, what: str) -> Answer:
        response = self._pool.urlopen(
            method,
            url.removeprefix(self._origin),
            body=body or None,
            headers=self._sign(method, url, body),
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
            assert_same_host=False,
            pool_timeout=round(self._timeouts.request_seconds) or 1,
        )
        whole = False
        try:
            data = bytearray()
            # Until the empty read: only that one tells a whole body from a cut one.
            while len(data) <= max_bytes and (chunk := response.read(max_bytes + 1 - len(data))):
                data += chunk
            if len(data) > max_bytes:
                raise UnusableObjectError(f"{what}: over {max_bytes} bytes seen, which no answer here needs")
            headers = {name.lower(): value for name, value in response.headers.items()}
            whole = True
            return Answer(status=response.status, headers=headers, body=bytes(data))
        finally:
            # What is left of an unfinished answer would be taken for the next one's beginning.
            if not whole:
                response.close()
            response.release_conn()

    def _sign(self, method: str, url: str, body: bytes) -> dict[str, str]:
        request = AWSRequest(method=method, url=url, data=body)
        request.context["client_config"] = None
        S3SigV4Auth(self._credentials, "s3", self._region).add_auth(request)
        return {**dict(request.headers.items()), "Accept-Encoding": "identity", "User-Agent": "wg-meshd"}

    def _reason(self, error: Exception) -> str:
        refused = isinstance(error, urllib3.exceptions.NewConnectionError)
        if isinstance(error, urllib3.exceptions.ConnectTimeoutError) and not refused:
            return f"no connection within {self._timeouts.connect_seconds:g} s"
        if isinstance(error, urllib3.exceptions.TimeoutError | TimeoutError) and not refused:
            return (
                f"no complete answer: {self._timeouts.read_seconds:g} s without a byte "
                f"or {self._timeouts.request_seconds:g} s in all"
            )
        cause = error.args[-1] if error.args else error
        return " ".join(str(cause).split())[:200] or type(error).__name__


def _is_overlong_header(error: urllib3.exceptions.ProtocolError) -> bool:
    """One object may carry what http.client reads of no answer; the connection and the store are fine."""
    cause = error.args[-1] if error.args else None
    return type(cause) in (http.client.LineTooLong, http.client.HTTPException)


def _render_query(query: Mapping[str, str]) -> str:
    pairs = "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(query.items())
    )
    return pairs and "?" + pairs
