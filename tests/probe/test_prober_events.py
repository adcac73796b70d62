"""What the prober tells: pulled, many at a time; and looking at it changes nothing."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import IPv4Address

import pytest
from ping3 import checksum
from until import until

from meshd.probe.base import Packet, ProbeTarget
from meshd.probe.events import EventQueue, MtuChanged, PathChanged, Paused
from meshd.probe.icmp import ECHO_REPLY_V4
from meshd.probe.transport import IcmpProber
from meshd.supervisor import Supervisor

HOSTS = 300


class Echoes:
    """A socket of a network in which everybody answers; the answers lie there until they are read."""

    stamped = True

    def __init__(self, family: socket.AddressFamily) -> None:
        self._answers: list[Packet] = []
        self.sent = 0
        self.reads = 0
        self.answers = True
        self.defects = 0

    def fileno(self) -> int:
        return -1

    def send(self, packet: bytes, address: str) -> None:
        self.sent += 1
        if self.answers:
            answer = bytearray(packet)
            answer[0], answer[2:4] = ECHO_REPLY_V4, bytes(2)
            answer[2:4] = struct.pack("<H", checksum(bytes(answer)))
            ip_header = bytes([0x45, *bytes(19)])
            self._answers.append(Packet(ip_header + answer, address, time.monotonic(), True))

    def drain(self) -> Iterator[Packet]:
        self.reads += 1
        if self.defects:
            self.defects -= 1
            raise KeyError("a defect")
        answers, self._answers = self._answers, []
        yield from answers

    def close(self) -> None:
        pass


class World:
    """A prober of HOSTS paths on a network of echoes."""

    def __init__(self) -> None:
        self.network = Echoes(socket.AF_INET)
        self.slept = 0.0
        self.stopped = 0.0
        self.reported: list[tuple[str, str]] = []
        self.prober = IcmpProber(
            3600.0,
            clock=lambda: time.monotonic() + self.stopped,
            asleep=lambda: self.slept,
            open_socket=lambda _: self.network,
        )
        self.targets = tuple(
            ProbeTarget(hid=f"h{number}", address=IPv4Address("198.18.0.0") + number)
            for number in range(1, HOSTS + 1)
        )

    def note(self, part: str, error: Exception | None) -> None:
        self.reported.append((part, "well" if error is None else type(error).__name__))

    def stop_for(self, seconds: float) -> None:
        """As SIGSTOP does it to a process: its clocks go on, and its timers come late."""
        self.stopped += seconds
        loop = asyncio.get_running_loop()
        loop.time = lambda: time.monotonic() + self.stopped  # type: ignore[method-assign]


def play(scenario: Callable[[World], Awaitable[None]]) -> None:
    async def whole() -> None:
        world = World()
        async with Supervisor(world.note) as tasks:
            await world.prober.start(tasks)
            try:
                await scenario(world)
            finally:
                await world.prober.stop()

    asyncio.run(whole())


@pytest.mark.slow
def test_paths_that_come_up_by_the_hundred_are_events_that_nobody_handles_inside_another() -> None:
    async def scenario(world: World) -> None:
        world.prober.set_targets(world.targets)
        up: set[str] = set()
        async with asyncio.timeout(60):
            while len(up) < HOSTS:
                for event in await world.prober.events():
                    if isinstance(event, Paused):
                        continue  # a busy machine may stand still for seconds
                    assert isinstance(event, PathChanged) and event.up
                    up.add(event.hid)
                    assert world.prober.snapshot(0.0)[event.hid].up
        assert up == {target.hid for target in world.targets}

    play(scenario)


def test_looking_reads_no_socket_and_tells_nobody_anything() -> None:
    async def scenario(world: World) -> None:
        world.prober.set_targets(world.targets[:3])
        await until(lambda: world.network.sent >= 3)
        reads = world.network.reads
        before = world.prober.snapshot(0.0)
        assert {hid: (path.sent, path.received, path.up) for hid, path in before.items()} == {
            hid: (path.sent, path.received, path.up) for hid, path in world.prober.snapshot(0.0).items()
        }
        world.slept = 3600.0
        world.prober.snapshot(0.0)
        assert world.network.reads == reads

    play(scenario)


def test_a_machine_that_slept_is_one_event_and_every_path_is_probed_anew() -> None:
    async def scenario(world: World) -> None:
        world.prober.set_targets(world.targets[:3])
        await until(lambda: len(world.prober.snapshot(0.0)) == 3 and world.network.sent >= 3)
        await asyncio.wait_for(world.prober.events(), 30)
        sent = world.network.sent
        world.slept = 3600.0
        world.prober.set_targets(world.targets[:4])  # anything that sets the timer anew
        events = await asyncio.wait_for(world.prober.events(), 30)
        assert Paused(seconds=3600.0) in events
        await until(lambda: world.network.sent >= sent + 4)

    play(scenario)


@pytest.mark.slow
def test_a_process_that_was_stopped_for_some_seconds_is_an_event_however_rare_its_probes_are() -> None:
    async def scenario(world: World) -> None:
        world.prober.set_targets(world.targets[:1])
        await until(lambda: world.prober.snapshot(0.0)["h1"].received)
        await asyncio.wait_for(world.prober.events(), 30)
        world.stop_for(8.0)
        events = await asyncio.wait_for(world.prober.events(), 30)
        assert [type(event) for event in events] == [Paused]
        await until(lambda: world.prober.snapshot(0.0)["h1"].sent >= 2)  # at once, not in an hour

    play(scenario)


@pytest.mark.slow
def test_a_defect_in_what_a_timer_calls_is_reported_and_the_paths_are_measured_on() -> None:
    async def scenario(world: World) -> None:
        world.network.defects = 2
        world.prober.set_targets(world.targets[:3])
        await until(lambda: all(path.up for path in world.prober.snapshot(0.0).values()))
        assert world.network.defects == 0
        assert world.reported[0] == ("probes", "KeyError") and world.reported[-1] == ("probes", "well")

    play(scenario)


def test_who_takes_late_is_told_the_newest_of_each_path_in_bounded_memory() -> None:
    async def scenario() -> None:
        queue = EventQueue()
        for number in range(1000):
            queue.put(PathChanged(hid="a", up=bool(number % 2)))
            queue.put(MtuChanged(hid="b", old_bytes=2000 - number, new_bytes=1999 - number))
            queue.put(Paused(seconds=2.0))
        assert await queue.take() == (
            PathChanged(hid="a", up=True),
            MtuChanged(hid="b", old_bytes=2000, new_bytes=1000),
            Paused(seconds=2000.0),
        )
        queue.put(PathChanged(hid="a", up=False))
        assert await queue.take() == (PathChanged(hid="a", up=False),)

    asyncio.run(scenario())
