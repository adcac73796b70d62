"""Who reaches whom, asked with real pings and nothing else.

The oracle knows places and addresses. It shares no code with what plans, configures or
probes the mesh, so that it cannot share its mistakes. One raw ICMP socket a place (RFC 792,
RFC 4443), all served by one loop; questions are paced, because a burst of a thousand pings
measures the burst.
"""

from __future__ import annotations

import contextlib
import secrets
import selectors
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from meshd.errors import BackendError
from meshd.lab.base import Place
from meshd.model.network import IPAddress

PAIRS_PER_SECOND: Final = 4000.0
RESEND_SECONDS: Final = 0.1
TICK_SECONDS: Final = 0.002
RECEIVE_BUFFER_BYTES: Final = 1 << 20
# linux/icmp.h: a raw socket may decline message types, here all but echo replies.
SOL_RAW: Final = 255
ICMP_FILTER: Final = 1

_ECHO: Final = {4: (8, 0), 6: (128, 129)}

Pair = tuple[str, str]


def _internet_checksum(data: bytes) -> int:
    """RFC 1071, for an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _echo_request(version: int, identifier: int, sequence: int) -> bytes:
    """The kernel fills in the checksum of ICMPv6, not that of ICMP."""
    kind = _ECHO[version][0]
    checksum = 0
    if version == 4:
        checksum = _internet_checksum(struct.pack("!BBHHH", kind, 0, 0, identifier, sequence))
    return struct.pack("!BBHHH", kind, 0, checksum, identifier, sequence)


@dataclass(slots=True)
class _Question:
    """A pair that is being asked; ``sent_at`` by sequence number, monotonic seconds."""

    pair: Pair
    sent_at: dict[int, float]


class Oracle:
    """Places under names, with the address that others use for each. Close it after use."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[Place, IPAddress]] = {}
        self._sockets: dict[tuple[str, int], socket.socket] = {}
        self._selector = selectors.DefaultSelector()

    def add(self, place: Place, address: IPAddress, *, name: str = "") -> None:
        """``address``: where the others reach it, a mesh address for a host. ``name``: the place's."""
        self._places[name or place.name] = (place, address)

    def remove(self, name: str) -> None:
        self._places.pop(name, None)
        for key in [key for key in self._sockets if key[0] == name]:
            opened = self._sockets.pop(key)
            self._selector.unregister(opened)
            opened.close()

    def close(self) -> None:
        for name in list(self._places):
            self.remove(name)
        self._selector.close()

    def sweep(
        self,
        pairs: Iterable[Pair],
        timeout_seconds: float = 1.0,
        *,
        pairs_per_second: float = PAIRS_PER_SECOND,
    ) -> dict[Pair, float | None]:
        """Ask each ordered pair (source name, target name) once: round trip in seconds, or None.

        The time-out counts from the last question. Raises BackendError when a place has no socket.
        """
        asked = list(dict.fromkeys(pairs))
        length = len(asked) / pairs_per_second + timeout_seconds
        run = _Run(self, asked, pairs_per_second)
        answers = run.until(time.monotonic() + length)
        return {pair: answers[pair][0] if pair in answers else None for pair in asked}

    def wait_all(
        self,
        pairs: Iterable[Pair],
        deadline_seconds: float,
        on_progress: Callable[[int, int], None] = lambda answered, total: None,
    ) -> dict[Pair, float | None]:
        """Ask until every pair has answered once; seconds from now to its first answer, or None.

        A pair without an answer is asked again every 0.1 s, or more slowly when they are many.
        ``on_progress`` receives how many have answered, of how many.
        """
        asked = list(dict.fromkeys(pairs))
        start = time.monotonic()
        run = _Run(self, asked, PAIRS_PER_SECOND, resend_seconds=RESEND_SECONDS, on_progress=on_progress)
        answers = run.until(start + deadline_seconds)
        return {pair: answers[pair][1] - start if pair in answers else None for pair in asked}

    def address(self, name: str) -> IPAddress:
        """Raises BackendError for a name that was not added."""
        return self._place(name)[1]

    def _place(self, name: str) -> tuple[Place, IPAddress]:
        try:
            return self._places[name]
        except KeyError:
            raise BackendError(f"oracle: no place {name!r}") from None

    def socket_of(self, name: str, version: int) -> socket.socket:
        """The place's raw ICMP socket for IPv4 or IPv6, opened when first needed."""
        key = (name, version)
        if key not in self._sockets:
            place = self._place(name)[0]
            if version == 4:
                opened = place.open_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            else:
                opened = place.open_socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
            with contextlib.suppress(OSError):  # more than the system allows: its own size has to do
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            if version == 4 and sys.platform == "linux":
                opened.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", ~(1 << _ECHO[4][1]) & 0xFFFFFFFF))
            self._sockets[key] = opened
            self._selector.register(opened, selectors.EVENT_READ, key)
        return self._sockets[key]

    def ready(self, timeout_seconds: float) -> list[tuple[str, int]]:
        """Names and IP versions of the sockets that have something to read."""
        return [key.data for key, _ in self._selector.select(timeout_seconds)]


