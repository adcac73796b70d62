"""Names resolve, fail, hang and lie; nothing but the name itself is the worse for it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Any

import pytest

from meshd.control.resolver import MAX_ADDRESSES, MAX_LOOKUPS, NameResolver, system_lookup
from meshd.supervisor import Supervisor


class Zone:
    """What resolves to what; a name in ``hanging`` blocks its thread until the test is over."""

    def __init__(self, **names: list[str]) -> None:
        self.names = {name.replace("_", "."): addresses for name, addresses in names.items()}
        self.hanging: set[str] = set()
        self.over = threading.Event()
        self.asked: list[str] = []

    def __call__(self, name: str) -> list[str]:
        self.asked.append(name)
        if name in self.hanging:
            self.over.wait(20)
        if name not in self.names:
            raise OSError("Name or service not known")
        return self.names[name]


def run(zone: Zone, scenario: Callable[[NameResolver, Changes], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        changes = Changes()
        async with Supervisor() as tasks:
            resolver = NameResolver(changes.note, tasks, lookup=zone, lookup_seconds=0.2, retry_seconds=0.01)
            try:
                await asyncio.wait_for(scenario(resolver, changes), 20)
            finally:
                resolver.close()
                zone.over.set()

    asyncio.run(main())


class Changes:
    def __init__(self) -> None:
        self._event = asyncio.Event()

    def note(self) -> None:
        self._event.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Looked at after each change that the resolver tells of."""
        while not condition():
            await self._event.wait()
            self._event.clear()


def test_a_name_is_resolved_and_one_that_nobody_needs_is_asked_for_once() -> None:
    zone = Zone(a_example=["198.18.0.2", "2001:db8::2", "fe80::1%eth0", "::ffff:192.0.2.1"])

    async def scenario(resolver: NameResolver, changes: Changes) -> None:
        for _ in range(3):
            resolver.follow({"a.example": "h1"}, {})
            await changes.until(lambda: bool(resolver.resolved))
        assert resolver.resolved == {"a.example": (ip_address("198.18.0.2"), ip_address("2001:db8::2"))}
        assert zone.asked == ["a.example"] and not resolver.failing()

    run(zone, scenario)


def test_a_name_that_is_needed_is_asked_for_again_until_it_says_something_else() -> None:
    zone = Zone(a_example=["198.18.0.2"])

    async def scenario(resolver: NameResolver, changes: Changes) -> None:
        names = {"a.example": "h1"}
        resolver.follow(names, {})
        await changes.until(lambda: bool(resolver.resolved))
        resolver.follow(names, names)
        zone.names["a.example"] = ["198.18.0.9"]
        moved = {"a.example": (ip_address("198.18.0.9"),)}
        await changes.until(lambda: resolver.resolved == moved)

    run(zone, scenario)


def test_a_name_that_fails_keeps_its_last_addresses_and_says_why() -> None:
    zone = Zone(a_example=["198.18.0.2"])

    async def scenario(resolver: NameResolver, changes: Changes) -> None:
        names = {"a.example": "h1"}
        resolver.follow(names, {})
        await changes.until(lambda: bool(resolver.resolved))
        zone.names.clear()
        resolver.follow(names, names)
        await changes.until(lambda: bool(resolver.failing()))
        assert resolver.failing() == {"a.example": "Name or service not known"}
        assert resolver.resolved == {"a.example": (ip_address("198.18.0.2"),)}
        zone.names["a.example"] = ["198.18.0.3"]
        await changes.until(lambda: not resolver.failing())
        assert resolver.resolved == {"a.example": (ip_address("198.18.0.3"),)}

    run(zone, scenario)


def test_names_that_hang_hold_one_place_a_host_and_keep_nobody_waiting() -> None:
    evil = {f"evil{number}.example": "evil" for number in range(20)}
    zone = Zone(a_example=["198.18.0.2"], **{name: ["203.0.113.1"] for name in evil})
    zone.hanging = set(evil)

    async def scenario(resolver: NameResolver, changes: Changes) -> None:
        names = {**evil, "a.example": "h1"}
        resolver.follow(names, names)
        await changes.until(lambda: "a.example" in resolver.resolved)
        await changes.until(lambda: bool(resolver.failing()))
        assert len([name for name in zone.asked if name in evil]) == 1
        resolver.follow({"a.example": "h1"}, {})
        zone.over.set()  # what comes now comes too late
        await asyncio.sleep(0)
        assert set(resolver.resolved) == {"a.example"}

    run(zone, scenario)


@pytest.mark.slow
def test_however_many_names_hang_the_threads_are_few_and_the_end_does_not_wait() -> None:
    names = {f"n{number}.example": f"h{number}" for number in range(100)}
    zone = Zone()
    zone.hanging = set(names)
    before = threading.active_count()

    async def scenario(resolver: NameResolver, changes: Changes) -> None:
        resolver.follow(names, names)
        await changes.until(lambda: len(resolver.failing()) == MAX_LOOKUPS)
        resolver.follow(names, names)
        await asyncio.sleep(0)
        assert threading.active_count() <= before + MAX_LOOKUPS
        resolver.close()

    run(zone, scenario)
    assert len(zone.asked) == MAX_LOOKUPS


def test_a_name_of_a_thousand_addresses_counts_for_a_few() -> None:
    zone = Zone(a_example=[f"198.18.{number // 250}.{number % 250 + 1}" for number in range(1000)])

    async def scenario(resolver: NameResolver, changes: Changes) -> None:
        resolver.follow({"a.example": "h1"}, {})
        await changes.until(lambda: bool(resolver.resolved))
        assert len(resolver.resolved["a.example"]) == MAX_ADDRESSES
        resolver.follow({}, {})
        assert not resolver.resolved

    run(zone, scenario)


def test_the_systems_resolver_knows_this_machine_and_no_invalid_name() -> None:
    assert "127.0.0.1" in system_lookup("localhost") or "::1" in system_lookup("localhost")
    with pytest.raises(socket.gaierror):
        system_lookup("host.invalid")
