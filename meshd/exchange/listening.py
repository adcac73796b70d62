"""Listens on this host's own mesh addresses for as long as there are any."""

from __future__ import annotations

from collections.abc import Sequence

from meshd.blocking import in_thread
from meshd.errors import BackendError
from meshd.exchange.server import ExchangeServer
from meshd.exchange.wire import OpenListener, SocketAddress, Wire
from meshd.model.condition import Condition, Severity


class ExchangeListener:
    """Follows the addresses. Lives on the event loop."""

    def __init__(self, server: ExchangeServer, wire: Wire) -> None:
        self._server = server
        self._wire = wire
        self._listener: OpenListener | None = None
        self._wanted: tuple[SocketAddress, ...] = ()
        self._failure: str | None = None

    @property
    def addresses(self) -> tuple[SocketAddress, ...]:
        """Where it listens."""
        return self._listener.places if self._listener is not None else ()

    async def follow(self, wanted: Sequence[SocketAddress]) -> None:
        """Listen there. Called again with the same it tries again where that failed."""
        wanted = tuple(wanted)
        if wanted == self._wanted and (self._listener is not None or not wanted):
            return
        await self.close()
        self._wanted, self._failure = wanted, None
        if not wanted:
            return
        try:
            self._listener = self._wire.listen(self._server, wanted)
        except BackendError as error:
            self._failure = str(error)

    async def close(self) -> None:
        """Listen no more; requests under way end by themselves."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await in_thread(listener.close)

    def conditions(self) -> tuple[Condition, ...]:
        """What keeps it from listening."""
        if self._failure is None:
            return ()
        return (
            Condition(
                code="exchange_down",
                severity=Severity.WARNING,
                text=f"{self._failure}; other hosts cannot hand news to this one; meshd tries again",
            ),
        )
