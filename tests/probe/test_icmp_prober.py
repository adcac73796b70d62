"""The prober with real sockets: loopback answers, an address of a quiet namespace does not."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from until import until

from meshd.errors import BackendError
from meshd.model.network import Endpoint
from meshd.probe import rawsocket
from meshd.probe.base import Packet, ProbeTarget
from meshd.probe.events import MtuChanged, PathChanged, Paused, ProbeEvent
from meshd.probe.icmp import ECHO_REPLY_V4
from meshd.probe.transport import IcmpProber
from meshd.supervisor import Supervisor

pytestmark = pytest.mark.root

of_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="namespaces, and all of 127.0.0.0/8 as this machine, are Linux's"
)

LOOPBACK = "127.4.5.6" if sys.platform == "linux" else "127.0.0.1"
NARROW = "10.254.94.2"


def target(hid: str, address: str) -> ProbeTarget:
    return ProbeTarget(hid=hid, address=ipaddress.ip_address(address))


def probing(
    work: Callable[[IcmpProber], Awaitable[None]], heard: list[ProbeEvent] | None = None, **arguments: Any
) -> None:
    """``heard``: is given every event, as it comes."""

    async def listen(prober: IcmpProber, events: list[ProbeEvent]) -> None:
        while True:
            events.extend(await prober.events())

    async def whole() -> None:
        prober = IcmpProber(**{"interval_seconds": 0.1, **arguments})
        async with Supervisor() as tasks:
            await prober.start(tasks)
            tasks.spawn("listening", listen(prober, heard if heard is not None else []))
            try:
                await work(prober)
                await asyncio.sleep(0)  # what is there already is taken
            finally:
                await prober.stop()

    asyncio.run(whole())


@pytest.fixture
def quiet_network() -> Iterator[str]:
    """An address on a link to a namespace where nobody has it."""
    name = f"probe{os.getpid() % 100000}"
    try:
        _ip("netns", "add", name)
        _ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        _ip("address", "add", "10.254.93.1/29", "dev", f"{name}a")
        _ip("link", "set", f"{name}a", "up")
        _ip("-n", name, "address", "add", "10.254.93.2/29", "dev", f"{name}b")
        _ip("-n", name, "link", "set", f"{name}b", "up")
        yield "10.254.93.5"
    finally:
        subprocess.run(["ip", "link", "delete", f"{name}a"], check=False, timeout=10, capture_output=True)
        subprocess.run(["ip", "netns", "delete", name], check=False, timeout=10, capture_output=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=10)


def test_both_families_are_measured() -> None:
    async def work(prober: IcmpProber) -> None:
        prober.set_targets((target("four", LOOPBACK), target("six", "::1")))
        await until(lambda: min(s.received for s in prober.snapshot(time.time()).values()) >= 4)
        for stats in prober.snapshot(time.time()).values():
            assert stats.up and stats.loss_ratio == 0.0
            assert stats.srtt_seconds is not None and 0 < stats.srtt_seconds < 0.5
            assert stats.last_reply_at is not None and abs(stats.last_reply_at - time.time()) < 5

    probing(work)


@of_linux
def test_a_silent_host_is_down_beside_ones_that_answer(quiet_network: str) -> None:
    heard: list[ProbeEvent] = []

    async def work(prober: IcmpProber) -> None:
        silent = target("silent", quiet_network)
        prober.set_targets((target("a", "127.1.1.1"), silent, target("b", "127.1.1.2")))
        await until(lambda: prober.snapshot(time.time())["silent"].loss_ratio == 1.0)
        stats = prober.snapshot(time.time())
        assert stats["a"].up and stats["b"].up and not stats["silent"].up
        assert stats["silent"].received == 0 and stats["silent"].srtt_seconds is None

    probing(work, heard)
    changes = sorted((each.hid, each.up) for each in heard if isinstance(each, PathChanged))
    assert changes == [("a", True), ("b", True)]


@of_linux
def test_a_send_the_system_refuses_is_a_failed_probe_with_its_reason() -> None:
    async def work(prober: IcmpProber) -> None:
        prober.set_targets((target("multicast", "255.255.255.255"), target("a", "127.1.1.1")))
        await until(lambda: prober.refusals().get("multicast"))
        await until(lambda: prober.snapshot(time.time())["a"].up)
        assert "ermission" in prober.refusals()["multicast"]
        assert prober.snapshot(time.time())["multicast"].loss_ratio == 1.0
        assert prober.answering() == {"a"}

    probing(work)


@of_linux
def test_a_target_at_another_address_starts_anew() -> None:
    async def work(prober: IcmpProber) -> None:
        prober.set_targets((target("a", "127.1.1.1"), target("b", "127.1.1.2")))
        await until(lambda: all(s.received > 2 for s in prober.snapshot(time.time()).values()))
        prober.set_targets((target("a", "127.1.1.3"), target("b", "127.1.1.2")))
        stats = prober.snapshot(time.time())
        assert stats["a"].received == 0 and stats["b"].received > 2
        await until(lambda: prober.snapshot(time.time())["a"].up)

    probing(work)


def test_targets_may_be_set_before_the_start() -> None:
    async def whole() -> None:
        prober = IcmpProber(0.1)
        prober.set_targets((target("a", LOOPBACK),))
        async with Supervisor() as tasks:
            await prober.start(tasks)
            await until(lambda: prober.snapshot(time.time())["a"].up)
            await prober.stop()

    asyncio.run(whole())


@of_linux
def test_replies_with_a_wrong_token_or_source_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a's replies is read twice: with a flipped payload bit, and as if b had sent it."""
    genuine = rawsocket.RawIcmpSocket.drain

    def forged(self: rawsocket.RawIcmpSocket) -> Iterator[Packet]:
        for packet in genuine(self):
            if packet.source != "127.1.1.1":
                continue
            message = bytearray(packet.body)
            message[-1] ^= 1
            message[22:24] = b"\0\0"
            message[22:24] = _checksum(bytes(message[20:]))
            assert message[20] == ECHO_REPLY_V4
            yield packet._replace(body=bytes(message))
            yield packet._replace(source="127.9.9.9")

    monkeypatch.setattr(rawsocket.RawIcmpSocket, "drain", forged)

    async def work(prober: IcmpProber) -> None:
        prober.set_targets((target("a", "127.1.1.1"), target("b", "127.9.9.9")))
        await until(lambda: prober.snapshot(time.time())["a"].sent >= 4)
        assert [stats.received for stats in prober.snapshot(time.time()).values()] == [0, 0]

    probing(work)


