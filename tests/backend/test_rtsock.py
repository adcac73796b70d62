"""Messages of FreeBSD's routing socket: the bytes that a real 15.1 sent, and junk."""

from __future__ import annotations

import struct
from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded_events import RECORDED, Recorded

from meshd.backend.rtsock import IFF_UP, Kind, RouteMessage, decode_messages
from meshd.errors import BackendError

SAID = [
    "ifannounce wg0",
    "newaddr 10.99.0.1/32 wg0",
    "add 10.99.0.1/32",
    "newmaddr 224.0.0.1/32 wg0",
    "ifinfo",
    "ifinfo",
    "add 10.17.2.0/24",
    "change 10.17.2.0/24",
    "delete 10.17.2.0/24",
    "newaddr 10.17.1.10/32 lo0",
    "add 10.17.1.10/32",
    "ifannounce epair0a",
    "ifannounce epair0b",
    "ifinfo",
    "ifinfo",
    "ifinfo",
    "ifannounce epair0b gone",
    "ifannounce epair0b",
]


def test_every_recorded_message_decodes_to_what_was_done() -> None:
    print(f"{len(RECORDED)} recorded messages decoded")
    assert [str(message) for one in RECORDED for message in decode_messages(one.body)] == SAID


@pytest.mark.parametrize("one", RECORDED, ids=lambda one: f"{one.kind} {one.words}")
def test_the_numbers_are_those_the_recording_program_read(one: Recorded) -> None:
    (message,) = decode_messages(one.body)
    assert message.kind.name == one.kind
    for name, seen in (("index", message.index), ("flags", message.flags)):
        expected = one.number(name)
        assert expected is None or seen == expected


def test_an_address_and_the_interface_it_is_on() -> None:
    newaddr = next(one for one in RECORDED if one.kind == "NEWADDR")
    assert decode_messages(newaddr.body) == [
        RouteMessage(
            kind=Kind.NEWADDR, index=2, interface="wg0", address=ip_address("10.99.0.1"), prefix_length=32
        )
    ]


def test_an_interface_that_goes_up_says_so_in_its_flags() -> None:
    ups = [
        bool(message.flags & IFF_UP)
        for one in RECORDED
        if one.kind == "IFINFO"
        for message in decode_messages(one.body)
    ]
    assert ups == [True, True, False, False, False]


def test_several_messages_in_one_read() -> None:
    together = b"".join(one.body for one in RECORDED)
    assert [str(message) for message in decode_messages(together)] == SAID


def route_message(kind: int, *sockaddrs: bytes, addrs: int) -> bytes:
    body = struct.pack("=HxxiiiiiI", 7, 0x801, addrs, 0, 0, 0, 0).ljust(148, b"\0") + b"".join(
        one.ljust(1 + ((len(one) - 1) | 7), b"\0") for one in sockaddrs
    )
    return struct.pack("=HBB", 4 + len(body), 5, kind) + body


def test_an_ipv6_route_with_a_netmask_cut_short() -> None:
    destination = bytes([28, 28, 0, 0, 0, 0, 0, 0]) + ip_address("fd17:2::").packed + bytes(4)
    mask = bytes([16, 0, 0, 0, 0, 0, 0, 0]) + b"\xff" * 8
    link = bytes([54, 18, 7, 0, 0xF8, 3, 0, 0]) + b"wg0".ljust(46, b"\0")
    (message,) = decode_messages(route_message(1, destination, link, mask, addrs=0x7))
    assert str(message) == "add fd17:2::/64 wg0" and message.index == 7


def test_a_default_route_whose_netmask_is_empty() -> None:
    destination = bytes([16, 2]) + bytes(14)
    assert str(decode_messages(route_message(1, destination, bytes(8), addrs=0x5))[0]) == "add 0.0.0.0/0"


@pytest.mark.parametrize(
    "data", [b"\x18\0\x04\x11" + bytes(20), b"\x18\0\x05\x63" + bytes(20)], ids=["version 4", "type 99"]
)
def test_what_is_not_known_is_passed_over(data: bytes) -> None:
    assert decode_messages(data + RECORDED[0].body) == decode_messages(RECORDED[0].body)


@given(st.binary(max_size=400))
def test_junk_raises_only_backend_errors(junk: bytes) -> None:
    with suppress(BackendError):
        decode_messages(junk)


@given(st.sampled_from(list(Kind)), st.integers(0, 255), st.binary(max_size=300), st.integers(-20, 20))
def test_a_message_of_any_length_and_content_raises_only_backend_errors(
    kind: Kind, addrs: int, rest: bytes, off: int
) -> None:
    body = struct.pack("=iI", addrs, 0) + rest
    data = struct.pack("=HBB", max(0, 4 + len(body) + off), 5, kind) + body
    with suppress(BackendError):
        for message in decode_messages(data):
            assert str(message)


@given(st.sampled_from(RECORDED), st.data())
def test_a_recorded_message_cut_short_or_changed_raises_only_backend_errors(
    one: Recorded, data: st.DataObject
) -> None:
    changed = bytearray(one.body)
    for _ in range(data.draw(st.integers(0, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    with suppress(BackendError):
        decode_messages(bytes(changed[: data.draw(st.integers(0, len(changed)))]))
