"""Prometheus's WSGI application on our listener.

prometheus_client's ``start_http_server`` looks every address up in the DNS before it listens,
wakes up twice a second per address, and lets a client that says nothing hold a thread for
ever. This is the same application without those three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from prometheus_client.exposition import make_wsgi_app
from prometheus_client.registry import CollectorRegistry

from meshd.listener import Application, ConnectionLimits, WsgiListener, render_place

LIMITS: Final = ConnectionLimits(total=32, each=16)


class MetricsListener:
    """Serves one registry on several addresses."""

    def __init__(self, registry: CollectorRegistry, listen: tuple[tuple[str, int], ...]) -> None:
        application = _guard(make_wsgi_app(registry))
        self._listener = WsgiListener(application, listen, name="metrics", limits=LIMITS)

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(f"http://{render_place(*place)}/metrics" for place in self._listener.places)

    def start(self) -> None:
        """Raises BackendError when one of the addresses cannot be had; then none is open."""
        self._listener.start()

    def close(self) -> None:
        self._listener.close()


def _guard(application: Application) -> Application:
    """Whatever keeps the Status from being had, the scraper gets an answer that says so."""

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            return application(environ, start_response)
        except Exception as error:  # noqa: BLE001 - a scrape that fails says so and ends alone
            start_response("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"no metrics now: {type(error).__name__}\n".encode()]

    return guarded
