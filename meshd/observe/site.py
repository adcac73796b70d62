"""What the metrics port answers: the page for people at /, one for each host and pair, metrics at /metrics.

Read only: GET and HEAD. Pages are made at most once a second each, however many ask, and only for hosts
that there are, so a flood of requests costs what one does. What renders them is loaded when the first is
asked for: at most hosts nobody ever looks, and it takes 0.3 MiB.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from meshd.observe.board import FILES_REPLACED, LOADING_ERRORS
from meshd.observe.page.view import PageView, own_name

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

FRESH_SECONDS: Final = 1.0
HTML: Final = ("Content-Type", "text/html; charset=utf-8")
HOST_PATH: Final = "/host/"
PAIR_PATH: Final = "/pair/"


class Site:
    """The WSGI application (PEP 3333). ``view`` is called from the serving threads."""

    def __init__(
        self,
        metrics: Application,
        view: Callable[[], PageView],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._view = view
        self._clock = clock
        self._lock = threading.Lock()
        self._viewed: tuple[float, PageView] | None = None
        self._made: dict[tuple[str, bool], bytes] = {}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics" and not is_misled_browser(environ):
            return self._metrics(environ, start_response)
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Allow", "GET, HEAD")])
            return [b""]
        try:
            from meshd.observe.page.style import SECURITY_HEADERS

            status, body = self._answer(path, environ)
        except LOADING_ERRORS as error:  # what makes pages of errors may be among them
            start_response("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"no page ({type(error).__name__}): {FILES_REPLACED}\n".encode()]
        start_response(status, [HTML, *SECURITY_HEADERS])
        return [body]

    def _answer(self, path: str, environ: dict[str, Any]) -> tuple[str, bytes]:
        from meshd.observe.page.frame import error_document

        host = environ.get("HTTP_HOST", "")
        if not is_own_name(host):
            text = f"Asked for as {host[:80]!r}: meshd's page is asked for by the address of its host."
            return "421 Misdirected Request", error_document("Not this name", text).encode()
        try:
            body = self._page(path, environ.get("QUERY_STRING", "") == "live")
        except LOADING_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001 - whatever keeps the Status from being had, the answer says so
            text = f"There is nothing to show at the moment ({type(error).__name__}). Try: wgctl doctor"
            return "503 Service Unavailable", error_document("No figures", text).encode()
        if body is None:
            return "404 Not Found", error_document(
                "No such page", "There is no host of that name, or no such pair."
            ).encode()
        return "200 OK", body

    def _page(self, path: str, live: bool) -> bytes | None:
        with self._lock:
            if self._viewed is None or not 0 <= self._clock() - self._viewed[0] < FRESH_SECONDS:
                self._viewed = self._clock(), self._view()
                self._made.clear()
            found = self._made.get((path, live))
            if found is None:
                found = _render(self._viewed[1], path, live)
                if found is not None:
                    self._made[path, live] = found
            return found


def _render(view: PageView, path: str, live: bool) -> bytes | None:
    from meshd.observe.page.overview import render_overview
    from meshd.observe.page.pair import render_pair
    from meshd.observe.page.peer import find_peer, render_peer

    if path == "/":
        return render_overview(view, live=live).encode()
    if path.startswith(PAIR_PATH):
        names = path.removeprefix(PAIR_PATH).split("/")
        is_pair = len(set(names)) == len(names) == 2 and set(names) <= set(view.matrix.hosts)
        return render_pair(view, *names, live=live).encode() if is_pair else None
    if not path.startswith(HOST_PATH):
        return None
    name = path.removeprefix(HOST_PATH)  # wsgiref has decoded it
    if name == own_name(view.status):
        return render_overview(view, live=live).encode()
    peer = find_peer(view, name)
    return render_peer(view, peer, live=live).encode() if peer is not None else None


def is_misled_browser(environ: dict[str, Any]) -> bool:
    """Whether a browser asks under a name that cannot be ours. Scrapers may: they were given that name.

    Fetch adds Accept-Language to whatever a page asks for, and no page can take it away
    (https://fetch.spec.whatwg.org/#http-network-or-cache-fetch); Prometheus does not send it.
    """
    return "HTTP_ACCEPT_LANGUAGE" in environ and not is_own_name(environ.get("HTTP_HOST", ""))


def is_own_name(host: str) -> bool:
    """Whether the Host field of a request can be meant for us: an address, or a name without a dot.

    A page on the Internet may give its own name the address of a host of the mesh, and have the browser of
    an administrator read from there (DNS rebinding); it cannot do so under an address or a bare name.
    """
    name, _, port = host.rpartition(":")
    if not name or not port.isdigit() or host.endswith("]"):
        name = host
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return bool(name) and "." not in name and ":" not in name
    return True
