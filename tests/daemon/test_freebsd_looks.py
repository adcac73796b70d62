"""What the daemon runs on an imitated FreeBSD whose kernel tells of its changes: a process for each tool.

The kernel's loop is not waited for: a test hands over what the kernel told and counts what comes of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from daemon_rig import Rig, running
from freebsd_host import Host, addressed, made

from meshd.backend import freebsd_jails
from meshd.backend.events import KernelEvent, Recheck
from meshd.backend.freebsd_jails import YOUNG_SECONDS
from meshd.control.jails import SURVEY_SECONDS


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


@pytest.mark.slow
def test_an_idle_turn_asks_for_the_peers_and_nothing_else(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def scenario(rig: Rig) -> None:
        assert await host.cost(rig.turn) == {DUMP: 1}

    play(host, scenario)


@pytest.mark.slow
def test_the_regular_look_at_the_jails_looks_into_each_of_them(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def scenario(rig: Rig) -> None:
        host.elapsed += SURVEY_SECONDS
        cost = await host.cost(rig.turn)
        assert {call: times for call, times in cost.items() if call == JLS or " -j " in call} == {JLS: 1} | {
            f"{tool} -j v{number}{words}": 1
            for number in (0, 1)
            for tool, words in (("ifconfig", ""), ("netstat", " -rnW -f inet --libxo json"))
        }

    play(host, scenario)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_host_that_joins_costs_what_it_changes_and_two_looks(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def scenario(rig: Rig) -> None:
        cost = await host.cost(host.join)
        changes = {call: times for call, times in cost.items() if call.startswith(("wg addconf", "route"))}
        assert set(changes.values()) == {1} and len(changes) == 4
        table = "netstat -rnW -f {} --libxo json"
        looks = {DUMP: 3, table.format("inet"): 1, table.format("inet6"): 1}
        assert cost == changes | looks

    play(host, scenario)


@pytest.mark.slow
def test_a_storm_of_foreign_routes_costs_one_look_at_the_table(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def scenario(rig: Rig) -> None:
        for number in range(20):
            host.say(f"route -n add -inet 192.168.{number}.0/24 127.0.0.1")
        assert await host.cost(host.hear) == {DUMP: 1, "netstat -rnW -f inet --libxo json": 1}

    play(host, scenario)
