"""Between the sockets: what comes in, and what the forwarder says of it.

Where Linux hands over many datagrams of one source at once, and takes many to one place, they are read and
sent so: of what a datagram costs here, most is the call. Each of them is judged alone all the same.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import Final

import msgspec

from meshd.relay.echo import REQUEST, Echoes
from meshd.relay.ends import SocketAddress
from meshd.relay.forwarding import HELD, Forwarder
from meshd.relay.sockets import ANCILLARY_BYTES, Ancillary, as_train, car_bytes, from_there
from meshd.relay.table import RelayCounts, RelayTable

BATCH: Final = 64
"""Read from one socket before the others and standard input are looked at."""
MAX_DATAGRAM_BYTES: Final = 65535
MAX_CAME_IN: Final = 4096
"""Twice the places that there can be: forged ports add five a second and address."""
_FULL: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS})
"""There is no room for a datagram: the last one on FreeBSD, whose interfaces have short queues."""
_REQUEST: Final = bytes((REQUEST,))


class Passage:
    """``sockets``: one of each family."""

    def __init__(self, sockets: dict[socket.AddressFamily, socket.socket]) -> None:
        self._sockets = sockets
        self._forwarder, self._echoes = Forwarder(), Echoes()
        self._came_in: dict[SocketAddress, Ancillary] = {}
        self._unsent = self._echoed = 0

    def use(self, table: RelayTable) -> None:
        """Serve this table from now on."""
        self._forwarder.use(table)
        self._echoes.use(table.echoes)

    def counts(self) -> RelayCounts:
        """All that happened so far."""
        return msgspec.structs.replace(self._forwarder.counts(), unsent=self._unsent, echoes=self._echoed)

    def forget_silent(self, now: float) -> None:
        """What was learned and is not used any more. Once in a while."""
        self._forwarder.forget_silent(now)
        if len(self._came_in) > MAX_CAME_IN:
            self._came_in.clear()  # learned again from the next datagram of each

    @property
    def due_at(self) -> float | None:
        """When ``pass_held_on`` is to be called next; None: nothing is held."""
        return self._forwarder.held.due_at

    def pass_held_on(self, now: float) -> None:
        """What has waited for long enough."""
        for datagram, address in self._forwarder.held.release(now):
            self._send(next(iter(self._sockets.values())), datagram, address, self._came_in.get(address))

    def pass_on(self, hears: socket.socket, now: float) -> None:
        """What waits there, up to a batch."""
        receive, forward, came_in = hears.recvmsg, self._forwarder.forward, self._came_in
        held = self._forwarder.held
        with contextlib.suppress(OSError):  # nothing more, most of all
            for _ in range(BATCH):
                if held.is_full:
                    self.pass_held_on(now)
                datagram, ancillary, _, sender = receive(MAX_DATAGRAM_BYTES, ANCILLARY_BYTES)
                source = sender[:2]
                if len(ancillary) > 1 and (size := car_bytes(ancillary)):
                    self._pass_train_on(hears, datagram, size, source, ancillary, now)
                    continue
                destinations = forward(datagram, source, now)
                if destinations:
                    came_in[source] = ancillary
                    for address in destinations:
                        self._send(hears, datagram, address, came_in.get(address))
                elif destinations is HELD:
                    came_in[source] = ancillary
                elif datagram[:1] == _REQUEST:
                    self._answer(hears, datagram, source, ancillary, now)

    def _pass_train_on(
        self,
        hears: socket.socket,
        train: bytes,
        size: int,
        source: SocketAddress,
        ancillary: Ancillary,
        now: float,
    ) -> None:
        """Each datagram is judged alone; those in a row that go to one place go there together."""
        forward = self._forwarder.forward
        together: list[bytes] = []
        to: SocketAddress | None = None
        for start in range(0, len(train), size):
            datagram = train[start : start + size]
            destinations = forward(datagram, source, now)
            if destinations or destinations is HELD:
                self._came_in[source] = ancillary
            alone = destinations[0] if len(destinations) == 1 else None
            if alone is None or alone != to:
                self._send_together(hears, together, to)
                together, to = [], alone
            if alone is not None:
                together.append(datagram)
                continue
            for address in destinations:
                self._send(hears, datagram, address, self._came_in.get(address))
        self._send_together(hears, together, to)

    def _send_together(
        self, heard: socket.socket, datagrams: list[bytes], address: SocketAddress | None
    ) -> None:
        if address is None:
            return
        called = self._came_in.get(address)
        sends = self._socket_for(heard, address)
        if len(datagrams) > 1 and sends is not None:
            words = [*from_there(called or []), as_train(len(datagrams[0]))]
            with contextlib.suppress(OSError):  # an interface that carries less at once
                sends.sendmsg(datagrams, words, 0, address)
                return
        for datagram in datagrams:
            self._send(heard, datagram, address, called)

    def _socket_for(self, heard: socket.socket, address: SocketAddress) -> socket.socket | None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        return heard if heard.family == family else self._sockets.get(family)

    def _send(
        self, heard: socket.socket, datagram: bytes, address: SocketAddress, called: Ancillary | None
    ) -> None:
        """``called``: where the last datagram from there came in, so that this one leaves from there."""
        sends = self._socket_for(heard, address)
        try:
            if sends is None:
                raise OSError
            sends.sendmsg((datagram,), from_there(called or []), 0, address)
        except OSError as error:  # no route, a firewall, a full queue: lost, as on any way
            self._unsent += 1
            if error.errno not in _FULL:  # it may be that this host has that address no more
                self._came_in.pop(address, None)

    def _answer(
        self,
        heard: socket.socket,
        datagram: bytes,
        source: SocketAddress,
        ancillary: Ancillary,
        now: float,
    ) -> None:
        answer = self._echoes.answer(datagram, now)
        if answer is not None:
            self._echoed += 1
            self._send(heard, answer, source, ancillary)
