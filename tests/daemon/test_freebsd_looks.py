"""What the daemon runs on an imitated FreeBSD whose kernel tells of its changes: a process for each tool.

The kernel's loop is not waited for: a test hands over what the kernel told and counts what comes of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest
from bsd_news import KernelNews, TellingTools
from daemon_rig import Rig, build_rig, running, settings_for
from fakebsd import FakeBSD
from meshes import SignedMesh

from meshd.backend import freebsd_jails
from meshd.backend.events import KernelEvent, Recheck
from meshd.backend.freebsd import FreeBSDBackend
from meshd.backend.freebsd_jails import YOUNG_SECONDS, FreeBSDJails
from meshd.backend.memory import MemoryBackend
from meshd.control.jails import SURVEY_SECONDS
from meshd.store.memory import MemoryStore


class Host:
    """tesla, with two VNET jails, and what its kernel tells; the daemon hears it when ``hear`` is called."""

    def __init__(self, directory: Path, *, jail_events: bool = True) -> None:
        self.mesh = SignedMesh.create()
        tesla = self.mesh.add("tesla", jails=("10.17.1.0/24",), announced=())
        self.mesh.add("newton", jails=("10.17.2.0/24",))
        self.store = MemoryStore()
        self.mesh.publish(self.store)
        self.bsd = FakeBSD(directory / "bsd")
        for line in (
            "ifconfig lo1 create",
            "ifconfig lo1 up",
            "ifconfig bridge create",
            "ifconfig bridge0 inet 10.17.1.1/24 up",
        ):
            assert self.bsd.answer(line.split()).returncode == 0
        for number in (0, 1):
            for line in (*made(number), *addressed(number)):
                assert self.bsd.answer(line.split()).returncode == 0
        self.news = KernelNews(self.bsd, jail_events=jail_events)
        self.elapsed = 0.0
        runner = TellingTools(self.bsd, self.news)
        self.rig = build_rig(
            directory,
            self.mesh,
            tesla,
            stores=(self.store,),
            backend=cast(
                MemoryBackend, FreeBSDBackend(runner, directory / "routes.json", changes=self.news.changes)
            ),
            settings=settings_for(directory, jails={"networks": "auto"}),
            jail_host=FreeBSDJails(runner, self.news.changes, self.clock),
            jails_elapsed=self.clock,
        )

    def clock(self) -> float:
        return self.elapsed

    def say(self, *lines: str) -> None:
        for line in lines:
            done = self.bsd.answer(line.split())
            assert done.returncode == 0, done
            self.news.tell()

    async def hear(self, look: Recheck | None = None) -> KernelEvent:
        """As the daemon's loops would: a turn for what may touch the mesh, else a look at the jails alone."""
        news = KernelEvent(Recheck.NONE)
        for source in self.news.sources if look is None else ():
            if source is not self.news.jails or self.news.has_jail_news():
                news |= source.take()
        jails = self.rig.daemon.parts.jails
        is_due = jails.take_event(look or news.recheck)
        if Recheck.MESH in (look or news.recheck):
            await self.rig.turn()
        elif is_due:
            await jails.survey_now()
        return news

    def calls(self, start: int = 0) -> Counter[str]:
        return Counter(" ".join(words) for words in self.bsd.calls()[start:])

    async def cost(self, act: Callable[[], Coroutine[Any, Any, Any]]) -> Counter[str]:
        start = len(self.bsd.calls())
        await act()
        return self.calls(start)


def made(number: int) -> tuple[str, ...]:
    return (
        f"jail -c name=v{number} vnet path=/ persist",
        "ifconfig epair create",
        f"ifconfig epair{number}a up",
        f"ifconfig bridge0 addm epair{number}a",
        f"ifconfig epair{number}b vnet v{number}",
    )


