"""A raw ICMP socket: what differs between FreeBSD and Linux, and when a packet came in.

No packet leaves in fragments, so that an answer to a large one says that it fitted. Linux then heeds
the interface's MTU alone (IP_PMTUDISC_PROBE, ip(7)), so what a route's MTU keeps from everybody else
can still be tried. FreeBSD has no such option: IP_DONTFRAG (ip(4)) and IPV6_DONTFRAG (ip6(4)) refuse with
EMSGSIZE what is larger than the route's MTU.

Both kernels stamp a packet as it arrives, so that a reply may lie in the socket for a while
without being measured as slow. FreeBSD stamps by the monotonic clock (SO_TS_CLOCK,
setsockopt(2)), Linux by the wall clock (SO_TIMESTAMPNS, socket(7)). Python's socket module
has none of these constants.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import Final

from meshd.errors import BackendError
from meshd.probe.base import Packet
from meshd.probe.icmp import ECHO_REPLY_V4, ECHO_REPLY_V6

LINUX: Final = sys.platform.startswith("linux")

_FREEBSD_SO_TIMESTAMP: Final = 0x0400
_FREEBSD_SO_TS_CLOCK: Final = 0x1017
_FREEBSD_SO_TS_MONOTONIC: Final = 3
_FREEBSD_SCM_MONOTONIC: Final = 6
_FREEBSD_ICMP6_FILTER: Final = 18
_LINUX_SO_TIMESTAMPNS: Final = 35
_LINUX_SOL_RAW: Final = 255
_LINUX_ICMP_FILTER: Final = 1
_LINUX_ICMPV6_FILTER: Final = 1

_FREEBSD_IP_DONTFRAG: Final = 67
_LINUX_IP_MTU_DISCOVER: Final = 10
_LINUX_IPV6_MTU_DISCOVER: Final = 23
_LINUX_PMTUDISC_PROBE: Final = 3

_STAMP_TYPE: Final = _LINUX_SO_TIMESTAMPNS if LINUX else _FREEBSD_SCM_MONOTONIC
_TIMESPEC: Final = struct.Struct("@ll")

_RECEIVE_BUFFER_BYTES: Final = 256 * 1024
"""FreeBSD gives a raw socket 9 KiB, under a hundred packets."""

_SEND_BUFFER_BYTES: Final = 128 * 1024
"""FreeBSD sends nothing longer than a raw socket's buffer, by default 9 KiB."""

_MAX_PACKET_BYTES: Final = 65536
_ANCILLARY_BYTES: Final = 256
_OFFSET_ATTEMPTS: Final = 3
_OFFSET_PRECISION_SECONDS: Final = 5e-6
_LONGEST_STAY_SECONDS: Final = 60.0
"""A stamp that says a packet has lain there longer is of another clock than we think."""

_STEP_SECONDS: Final = 0.001
_SLEW_RATIO: Final = 0.001
"""The kernels slew the wall clock by at most 500 ppm; what is faster is a step."""


