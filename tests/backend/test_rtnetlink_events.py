"""What rtnetlink tells: a route of ours that comes is our own work, and no reason to look at the kernel."""

from __future__ import annotations

import struct

from meshd.backend.events import ROUTE_PROTOCOL, is_own_work

NEW, GONE, NEW_ADDRESS = 24, 25, 20
KERNEL, STATIC = 2, 4


def message(kind: int, protocol: int, attributes: bytes = bytes(20)) -> bytes:
    """struct nlmsghdr and struct rtmsg (linux/rtnetlink.h), and attributes."""
    body = struct.pack("=BBBBBBBBI", 2, 24, 0, 0, 254, protocol, 253, 1, 0) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 7, 4711) + body


def test_our_route_that_comes_is_no_news() -> None:
    assert is_own_work(message(NEW, ROUTE_PROTOCOL))
    assert is_own_work(message(NEW, ROUTE_PROTOCOL) + message(NEW, ROUTE_PROTOCOL))


def test_all_else_is_news() -> None:
    ours = message(NEW, ROUTE_PROTOCOL)
    for other in (
        message(GONE, ROUTE_PROTOCOL),
        message(NEW, STATIC),
        message(NEW, KERNEL),
        message(NEW_ADDRESS, ROUTE_PROTOCOL),
    ):
        assert not is_own_work(other)
        assert not is_own_work(ours + other)
        assert not is_own_work(other + ours)


def test_what_is_no_message_is_news() -> None:
    ours = message(NEW, ROUTE_PROTOCOL)
    assert not is_own_work(ours[:20])
    assert not is_own_work(ours + b"\0")
    assert not is_own_work(struct.pack("=I", 0) + ours[4:])
