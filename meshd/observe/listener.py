"""Prometheus's exposition and the page on our listener, each made at most once a second however many ask.

prometheus_client's ``start_http_server`` looks every address up in the DNS before it listens, and wakes
up twice a second per address. A client that says nothing holds a thread for ever, and everything is
rendered anew for each request: a flood of scrapes would take the time of the daemon's loop.
"""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Final

from meshd.errors import MeshError
from meshd.listener import ConnectionLimits, WsgiListener, render_place
from meshd.observe.exposition import choose_form
from meshd.observe.page.view import PageView
from meshd.observe.site import Site

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

LIMITS: Final = ConnectionLimits(total=32, each=16)
FRESH_SECONDS: Final = 1.0
"""Scrapes within it get the same answer: nobody scrapes one host more often."""


class _Exposition:
    """The answer to a scrape, by its form, until it is a second old. One thread renders, the others wait.

    The forms are few, whatever a client asks for: text or OpenMetrics, plain or compressed.
    """

    def __init__(
        self,
        registry: Collector,
        clock: Callable[[], float],
        report: Callable[[Exception | None], None],
    ) -> None:
        self._registry = registry
        self._report = report
        self._clock = clock
        self._lock = threading.Lock()
        self._made: dict[tuple[str, bool], tuple[float, bytes]] = {}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Allow", "GET, HEAD")])
            return [b""]
        encode, content_type = choose_form(environ.get("HTTP_ACCEPT", ""))
        compressed = "gzip" in environ.get("HTTP_ACCEPT_ENCODING", "")
        try:
            body = self._body(encode, content_type, compressed)
        except Exception as error:  # noqa: BLE001 - whatever keeps the Status from being had, the answer says so
            if not isinstance(error, TimeoutError | CancelledError | MeshError):
                self._report(error)  # no daemon that is busy or ends: a defect of ours
            start_response("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"no metrics now: {type(error).__name__}\n".encode()]
        self._report(None)
        headers = [("Content-Type", content_type)]
        if compressed:
            headers.append(("Content-Encoding", "gzip"))
        start_response("200 OK", headers)
        return [body]

    def _body(self, encode: Callable[..., bytes], content_type: str, compressed: bool) -> bytes:
        with self._lock:
            made_at, body = self._made.get((content_type, compressed), (0.0, b""))
            if body and 0 <= self._clock() - made_at < FRESH_SECONDS:
                return body
            made_at, body = self._clock(), encode(self._registry)
            if compressed:
                body = gzip.compress(body)
            self._made[content_type, compressed] = (made_at, body)
            return body


class MetricsListener:
    """Serves one registry, and the pages of one view, on several addresses.

    ``admits``: as ``WsgiListener`` asks it. ``view``: what the pages show; None: every path is the metrics.
    ``report``: is told of a defect in what a scrape calls, and with None of each that was answered; from the
    serving threads.
    """

    def __init__(
        self,
        registry: Collector,
        listen: tuple[tuple[str, int], ...],
        *,
        admits: Callable[[str, str], bool] = lambda client, place: True,
        view: Callable[[], PageView] | None = None,
        report: Callable[[Exception | None], None] = lambda error: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        metrics = _Exposition(registry, clock, report)
        application = Site(metrics, view, clock=clock) if view is not None else metrics
        self._listener = WsgiListener(application, listen, name="metrics", limits=LIMITS, admits=admits)

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(f"http://{render_place(*place)}/metrics" for place in self._listener.places)

    def start(self) -> None:
        """Raises BackendError when one of the addresses cannot be had; then none is open."""
        self._listener.start()

    def close(self) -> None:
        self._listener.close()