class RawIcmpSocket:
    """One nonblocking raw socket of a family (AF_INET or AF_INET6).

    Raises BackendError when the system refuses it. ``stamped``: the kernel says when packets
    came in; else it is when they are read.
    """

    def __init__(self, family: socket.AddressFamily) -> None:
        protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
        try:
            self._socket = socket.socket(family, socket.SOCK_RAW, protocol)
        except OSError as error:
            raise BackendError(
                f"raw ICMP socket ({family.name}): {error.strerror}; "
                "probing needs root, and in a FreeBSD jail allow.raw_sockets"
            ) from None
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._pass_only_replies(family)
        self._send_whole(family)
        self._buffer = bytearray(_MAX_PACKET_BYTES)
        self.stamped: Final = self._stamp_arrivals()
        self._wall_offset, self._wall_offset_at = _read_wall_offset()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, packet: bytes, address: str) -> None:
        """OSError as sendto(2) gives it."""
        self._socket.sendto(packet, (address, 0))

    def drain(self) -> Iterator[Packet]:
        """Every packet that lies in the socket."""
        offset, steady = self._stamp_offset()
        while True:
            try:
                length, ancillary, _, source = self._socket.recvmsg_into([self._buffer], _ANCILLARY_BYTES)
            except OSError:
                # Empty, or a pending ICMP error of an earlier send: that probe just stays unanswered.
                return
            body = bytes(memoryview(self._buffer)[:length])
            now = time.monotonic()
            stamp = _read_stamp(ancillary) if self.stamped else None
            if stamp is None:
                yield Packet(body, source[0], now, True)
            elif steady and 0 <= now - (stamp - offset) < _LONGEST_STAY_SECONDS:
                yield Packet(body, source[0], stamp - offset, True)
            else:
                yield Packet(body, source[0], now, False)

    def close(self) -> None:
        self._socket.close()

    def _stamp_offset(self) -> tuple[float, bool]:
        """Kernel stamp minus monotonic clock, and whether that was steady since the last look."""
        if not LINUX:
            return 0.0, True
        offset, at = _read_wall_offset()
        allowed = _STEP_SECONDS + _SLEW_RATIO * (at - self._wall_offset_at)
        steady = abs(offset - self._wall_offset) <= allowed
        self._wall_offset, self._wall_offset_at = offset, at
        return offset, steady

    def _stamp_arrivals(self) -> bool:
        try:
            if LINUX:
                self._socket.setsockopt(socket.SOL_SOCKET, _LINUX_SO_TIMESTAMPNS, 1)
            else:
                self._socket.setsockopt(socket.SOL_SOCKET, _FREEBSD_SO_TIMESTAMP, 1)
                self._socket.setsockopt(socket.SOL_SOCKET, _FREEBSD_SO_TS_CLOCK, _FREEBSD_SO_TS_MONOTONIC)
        except OSError:
            return False
        return True

    def _send_whole(self, family: socket.AddressFamily) -> None:
        level = socket.IPPROTO_IP if family == socket.AF_INET else socket.IPPROTO_IPV6
        if LINUX:
            option = _LINUX_IP_MTU_DISCOVER if family == socket.AF_INET else _LINUX_IPV6_MTU_DISCOVER
            self._socket.setsockopt(level, option, _LINUX_PMTUDISC_PROBE)
        else:
            option = _FREEBSD_IP_DONTFRAG if family == socket.AF_INET else socket.IPV6_DONTFRAG
            self._socket.setsockopt(level, option, 1)

    def _pass_only_replies(self, family: socket.AddressFamily) -> None:
        """Have the kernel keep other ICMP away. Linux's filters name what is blocked (raw(7)),
        RFC 3542's on FreeBSD what passes; FreeBSD has none for IPv4."""
        if family == socket.AF_INET:
            if LINUX:
                mask = ~(1 << ECHO_REPLY_V4) & 0xFFFFFFFF
                self._socket.setsockopt(_LINUX_SOL_RAW, _LINUX_ICMP_FILTER, struct.pack("=I", mask))
            return
        words = [0] * 8
        words[ECHO_REPLY_V6 >> 5] = 1 << (ECHO_REPLY_V6 & 31)
        if LINUX:
            words = [~word & 0xFFFFFFFF for word in words]
        option = _LINUX_ICMPV6_FILTER if LINUX else _FREEBSD_ICMP6_FILTER
        self._socket.setsockopt(socket.IPPROTO_ICMPV6, option, struct.pack("=8I", *words))


def _read_wall_offset() -> tuple[float, float]:
    """Wall clock minus monotonic clock, and when; read again if something came between."""
    for _ in range(_OFFSET_ATTEMPTS):
        before = time.monotonic()
        wall = time.time()
        after = time.monotonic()
        if after - before < _OFFSET_PRECISION_SECONDS:
            break
    return wall - (before + after) / 2, after


def _read_stamp(ancillary: list[tuple[int, int, bytes]]) -> float | None:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _STAMP_TYPE and len(data) == _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            return float(seconds + nanoseconds / 1e9)
    return None
