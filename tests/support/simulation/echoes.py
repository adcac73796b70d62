"""ICMP sockets over the tunnels: the host there answers, as late as the network is slow."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Final

from ping3 import ICMP_HEADER_FORMAT, checksum

from meshd.probe.base import Packet
from meshd.probe.icmp import ECHO_REPLY_V4, ECHO_REPLY_V6
from simulation.tunnels import Kernel, Tunnels

UNDERLAY_MTU_BYTES: Final = 1420
IPV4_HEADER: Final = bytes([0x45, *[0] * 19])
HEADER_BYTES: Final = {4: 20, 6: 40}


class EchoSocket:
    """A socket of one host for one IP version."""

    stamped = True

    def __init__(self, kernel: Kernel, tunnels: Tunnels, version: int, clock: Callable[[], float]) -> None:
        self._kernel = kernel
        self._tunnels = tunnels
        self._version = version
        self._clock = clock
        self._replies: list[tuple[float, int, bytes, str]] = []
        self.sent = 0
        self.sent_bytes = 0

    def fileno(self) -> int:
        raise AssertionError("arrivals are stamped: nobody waits for them")

    def send(self, packet: bytes, address: str) -> None:
        now, size = self._clock(), HEADER_BYTES[self._version] + len(packet)
        self.sent += 1
        self.sent_bytes += size
        seconds = self._tunnels.round_trip(self._kernel, address, size, now)
        if seconds is not None and size <= UNDERLAY_MTU_BYTES:
            heappush(self._replies, (now + seconds, self.sent, _reply(packet, self._version), address))

    def drain(self) -> Iterator[Packet]:
        now = self._clock()
        while self._replies and self._replies[0][0] <= now:
            arrived_at, _, body, source = heappop(self._replies)
            yield Packet(body, source, arrived_at, True)

    def close(self) -> None:
        self._replies.clear()


def _reply(request: bytes, version: int) -> bytes:
    if version == 6:
        return bytes([ECHO_REPLY_V6]) + request[1:]
    _, _, _, identifier, sequence = struct.unpack(ICMP_HEADER_FORMAT, request[:8])
    reply = bytearray(
        struct.pack(ICMP_HEADER_FORMAT, ECHO_REPLY_V4, 0, 0, identifier, sequence) + request[8:]
    )
    struct.pack_into("<H", reply, 2, checksum(bytes(reply)))
    return IPV4_HEADER + bytes(reply)
