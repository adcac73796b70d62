"""Echoes that somebody waits for, on sockets and a clock of the test's own."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest

from meshd.probe.base import IcmpSocket, Packet
from meshd.probe.echoes import Echo, EchoOrder, EchoRun, least_packet_bytes
from meshd.probe.icmp import ECHO_REPLY_V6

NEWTON, BOHR = ip_address("fd00::2"), ip_address("fd00::3")


@dataclass
class World:
    """A clock, and a host that answers as ``replies`` says: after so many seconds, each time."""

    replies: Callable[[int], Sequence[float]]
    now: float = 100.0
    sent: list[bytes] = field(default_factory=list)
    coming: list[tuple[float, bytes]] = field(default_factory=list)
    refuse: str = ""
    stamped: bool = True

    def fileno(self) -> int:
        raise AssertionError("nobody waits for this socket")

    def send(self, packet: bytes, address: str) -> None:
        if self.refuse:
            raise OSError(90, self.refuse)
        self.sent.append(packet)
        reply = struct.pack("!B", ECHO_REPLY_V6) + packet[1:]
        self.coming += [(self.now + after, reply) for after in self.replies(len(self.sent))]

    def drain(self) -> Iterator[Packet]:
        here = [each for each in self.coming if each[0] <= self.now]
        self.coming = [each for each in self.coming if each[0] > self.now]
        for at, body in here:
            yield Packet(body, "fd00::99", at, True)

    def close(self) -> None: ...

    def wait(self, sockets: Sequence[IcmpSocket], seconds: float) -> None:
        next_at = min((at for at, _ in self.coming), default=self.now + seconds)
        self.now = min(max(next_at, self.now), self.now + seconds)

    def run(self, *, count: int = 3, packet_bytes: int = 0, addresses: tuple = (NEWTON,)) -> list[Echo]:  # type: ignore[type-arg]
        order = EchoOrder(
            addresses=addresses,
            count=count,
            interval_seconds=1.0,
            answer_seconds=2.0,
            packet_bytes=packet_bytes,
        )
        return list(EchoRun(order, {6: self}, monotonic=lambda: self.now, wait=self.wait))


def test_every_answer_is_one_echo_and_the_run_ends_with_the_last_one() -> None:
    world = World(lambda _: [0.03])
    echoes = world.run()
    assert [(echo.number, round(echo.rtt_seconds or 0, 6)) for echo in echoes] == [
        (1, 0.03),
        (2, 0.03),
        (3, 0.03),
    ]
    assert world.now == pytest.approx(102.03)


def test_what_comes_twice_counts_once_and_what_comes_too_late_is_lost() -> None:
    echoes = World(lambda number: {1: [0.1, 0.2], 2: [2.5], 3: []}[number]).run()
    assert [(echo.number, echo.rtt_seconds is None) for echo in echoes] == [(1, False), (2, True), (3, True)]


def test_an_answer_may_come_after_the_next_one_was_sent() -> None:
    echoes = World(lambda number: [1.5] if number == 1 else [0.1]).run(count=2)
    assert [(echo.number, round(echo.rtt_seconds or 0, 6)) for echo in echoes] == [(2, 0.1), (1, 1.5)]


def test_a_reply_to_somebody_else_is_none_of_ours() -> None:
    world = World(lambda _: [])
    foreign = struct.pack("!BBHHH", ECHO_REPLY_V6, 0, 0, 0, 0) + bytes(16)
    world.coming = [(100.0, foreign), (100.0, b"\x81"), (100.0, b"")]
    assert [echo.rtt_seconds for echo in world.run(count=1)] == [None]


def test_what_the_kernel_does_not_send_is_reported_at_once() -> None:
    world = World(lambda _: [0.1], refuse="Message too long")
    assert world.run(count=1) == [Echo(NEWTON, 1, None, "Message too long")]
    assert world.now == 100.0


@pytest.mark.parametrize(("asked", "whole"), [(0, least_packet_bytes(6)), (1420, 1420)])
def test_a_packet_is_as_large_as_asked(asked: int, whole: int) -> None:
    world = World(lambda _: [0.1])
    world.run(count=1, packet_bytes=asked)
    assert [40 + len(packet) for packet in world.sent] == [whole]


def test_each_address_has_its_own_numbers() -> None:
    echoes = World(lambda number: [0.01 * number]).run(count=2, addresses=(NEWTON, BOHR))
    assert [(echo.address, echo.number) for echo in echoes] == [
        (NEWTON, 1),
        (BOHR, 1),
        (NEWTON, 2),
        (BOHR, 2),
    ]
    assert [round(echo.rtt_seconds or 0, 6) for echo in echoes] == [0.01, 0.02, 0.03, 0.04]


def test_more_echoes_than_sequence_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="40000 echoes to 2 addresses"):
        World(lambda _: []).run(count=40_000, addresses=(NEWTON, BOHR))
