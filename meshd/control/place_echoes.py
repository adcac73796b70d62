"""Asks the places of other hosts by echoes, and lets others ask this one's. Lives on the event loop.

Which places are asked is the engine's to say (``meshd.paths.engine``): those of pairs that go through another
host, and a new one of a host that moves. Whoever is asked knows the same from its own side, so the tokens,
which both compute, need not be handed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from meshd.control.direct_echo import DirectEcho, OpenSocket
from meshd.control.relay_host import RelayHost
from meshd.control.world import World
from meshd.exchange.exchange import Exchange
from meshd.model.network import AnyEndpoint
from meshd.model.path import relay_place
from meshd.paths.engine import PairEngine
from meshd.paths.new_place import NAMED_SECONDS
from meshd.supervisor import Supervisor

PURPOSE: Final = "direct echo"


class PlaceEchoes:
    """``follow`` each World, ``use_tokens`` when other pairs are relayed, ``send`` when something is due."""

    def __init__(
        self,
        engine: PairEngine,
        host: RelayHost,
        exchange: Exchange | None,
        *,
        tasks: Supervisor,
        now: Callable[[], float],
        open_socket: OpenSocket,
    ) -> None:
        """
        Args:
            host: its forwarding process answers.
            exchange: computes tokens; None: nobody is asked.
            now: monotonic seconds.
        """
        self._engine = engine
        self._host = host
        self._exchange = exchange
        self._now = now
        self._echo = DirectEcho(tasks, self._echoed, open_socket)
        self._token_of: dict[str, bytes] = {}
        self._own_places: tuple[AnyEndpoint, ...] | None = None
        self._moved_until = 0.0

    def close(self) -> None:
        """The sockets."""
        self._echo.close()

    def follow(self, world: World) -> None:
        """Notices where this host says that it is: when that changes, everybody may ask for a while."""
        own = world.view.own
        if own is None or own.record is None:
            return
        if self._own_places not in (None, own.record.endpoints):
            self._moved_until = self._now() + NAMED_SECONDS
        self._own_places = own.record.endpoints

    def use_tokens(self) -> None:
        """Of whoever is asked now, and may ask now."""
        if self._exchange is None:
            return
        asked = {hid: self._exchange.token(hid, PURPOSE, asks=True) for hid in self._engine.echoed_hids()}
        self._token_of = {hid: token for hid, token in asked.items() if token is not None}
        known = (self._exchange.token(hid, PURPOSE, asks=False) for hid in sorted(self._answered_hids()))
        self._host.use_tokens(tuple(filter(None, known)))

    def send(self) -> None:
        """What is due."""
        now = self._now()
        for hid in self._engine.echoed_hids():
            token = self._token_of.get(hid)
            for endpoint, number in self._engine.pairs[hid].meter.due(now):
                place = relay_place(endpoint)
                if token is not None and place.port < 65536:
                    self._echo.send(place, token, number)

    def _answered_hids(self) -> Iterable[str]:
        return self._engine.pairs if self._now() < self._moved_until else self._engine.answered_hids()

    def _echoed(self, token: bytes, number: int) -> None:
        for hid, known in self._token_of.items():
            if known == token:
                self._engine.echoed(hid, number, self._now())
