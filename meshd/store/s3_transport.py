"""Signed HTTP requests to one S3 server, each within one deadline: urllib3 carries, botocore signs.

Imported only when an S3 store is opened: the two libraries cost memory that a daemon with a
directory store does not spend.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Mapping
from urllib.parse import quote

import msgspec
import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from urllib3.connection import HTTPConnection, HTTPSConnection

from meshd.errors import StoreError, UnusableObjectError
from meshd.store.credentials import CredentialsSource
from meshd.store.deadlines import Timeouts, deadline_connection_class
from meshd.store.proxy import Proxy
from meshd.store.s3_advice import advise_on_failure
from meshd.store.s3_retries import pause_before


class Answer(msgspec.Struct, frozen=True, kw_only=True):
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
        credentials: CredentialsSource,
        connections: int,
        timeouts: Timeouts,
        proxy: Proxy | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """``proxy``: on the way to a ``secure`` server. ``pause``: waits for so many seconds before a
        request is repeated."""
        # A dot at the end of a name is for the resolver alone: no server expects it in Host.
        bracketed = f"[{host}]" if ":" in host else host.removesuffix(".")
        self._origin = f"{'https' if secure else 'http'}://{bracketed}:{port}"
        self._host = bracketed if port == (443 if secure else 80) else f"{bracketed}:{port}"
        self._secure = secure
        self._proxy = proxy
        self._credentials = credentials
        self._region = region
        self._timeouts = timeouts
        self._pause = pause
        self._of_thread = threading.local()
        self._pool = self._open_pool(host, port, connections)
        base = HTTPSConnection if secure else HTTPConnection
        self._pool.ConnectionCls = deadline_connection_class(base, timeouts, self._deadline)

    def _open_pool(self, host: str, port: int, connections: int) -> urllib3.HTTPConnectionPool:
        waits = urllib3.Timeout(connect=self._timeouts.connect_seconds, read=self._timeouts.read_seconds)
        if self._proxy is not None:
            way = urllib3.ProxyManager(
                self._proxy.url,
                proxy_headers=self._proxy.headers,
                maxsize=connections,
                block=True,
                retries=False,
                timeout=waits,
            )
            return way.connection_from_host(host, port, scheme="https")
        pool = urllib3.HTTPSConnectionPool if self._secure else urllib3.HTTPConnectionPool
        return pool(host, port, maxsize=connections, block=True, retries=False, timeout=waits)

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
        request = AWSRequest(method=method, url=url, data=body, headers={"Host": self._host})
        request.context["client_config"] = None
        held = self._credentials()
        signer = Credentials(held.access_key, held.secret_key, held.session_token or None)
        S3SigV4Auth(signer, "s3", self._region).add_auth(request)
        return {**dict(request.headers.items()), "Accept-Encoding": "identity", "User-Agent": "wg-meshd"}

    def _reason(self, error: Exception) -> str:
        refused = isinstance(error, urllib3.exceptions.NewConnectionError)
        if isinstance(error, urllib3.exceptions.ConnectTimeoutError) and not refused:
            return self._by_proxy(f"no connection within {self._timeouts.connect_seconds:g} s")
        if isinstance(error, urllib3.exceptions.TimeoutError | TimeoutError) and not refused:
            return (
                f"no complete answer: {self._timeouts.read_seconds:g} s without a byte "
                f"or {self._timeouts.request_seconds:g} s in all"
            )
        cause = error.args[-1] if error.args else error
        said = " ".join(str(cause).split())[:200] or type(error).__name__
        advice = advise_on_failure(said, secure=self._secure)
        return self._by_proxy(f"{said}; {advice}" if advice else said)

    def _by_proxy(self, reason: str) -> str:
        return (
            f"through the proxy {self._proxy.url} of {self._proxy.source}: {reason}"
            if self._proxy
            else reason
        )


def _is_overlong_header(error: urllib3.exceptions.ProtocolError) -> bool:
    """One object may carry what http.client reads of no answer; the connection and the store are fine."""
    cause = error.args[-1] if error.args else None
    return type(cause) in (http.client.LineTooLong, http.client.HTTPException)


def _render_query(query: Mapping[str, str]) -> str:
    pairs = "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(query.items())
    )
    return pairs and "?" + pairs
