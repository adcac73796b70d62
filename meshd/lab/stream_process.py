"""The process of a stream (``meshd.lab.stream``): sends, receives, and counts by sequence number.

Several ways share one process, each with a phase of its own, so that no burst forms. Arrival times are the
kernel's where it gives them, so a late reader sees no gap.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from meshd.lab.stream import LINGER_SECONDS, StreamReport, WayOrder

NICENESS: Final = -10
LONGEST_WAIT_SECONDS: Final = 30.0
"""No packet waits longer in the socket: the clock was set since it came."""
RECEIVE_BUFFER_BYTES: Final = 4 << 20
# asm-generic/socket.h; Python names it from 3.14 on.
SO_TIMESTAMPNS: Final = 35
CONTROL_FD: Final = 0

_PAYLOAD: Final = struct.Struct("!Q56x")


class _Receiver:
    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._seen: set[int] = set()
        self._highest = -1
        self._duplicates = 0
        self._reordered = 0
        self._last_at: float | None = None
        self._longest_gap = 0.0
        with contextlib.suppress(OSError):  # FreeBSD refuses more than kern.ipc.maxsockbuf
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if sys.platform == "linux":
            opened.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    @property
    def received(self) -> int:
        return len(self._seen)

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, ancillary, _, _ = self._socket.recvmsg(2048, 64)
                if len(packet) == _PAYLOAD.size:
                    self._count(_PAYLOAD.unpack(packet)[0], _arrived_at(ancillary))

    def _count(self, number: int, at: float) -> None:
        if number in self._seen:
            self._duplicates += 1
            return
        self._seen.add(number)
        self._reordered += number < self._highest
        self._highest = max(number, self._highest)
        if self._last_at is not None:
            self._longest_gap = max(self._longest_gap, at - self._last_at)
        self._last_at = at

    def report(self, sent: int, refused: int, start: float, rate: float) -> StreamReport:
        last_lost = next((number for number in reversed(range(sent)) if number not in self._seen), None)
        return StreamReport(
            sent=sent,
            received=self.received,
            lost=sent - self.received,
            duplicates=self._duplicates,
            reordered=self._reordered,
            refused=refused,
            longest_gap_seconds=self._longest_gap,
            last_lost_at=None if last_lost is None else start + last_lost / rate,
        )


def _arrived_at(ancillary: list[tuple[int, int, bytes]]) -> float:
    """On the monotonic clock: the kernel's stamp is of the other one, which may be set in between."""
    now = time.monotonic()
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(data) >= 16:
            seconds, nanoseconds = struct.unpack_from("=qq", data)
            waited = time.time() - (seconds + nanoseconds / 1e9)
            return now - waited if 0.0 < waited < LONGEST_WAIT_SECONDS else now
    return now


class _Way:
    """One direction: packets that the kernel refuses count as sent and lost."""

    def __init__(self, order: WayOrder, rate: float, start: float) -> None:
        receiver = socket.socket(fileno=order.receiver_fd)
        self.counting = _Receiver(receiver)
        self._sender = socket.socket(fileno=order.sender_fd)
        self._target = (order.address, receiver.getsockname()[1])
        self._rate, self._start = rate, start
        self._sent = self._refused = 0

    @property
    def due(self) -> float:
        """When the next packet goes."""
        return self._start + self._sent / self._rate

    @property
    def is_whole(self) -> bool:
        return self.counting.received == self._sent

    def send(self) -> None:
        try:
            self._sender.sendto(_PAYLOAD.pack(self._sent), self._target)
        except OSError:
            self._refused += 1
        self._sent += 1

    def report(self) -> StreamReport:
        return self.counting.report(self._sent, self._refused, self._start, self._rate)


def run_ways(orders: Sequence[WayOrder], rate: float) -> list[StreamReport]:
    """Send until standard input ends, then wait for what is under way."""
    start = time.monotonic()
    ways = [_Way(order, rate, start + number / len(orders) / rate) for number, order in enumerate(orders)]
    by_descriptor = {order.receiver_fd: way for order, way in zip(orders, ways, strict=True)}
    queue = [(way.due, number) for number, way in enumerate(ways)]
    heapq.heapify(queue)
    is_ended = False
    while not is_ended:
        wait = max(0.0, queue[0][0] - time.monotonic())
        ready, _, _ = select.select([CONTROL_FD, *by_descriptor], [], [], wait)
        is_ended = CONTROL_FD in ready
        for descriptor in by_descriptor.keys() & set(ready):
            by_descriptor[descriptor].counting.drain()
        if not is_ended and time.monotonic() >= queue[0][0]:
            _, number = queue[0]
            ways[number].send()
            heapq.heapreplace(queue, (ways[number].due, number))
    end = time.monotonic() + LINGER_SECONDS
    while not all(way.is_whole for way in ways) and (rest := end - time.monotonic()) > 0:
        for descriptor in select.select(list(by_descriptor), [], [], rest)[0]:
            by_descriptor[descriptor].counting.drain()
    return [way.report() for way in ways]


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    gc.disable()
    rate, orders = sys.argv[1:]
    ways = msgspec.json.decode(orders, type=tuple[WayOrder, ...])
    sys.stdout.write("sending\n")
    sys.stdout.flush()
    reports = run_ways(ways, float(rate))
    sys.stdout.buffer.write(msgspec.json.encode(reports) + b"\n")


if __name__ == "__main__":
    main()