def addressed(number: int) -> tuple[str, ...]:
    return (f"ifconfig -j v{number} epair{number}b inet 10.17.1.{20 + number}/24 up",)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is not a hanging tool."""
    monkeypatch.setattr(freebsd_jails, "TIMEOUT_SECONDS", 120.0)


def play(host: Host, scenario: Callable[[Rig], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with running(host.rig) as rig:
            await rig.apply()
            await host.hear()
            host.elapsed += YOUNG_SECONDS
            await rig.apply()  # the jails that were there are no longer young
            await scenario(rig)

    asyncio.run(run())
    host.news.close()


DUMP = "wg show wg0 dump"
JLS = "jls --libxo json jid name vnet ip4.addr ip6.addr path"


def test_an_idle_turn_asks_for_the_peers_and_nothing_else(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def scenario(rig: Rig) -> None:
        assert await host.cost(rig.turn) == {DUMP: 1}

    play(host, scenario)


def test_the_regular_look_at_the_jails_looks_into_each_of_them(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def scenario(rig: Rig) -> None:
        host.elapsed += SURVEY_SECONDS
        cost = await host.cost(rig.turn)
        assert cost == {DUMP: 1, JLS: 1} | {
            f"{tool} -j v{number}{words}": 1
            for number in (0, 1)
            for tool, words in (("ifconfig", ""), ("netstat", " -rnW -f inet --libxo json"))
        }

    play(host, scenario)


def test_a_jail_that_shares_the_stack_costs_a_look_at_the_list_and_one_at_the_routes(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def scenario(rig: Rig) -> None:
        host.say(
            "ifconfig lo1 inet 10.17.1.10/32 alias", "jail -c name=web path=/ ip4.addr=lo1|10.17.1.10 persist"
        )
        table = "netstat -rnW -f inet --libxo json"
        assert await host.cost(host.hear) == {JLS: 1, DUMP: 1, table: 1, "ifconfig -a": 1}
        for _ in range(2):  # a second and five seconds later
            assert await host.cost(lambda: host.hear(Recheck.YOUNG)) == {}
        host.say("jail -r web")
        assert await host.cost(host.hear) == {JLS: 1}

    play(host, scenario)


def test_a_vnet_jail_is_looked_into_until_it_has_its_address_and_no_other_one_with_it(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def scenario(rig: Rig) -> None:
        host.say(*made(2))
        cost = await host.cost(host.hear)
        assert {call for call in cost if " -j " in call} == {"ifconfig -j v2"}
        host.say(*addressed(2))
        assert await host.hear() == KernelEvent(Recheck.NONE)  # no event tells of a jail's inside
        cost = await host.cost(lambda: host.hear(Recheck.YOUNG))
        assert cost["route -j v2 -n add -inet 10.99.0.0/16 10.17.1.1"] == 1
        assert not any("v0" in call or "v1" in call for call in cost) and DUMP not in cost
        host.elapsed += YOUNG_SECONDS
        await host.hear(Recheck.YOUNG)
        assert await host.cost(lambda: host.hear(Recheck.YOUNG)) == {}

    play(host, scenario)


def test_without_jail_events_an_address_and_an_interface_that_leaves_tell_of_a_jail(tmp_path: Path) -> None:
    host = Host(tmp_path, jail_events=False)

    async def scenario(rig: Rig) -> None:
        host.say("ifconfig lo1 inet 10.17.1.10/32 alias")
        news = await host.hear()
        assert (news.recheck, news.later) == (Recheck.MESH | Recheck.JAILS, Recheck.JAILS)
        host.say("jail -c name=web path=/ ip4.addr=lo1|10.17.1.10 persist")
        assert (await host.cost(lambda: host.hear(news.later)))[JLS] == 1
        host.say(*made(2), *addressed(2))
        await host.hear()
        assert host.calls()["route -j v2 -n add -inet 10.99.0.0/16 10.17.1.1"] == 1

    play(host, scenario)


def test_a_host_that_joins_costs_what_it_changes_and_two_looks(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def scenario(rig: Rig) -> None:
        host.mesh.add("bohr", jails=("10.17.9.0/24",))
        host.mesh.publish(host.store)

        async def join() -> None:
            before = rig.world
            await rig.daemon.parts.feed.round()  # which wakes a turn
            while rig.world is before:
                await rig.ask("status")
            await host.hear()

        cost = await host.cost(join)
        changes = {call: times for call, times in cost.items() if call.startswith(("wg addconf", "route"))}
        assert set(changes.values()) == {1} and len(changes) == 4
        table = "netstat -rnW -f {} --libxo json"
        looks = {DUMP: 3, table.format("inet"): 1, table.format("inet6"): 1}
        assert cost == changes | looks

    play(host, scenario)


def test_a_storm_of_foreign_routes_costs_one_look_at_the_table(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def scenario(rig: Rig) -> None:
        for number in range(20):
            host.say(f"route -n add -inet 192.168.{number}.0/24 127.0.0.1")
        assert await host.cost(host.hear) == {DUMP: 1, "netstat -rnW -f inet --libxo json": 1}

    play(host, scenario)
