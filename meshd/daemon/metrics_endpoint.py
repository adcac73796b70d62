"""Keeps the metrics server where the settings and this host's address want it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from meshd.blocking import OneThread
from meshd.control.world import World
from meshd.daemon.page_source import PageSource
from meshd.daemon.status_report import StatusReporter
from meshd.errors import MeshError
from meshd.mesh.member_addresses import MemberAddresses
from meshd.model.condition import Condition, Severity
from meshd.model.host import Host, Membership
from meshd.observe.metrics import MetricsServer
from meshd.observe.page.view import PageView
from meshd.observe.status import Status
from meshd.settings import MetricsSettings, parse_listen

SCRAPE_TIMEOUT_SECONDS: Final = 5.0
"""How long a scrape waits for the event loop."""


class MetricsListener:
    """Holds the server. Blocking; called from one thread at a time.

    What comes to this host's address of the mesh is answered to members alone. The system takes a packet
    for any of its addresses on any of its interfaces (RFC 1122, section 3.3.4.2), so without that it would
    answer the network next door.
    """

    def __init__(self, report: Callable[[Exception | None], None]) -> None:
        """``report``: is told of a defect in what a scrape calls, and with None of each that was answered."""
        self._report = report
        self._server: MetricsServer | None = None
        self._followed: tuple[Membership, Host | None] | None = None
        self._known: tuple[Membership, MemberAddresses] | None = None
        self._wanted: tuple[tuple[str, int], ...] = ()

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it listens now."""
        return self._server.urls if self._server else ()

    def follow(self, membership: Membership, own: Host | None) -> None:
        """Whom it answers from now on. ``own``: this host as a member."""
        self._followed = membership, own

    def admits(self, client: str, place: str) -> bool:
        """``place``: the address of this host that ``client`` came to. From any thread."""
        membership, own = self._followed or (None, None)
        if membership is None or own is None or place not in map(str, own.addresses):
            return True
        known = self._known
        # Made when somebody asks, as many a turn has another membership.
        if known is None or known[0] is not membership:
            known = self._known = membership, MemberAddresses(membership.hosts.values())
        return client in known[1]

    def wants(self, settings: MetricsSettings, own: Host | None) -> tuple[tuple[str, int], ...] | None:
        """Where to listen, if that is not where it listens already."""
        listens = (parse_listen(text, "metrics.listen") for text in settings.listen)
        wanted = tuple(
            (str(own.addresses[0]) if host == "mesh" and own else host, port)
            for host, port in listens
            if host != "mesh" or own is not None
        )
        return None if wanted == self._wanted and (self._server is not None or not wanted) else wanted

    def serve(
        self,
        wanted: tuple[tuple[str, int], ...],
        current: Callable[[], Status],
        view: Callable[[], PageView] | None = None,
    ) -> Condition | None:
        """Listen there and nowhere else; -> what keeps it from that. ``current`` and ``view`` are called
        from the serving threads."""
        self.close()
        self._wanted = wanted
        try:
            server = MetricsServer(current, wanted, admits=self.admits, view=view, report=self._report)
            server.start()
        except MeshError as error:
            return Condition(code="no_metrics", severity=Severity.WARNING, text=f"{error}; meshd tries again")
        self._server = server
        return None

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


class MetricsFollower:
    """Listens where each new World wants it. Lives on the event loop."""

    def __init__(self, listener: MetricsListener, reporter: StatusReporter, page: PageSource) -> None:
        self._listener = listener
        self._reporter = reporter
        self._page = page
        self._problem: tuple[Condition, ...] = ()
        self._thread = OneThread()

    async def follow(self, world: World) -> Sequence[Condition]:
        """Listen elsewhere if the settings or this host's address want it; what keeps it from that."""
        self._listener.follow(world.view.membership, world.view.own)
        wanted = self._listener.wants(world.settings.metrics, world.view.own)
        if wanted is not None:
            loop = asyncio.get_running_loop()

            def current() -> Status:
                asking = asyncio.run_coroutine_threadsafe(self._reporter.status(), loop)
                return asking.result(SCRAPE_TIMEOUT_SECONDS)

            def view() -> PageView:
                asking = asyncio.run_coroutine_threadsafe(self._page.view(), loop)
                return asking.result(SCRAPE_TIMEOUT_SECONDS)

            problem = await self._thread.run(self._listener.serve, wanted, current, view)
            self._problem = (problem,) if problem is not None else ()
        return self._problem
