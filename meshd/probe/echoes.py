"""Echoes that somebody asks for and waits for: what ping(8) does, on the prober's sockets.

The prober of a daemon beside it is not disturbed: the kernel gives each reply to every raw socket, and a
reply belongs to whoever knows its token.
"""

from __future__ import annotations

import secrets
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from meshd.model.network import IPAddress
from meshd.probe.base import IcmpSocket, Packet
from meshd.probe.icmp import (
    HEADER_BYTES,
    build_echo_request_v4,
    build_echo_request_v6,
    parse_echo_reply_v4,
    parse_echo_reply_v6,
)
from meshd.probe.rawsocket import RawIcmpSocket

TOKEN_BYTES: Final = 16
MAX_SEQUENCES: Final = 1 << 16
"""RFC 792: the sequence number has 16 bits; one run uses none of them twice."""
IP_HEADER_BYTES: Final[Mapping[int, int]] = {4: 20, 6: 40}
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_BUILD: Final = {4: build_echo_request_v4, 6: build_echo_request_v6}
_PARSE: Final = {4: parse_echo_reply_v4, 6: parse_echo_reply_v6}


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoOrder:
    """``count`` echoes to each address, one each ``interval_seconds``. One that has not come back after
    ``answer_seconds`` is lost. ``packet_bytes``: of the whole IP packet; 0: as small as it can be."""

    addresses: tuple[IPAddress, ...]
    count: int
    interval_seconds: float
    answer_seconds: float
    packet_bytes: int = 0


class Echo(NamedTuple):
    """What became of one. ``rtt_seconds`` None: no answer. ``refused``: why the kernel did not send it."""

    address: IPAddress
    number: int
    """From 1, for each address."""
    rtt_seconds: float | None
    refused: str = ""


class _Sent(NamedTuple):
    address: IPAddress
    number: int
    at: float


def open_sockets(addresses: Sequence[IPAddress]) -> dict[int, RawIcmpSocket]:
    """One for each IP version. BackendError when the system refuses it."""
    return {version: RawIcmpSocket(_FAMILIES[version]) for version in sorted({a.version for a in addresses})}


def least_packet_bytes(version: int) -> int:
    """Of an echo that carries nothing but its token."""
    return IP_HEADER_BYTES[version] + HEADER_BYTES + TOKEN_BYTES


def _wait_readable(sockets: Sequence[IcmpSocket], seconds: float) -> None:
    select.select(sockets, (), (), max(0.0, seconds))


class EchoRun:
    """Iterate: each echo comes out once, when its answer is there, or it is lost, or was refused."""

    def __init__(
        self,
        order: EchoOrder,
        sockets: Mapping[int, IcmpSocket],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wait: Callable[[Sequence[IcmpSocket], float], None] = _wait_readable,
    ) -> None:
        """
        Args:
            sockets: by IP version; they stay open afterwards.
            monotonic: seconds of the clock by which packets are stamped.
            wait: returns when a socket has something, or after so many seconds.

        Raises:
            ValueError: more echoes than there are sequence numbers.
        """
        if order.count * len(order.addresses) > MAX_SEQUENCES:
            raise ValueError(
                f"{order.count} echoes to {len(order.addresses)} addresses: over {MAX_SEQUENCES}"
            )
        self._order = order
        self._sockets = sockets
        self._monotonic = monotonic
        self._wait = wait
        self._identifier = secrets.randbelow(1 << 16)
        self._token = secrets.token_bytes(TOKEN_BYTES)
        self._sequence = 0
        self._waiting: dict[int, _Sent] = {}

    def __iter__(self) -> Iterator[Echo]:
        due = self._monotonic()
        for number in range(1, self._order.count + 1):
            for address in self._order.addresses:
                yield from self._send(address, number)
            due += self._order.interval_seconds
            if number < self._order.count:
                yield from self._listen(until=due)
        yield from self._listen(until=self._monotonic() + self._order.answer_seconds, to_the_last=True)

    def _send(self, address: IPAddress, number: int) -> Iterator[Echo]:
        version = address.version
        filling = max(0, self._order.packet_bytes - least_packet_bytes(version))
        packet = _BUILD[version](self._identifier, self._sequence, self._token + bytes(filling))
        sent = _Sent(address, number, self._monotonic())
        try:
            self._sockets[version].send(packet, str(address))
        except OSError as error:
            yield Echo(address, number, None, error.strerror or str(error))
        else:
            self._waiting[self._sequence] = sent
        self._sequence += 1

    def _listen(self, *, until: float, to_the_last: bool = False) -> Iterator[Echo]:
        """What comes in, and what is lost, until then. ``to_the_last``: no longer than one is missing."""
        while True:
            for version, each in self._sockets.items():
                for packet in each.drain():
                    yield from self._take(version, packet)
            now = self._monotonic()
            yield from self._lost(now)
            if now >= until or (to_the_last and not self._waiting):
                return
            wakes_at = min(until, self._first_lost_at()) if self._waiting else until
            self._wait(list(self._sockets.values()), wakes_at - now)

    def _take(self, version: int, packet: Packet) -> Iterator[Echo]:
        reply = _PARSE[version](packet.body)
        if reply is None or reply.identifier != self._identifier or not reply.payload.startswith(self._token):
            return
        sent = self._waiting.pop(reply.sequence, None)
        if sent is not None:
            yield Echo(sent.address, sent.number, max(0.0, packet.received_at - sent.at))

    def _lost(self, now: float) -> Iterator[Echo]:
        late = [key for key, sent in self._waiting.items() if now - sent.at >= self._order.answer_seconds]
        for key in late:
            sent = self._waiting.pop(key)
            yield Echo(sent.address, sent.number, None)

    def _first_lost_at(self) -> float:
        return min(sent.at for sent in self._waiting.values()) + self._order.answer_seconds
