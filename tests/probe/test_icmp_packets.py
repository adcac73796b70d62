"""ICMP packets byte by byte, and whatever else a raw socket may be handed."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.probe.icmp import (
    EchoReply,
    build_echo_request_v4,
    build_echo_request_v6,
    parse_echo_reply_v4,
    parse_echo_reply_v6,
)


def internet_sum(message: bytes) -> int:
    """RFC 1071, written out: 0xFFFF for a message that carries its own checksum."""
    padded = message + b"\0" * (len(message) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def reply_to(request: bytes, options: bytes = b"") -> bytes:
    """The IPv4 packet a host answers with."""
    body = bytearray(request)
    body[0] = 0
    body[2:4] = b"\0\0"
    body[2:4] = struct.pack("!H", ~internet_sum(bytes(body)) & 0xFFFF)
    header = bytes([0x40 | (20 + len(options)) // 4]) + bytes(19) + options
    return header + bytes(body)


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.binary(max_size=100))
def test_a_request_has_a_right_checksum_and_its_reply_parses(
    identifier: int, sequence: int, payload: bytes
) -> None:
    request = build_echo_request_v4(identifier, sequence, payload)
    assert internet_sum(request) == 0xFFFF
    assert request[:2] == b"\x08\0"
    assert parse_echo_reply_v4(reply_to(request)) == EchoReply(identifier, sequence, payload)


def test_ip_options_are_skipped() -> None:
    packet = reply_to(build_echo_request_v4(7, 9, b"token"), options=b"\x01" * 8)
    assert parse_echo_reply_v4(packet) == EchoReply(7, 9, b"token")


def test_icmpv6_has_no_ip_header() -> None:
    request = build_echo_request_v6(7, 9, b"token")
    assert parse_echo_reply_v6(b"\x81" + request[1:]) == EchoReply(7, 9, b"token")
    assert parse_echo_reply_v6(request) is None


@pytest.mark.parametrize("at", [20, 21, 22, 26, 28])
def test_a_damaged_or_foreign_packet_is_no_reply(at: int) -> None:
    packet = bytearray(reply_to(build_echo_request_v4(7, 9, b"token")))
    packet[at] ^= 0x01
    assert parse_echo_reply_v4(bytes(packet)) is None


@given(st.binary(max_size=120))
def test_junk_is_no_reply_and_no_error(junk: bytes) -> None:
    parse_echo_reply_v6(junk)
    assert parse_echo_reply_v4(b"\x60" + junk) is None
    for length in range(16):
        parse_echo_reply_v4(bytes([0x40 | length]) + junk)
