"""ICMP echo packets (RFC 792, RFC 4443) as they go into and come out of raw sockets.

ping3's ``checksum`` gives the sum with its bytes swapped, so it is stored little-endian;
its ``read_icmp_header`` takes exactly the eight bytes of the header.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from meshd.lean import without_other_systems

with without_other_systems():
    from ping3 import ICMP_HEADER_FORMAT, checksum, read_icmp_header

ECHO_REQUEST_V4: Final = 8
ECHO_REPLY_V4: Final = 0
ECHO_REQUEST_V6: Final = 128
ECHO_REPLY_V6: Final = 129

HEADER_BYTES: Final = 8
_CHECKSUM_AT: Final = 2


class EchoReply(NamedTuple):
    identifier: int
    sequence: int
    payload: bytes


def build_echo_request_v4(identifier: int, sequence: int, payload: bytes) -> bytes:
    packet = bytearray(struct.pack(ICMP_HEADER_FORMAT, ECHO_REQUEST_V4, 0, 0, identifier, sequence) + payload)
    struct.pack_into("<H", packet, _CHECKSUM_AT, checksum(bytes(packet)))
    return bytes(packet)


def build_echo_request_v6(identifier: int, sequence: int, payload: bytes) -> bytes:
    """The checksum stays zero: the kernel knows the addresses it covers (RFC 3542 section 3.1)."""
    return struct.pack(ICMP_HEADER_FORMAT, ECHO_REQUEST_V6, 0, 0, identifier, sequence) + payload


def parse_echo_reply_v4(packet: bytes) -> EchoReply | None:
    """A raw IPv4 socket's packet, IP header included; None: anything but an intact echo reply.

    Raw sockets see packets before the kernel has verified the ICMP checksum.
    """
    if not packet or packet[0] >> 4 != 4:
        return None
    message = packet[(packet[0] & 0x0F) * 4 :]
    reply = _parse(message, ECHO_REPLY_V4)
    return reply if reply is not None and checksum(message) == 0 else None


def parse_echo_reply_v6(packet: bytes) -> EchoReply | None:
    """A raw ICMPv6 socket's packet: no IP header, checksum verified by the kernel."""
    return _parse(packet, ECHO_REPLY_V6)


def _parse(message: bytes, reply_type: int) -> EchoReply | None:
    if len(message) < HEADER_BYTES:
        return None
    header = read_icmp_header(message[:HEADER_BYTES])
    if header["type"] != reply_type or header["code"] != 0:
        return None
    return EchoReply(header["id"], header["seq"], message[HEADER_BYTES:])
