"""What the routing socket told since something was read: as long as it told nothing, that still holds.

A look at FreeBSD's kernel runs tools, each a process. Interfaces and routes change with a message on the
routing socket, route(4), so what was read stays true until one comes. Of peers no message tells.

The socket is one of this process's own fib and network stack (rtsock.c filters by so_fibnum): nothing is
known here of other fibs and of the inside of VNET jails.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from ipaddress import ip_network
from typing import Final

from meshd.backend.rtsock import IFF_UP, Kind, RouteMessage
from meshd.model.network import IPNetwork

MAX_AGE_SECONDS: Final = 60.0
"""Everything is read anew after this time, in case that a message was lost without a word (before 14.0)."""
EXPECTED_SECONDS: Final = 5.0
"""How long the message of a change of our own may take."""

_ROUTES: Final = frozenset({Kind.ADD, Kind.DELETE, Kind.CHANGE})
_ADDRESSES: Final = frozenset({Kind.NEWADDR, Kind.DELADDR})

Stamp = tuple[int, ...]
"""Equal stamps: nothing was told in between."""


def index_of(interface: str) -> int:
    """As the kernel numbers it; 0: there is none."""
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return 0


class ChangeLog:
    """Told on the event loop, asked by the thread that looks at the kernel."""

    def __init__(
        self,
        *,
        index_of: Callable[[str], int] = index_of,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._index_of = index_of
        self._elapsed = elapsed
        self._lock = threading.Lock()
        self._listens = False
        self._all = 0
        self._asked: set[str] = set()
        self._announced: dict[str, int] = {}
        self._interfaces: dict[int, int] = {}
        self._any_interface = 0
        self._up: dict[int, bool] = {}
        self._routes = {4: 0, 6: 0}
        self._expected: dict[tuple[Kind, IPNetwork, int], float] = {}

    def listen(self, *, on: bool) -> None:
        """Whether somebody reads the routing socket: without, nothing is known of what happens."""
        with self._lock:
            self._listens = on
            self._all += 1

    def lose(self) -> None:
        """Messages were lost: anything may have changed."""
        with self._lock:
            self._all += 1

    def note(self, message: RouteMessage) -> bool:
        """True: it tells of a change of our own, which is known already."""
        with self._lock:
            if self._is_expected(message):
                return True
            self._count(message)
            return False

    def of_interface(self, name: str) -> Stamp | None:
        """None: what is read now may be wrong a moment later, and nobody would tell."""
        index = self._index_of(name)
        with self._lock:
            self._asked.add(name)
            if not self._listens:
                return None
            counts = (self._announced.get(name, 0), self._interfaces.get(index, 0))
            return (self._all, self._age(), index, *counts)

    def of_interfaces(self) -> Stamp | None:
        """Of all of them. None as for ``of_interface``."""
        with self._lock:
            return (self._all, self._age(), self._any_interface) if self._listens else None

    def concerns(self, interface: str) -> bool:
        """Whether somebody has asked for it, or nobody for any yet."""
        with self._lock:
            return interface in self._asked or not self._asked

    def of_routes(self, version: int) -> Stamp | None:
        """Of this process's own fib. None as for ``of_interface``."""
        with self._lock:
            return (self._all, self._age(), self._routes[version]) if self._listens else None

    def change(self) -> None:
        """We changed interfaces or addresses ourselves: what was read before is not true any more."""
        self.lose()

    def expect(self, kind: Kind, destination: IPNetwork, interface: str) -> None:
        """We are about to change this route; its message is no news. Said before the change is made: the
        message may be read before the tool has ended."""
        index = self._index_of(interface)
        with self._lock:
            self._routes[destination.version] += 1
            if index:
                self._expected[kind, destination, index] = self._elapsed() + EXPECTED_SECONDS

    def changed_route(self, kind: Kind, destination: IPNetwork, interface: str, *, done: bool) -> None:
        """The change has been tried. A message that will not come is not waited for."""
        index = self._index_of(interface)
        with self._lock:
            self._routes[destination.version] += 1
            if not done:
                self._expected.pop((kind, destination, index), None)

    def _age(self) -> int:
        return int(self._elapsed() // MAX_AGE_SECONDS)

    def _is_expected(self, message: RouteMessage) -> bool:
        if message.kind not in _ROUTES or message.address is None or message.prefix_length is None:
            return False
        key = (
            message.kind,
            ip_network((message.address, message.prefix_length), strict=False),
            message.index,
        )
        until = self._expected.pop(key, None)
        return until is not None and self._elapsed() < until

    def _count(self, message: RouteMessage) -> None:
        if message.kind in _ROUTES:
            versions = (message.address.version,) if message.address is not None else (4, 6)
            self._count_routes(*versions)
            return
        if message.kind not in _ADDRESSES and message.kind not in (Kind.IFINFO, Kind.IFANNOUNCE):
            return
        self._any_interface += 1
        self._interfaces[message.index] = self._interfaces.get(message.index, 0) + 1
        if message.kind is Kind.IFANNOUNCE:
            self._announced[message.interface] = self._announced.get(message.interface, 0) + 1
        if message.kind in _ADDRESSES and message.address is not None:
            self._count_routes(message.address.version)
        elif self._moves_routes(message):
            self._count_routes(4, 6)

    def _moves_routes(self, message: RouteMessage) -> bool:
        """Nothing is told of the routes that go with an interface, nor of those that ``down`` puts aside;
        the MTU that the table shows is that of our own interface as long as a route has none."""
        if message.kind is Kind.IFANNOUNCE:
            self._up[message.index] = False
            return message.departed
        is_up = bool(message.flags & IFF_UP)
        before, self._up[message.index] = self._up.get(message.index), is_up
        return is_up != before or message.index in map(self._index_of, self._asked)

    def _count_routes(self, *versions: int) -> None:
        for version in versions:
            self._routes[version] += 1