def _checksum(message: bytes) -> bytes:
    total = sum(int.from_bytes(message[at : at + 2], "big") for at in range(0, len(message), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")


def test_a_step_of_the_wall_clock_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(prober: IcmpProber) -> None:
        prober.set_targets((target("a", LOOPBACK),))
        await until(lambda: prober.snapshot(time.time())["a"].received >= 3)
        before = prober.snapshot(0.0)["a"]
        wall = time.time
        monkeypatch.setattr("time.time", lambda: wall() - 3600.0)
        await until(lambda: prober.snapshot(0.0)["a"].received >= before.received + 1)
        monkeypatch.undo()
        await until(lambda: prober.snapshot(0.0)["a"].received >= before.received + 2)
        after = prober.snapshot(0.0)["a"]
        assert after.srtt_seconds is not None and after.srtt_seconds < 0.5
        assert after.loss_ratio == 0.0

    probing(work)


def test_without_raw_sockets_the_error_says_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise PermissionError(1, "Operation not permitted")

    async def whole() -> None:
        monkeypatch.setattr("meshd.probe.rawsocket.socket.socket", refuse)
        try:
            with pytest.raises(BackendError, match=r"\(AF_INET\): Operation not permitted; .*root"):
                await IcmpProber().start(Supervisor())
        finally:
            monkeypatch.undo()

    asyncio.run(whole())


@pytest.fixture
def narrow_network() -> Iterator[str]:
    """A namespace at 10.254.94.2, at the end of a link that drops what is longer than 1,000 bytes, without
    a word, behind a route that has an MTU of 600."""
    name = f"narrow{os.getpid() % 100000}"
    try:
        _ip("netns", "add", name)
        _ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        _ip("address", "add", "10.254.94.1/29", "dev", f"{name}a", "noprefixroute")
        _ip("link", "set", f"{name}a", "up")
        _ip("route", "add", "10.254.94.0/29", "dev", f"{name}a", "mtu", "600")
        _ip("-n", name, "address", "add", "10.254.94.2/29", "dev", f"{name}b")
        _ip("-n", name, "link", "set", f"{name}b", "mtu", "1000", "up")
        yield name
    finally:
        subprocess.run(["ip", "link", "delete", f"{name}a"], check=False, timeout=10, capture_output=True)
        subprocess.run(["ip", "netns", "delete", name], check=False, timeout=10, capture_output=True)


def sized(hid: str, address: str, largest_bytes: int) -> ProbeTarget:
    return ProbeTarget(hid=hid, address=ipaddress.ip_address(address), largest_bytes=largest_bytes)


@of_linux
def test_the_mtu_of_a_path_is_found_whatever_the_route_says_and_anew_when_it_moves(
    narrow_network: str,
) -> None:
    heard: list[ProbeEvent] = []

    async def work(prober: IcmpProber) -> None:
        prober.set_targets(
            (
                sized("narrow", NARROW, 1420),
                sized("wide", "127.1.1.1", 1420),
                sized("six", "::1", 9000),
                target("unsearched", "127.1.1.2"),
            )
        )
        await until(lambda: dict(prober.path_mtus()) == {"narrow": 992, "wide": 1420, "six": 9000})
        _ip("-n", narrow_network, "link", "set", f"{narrow_network}b", "mtu", "1500")
        elsewhere = replace(sized("narrow", NARROW, 1420), endpoint=Endpoint.parse("192.0.2.7:51820"))
        prober.set_targets((elsewhere,))
        await until(lambda: dict(prober.path_mtus()) == {"narrow": 1420})

    probing(work, heard)
    changes = [(each.old_bytes, each.new_bytes) for each in heard if isinstance(each, MtuChanged)]
    # Two that come between two looks are one, from the first to the last.
    assert changes in ([(None, 576), (576, 992), (992, 1420)], [(None, 992), (992, 1420)])


@of_linux
def test_after_the_machine_slept_every_target_is_probed_at_once_and_no_probe_counts_as_lost() -> None:
    slept, heard = [0.0], list[ProbeEvent]()

    async def work(prober: IcmpProber) -> None:
        prober.set_targets((target("a", "127.0.0.1"), target("b", "127.0.0.2")))
        await until(lambda: all(path.received for path in prober.snapshot(time.time()).values()))
        before = {hid: path.received for hid, path in prober.snapshot(time.time()).items()}
        slept[0] += 3600.0
        await until(
            lambda: all(path.received > before[hid] for hid, path in prober.snapshot(time.time()).items())
        )
        assert [each.seconds for each in heard if isinstance(each, Paused)] == [3600.0]
        assert all(path.up and path.loss_ratio == 0 for path in prober.snapshot(time.time()).values())

    probing(work, interval_seconds=3600.0, heard=heard, asleep=lambda: slept[0])