class _Run:
    """One round of questions: ``until`` returns {pair: (round trip, instant of the answer)}."""

    def __init__(
        self,
        oracle: Oracle,
        pairs: list[Pair],
        pairs_per_second: float,
        *,
        resend_seconds: float | None = None,
        on_progress: Callable[[int, int], None] = lambda answered, total: None,
    ) -> None:
        self._oracle = oracle
        self._interval = 1.0 / pairs_per_second
        self._resend_seconds = resend_seconds
        self._on_progress = on_progress
        self._total = len(pairs)
        # One for each source: jails that share a network stack hear each other's answers.
        first = secrets.randbelow(0x10000)
        sources = dict.fromkeys(source for source, _ in pairs)
        self._identifiers = {name: (first + number) & 0xFFFF for number, name in enumerate(sources)}
        self._questions = {
            (source, str(oracle.address(target))): _Question((source, target), {}) for source, target in pairs
        }
        self._waiting = deque((0.0, key) for key in self._questions)
        self._answers: dict[Pair, tuple[float, float]] = {}
        self._requests: dict[tuple[int, int, int], bytes] = {}
        for source, target in pairs:
            oracle.socket_of(source, oracle.address(target).version)

    def until(self, deadline: float) -> Mapping[Pair, tuple[float, float]]:
        next_at = time.monotonic()
        while len(self._answers) < self._total and (now := time.monotonic()) < deadline:
            while self._waiting and self._waiting[0][0] <= now and next_at <= now:
                self._ask(self._waiting.popleft()[1])
                next_at += self._interval
            if self._waiting:
                next_at = max(next_at, now - TICK_SECONDS)
                wait = min(max(next_at, self._waiting[0][0]) - now, deadline - now)
            else:
                wait = deadline - now
            self._collect(max(wait, 0.0))
        return self._answers

    def _ask(self, key: tuple[str, str]) -> None:
        question = self._questions[key]
        source, target = question.pair
        if question.pair in self._answers:
            return
        address = self._oracle.address(target)
        sequence = len(question.sent_at) & 0xFFFF
        kind = (address.version, self._identifiers[source], sequence)
        if kind not in self._requests:
            self._requests[kind] = _echo_request(*kind)
        now = question.sent_at[sequence] = time.monotonic()
        # No route, no peer or no key yet: that is an answer that did not come.
        with contextlib.suppress(OSError):
            opened = self._oracle.socket_of(source, address.version)
            opened.sendto(self._requests[kind], (key[1], 0))
        if self._resend_seconds is not None:
            self._waiting.append((now + self._resend_seconds, key))

    def _collect(self, wait_seconds: float) -> None:
        before = len(self._answers)
        for name, version in self._oracle.ready(wait_seconds):
            opened = self._oracle.socket_of(name, version)
            with contextlib.suppress(OSError):
                while True:
                    packet, sender = opened.recvfrom(2048)
                    self._match(name, version, packet, str(sender[0]))
        if len(self._answers) != before:
            self._on_progress(len(self._answers), self._total)

    def _match(self, name: str, version: int, packet: bytes, sender: str) -> None:
        now = time.monotonic()
        # IPv4 raw sockets hand over the IP header, IPv6 ones do not (ip(4), RFC 3542).
        start = (packet[0] & 15) * 4 if version == 4 else 0
        if len(packet) < start + 8:
            return
        kind, _, _, identifier, sequence = struct.unpack_from("!BBHHH", packet, start)
        question = self._questions.get((name, sender))
        if kind != _ECHO[version][1] or question is None or identifier != self._identifiers[name]:
            return
        sent_at = question.sent_at.get(sequence)
        if sent_at is not None and question.pair not in self._answers:
            self._answers[question.pair] = (now - sent_at, now)
