"""Keeps the metrics server where the settings and this host's address want it."""

from __future__ import annotations

from collections.abc import Callable

from meshd.errors import MeshError
from meshd.model.condition import Condition, Severity
from meshd.model.host import Host
from meshd.observe.metrics import MetricsServer
from meshd.observe.status import Status
from meshd.settings import MetricsSettings, parse_listen


class Scrapes:
    """Blocking; called from one thread at a time. ``current`` is called from the serving threads."""

    def __init__(self) -> None:
        self._server: MetricsServer | None = None
        self._wanted: tuple[tuple[str, int], ...] = ()

    @property
    def urls(self) -> tuple[str, ...]:
        return self._server.urls if self._server else ()

    def wants(self, settings: MetricsSettings, own: Host | None) -> tuple[tuple[str, int], ...] | None:
        """Where to listen, if that is not where it listens already."""
        listens = (parse_listen(text, "metrics.listen") for text in settings.listen)
        wanted = tuple(
            (str(own.addresses[0]) if host == "mesh" and own else host, port)
            for host, port in listens
            if host != "mesh" or own is not None
        )
        return None if wanted == self._wanted and (self._server is not None or not wanted) else wanted

    def serve(self, wanted: tuple[tuple[str, int], ...], current: Callable[[], Status]) -> Condition | None:
        """Listen there and nowhere else; -> what keeps it from that."""
        self.close()
        self._wanted = wanted
        try:
            server = MetricsServer(current, wanted)
            server.start()
        except MeshError as error:
            return Condition(code="no_metrics", severity=Severity.WARNING, text=f"{error}; meshd tries again")
        self._server = server
        return None

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
