"""How many processes meshd starts on FreeBSD, where each look at the kernel is one: counted, not timed.

On an imitated FreeBSD 15.1 with two VNET jails, whose kernel tells of its changes as a real one did. The
clock is stepped: an idle minute is six turns. Runs on Linux too, in seconds, and the counts are the same.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final

from daemon_rig import running
from freebsd_host import Host, addressed, made

from meshd.backend.events import Recheck
from meshd.backend.freebsd_jails import YOUNG_SECONDS

TURN_SECONDS: Final = 10.0
TURNS_A_MINUTE: Final = 6


def run() -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_count(Host(Path(directory))))


async def _count(host: Host) -> None:
    async with running(host.rig) as rig:
        await rig.apply()
        await host.hear()
        _show("a first turn, with one peer and two VNET jails", host.calls())
        await _idle_minute(host)  # after it the jails that were there are no longer young
        for title, act in (
            ("an idle minute", _idle_minute),
            ("a jail that shares the host's stack comes and goes", _shared_jail),
            ("a VNET jail comes and goes", _vnet_jail),
            ("another host joins", _join),
        ):
            await host.turn()  # with nothing left to look at
            start = len(host.bsd.calls())
            await act(host)
            _show(title, host.calls(start))
    host.news.close()


async def _idle_minute(host: Host) -> None:
    for _ in range(TURNS_A_MINUTE):
        host.elapsed += TURN_SECONDS
        await host.turn()


async def _shared_jail(host: Host) -> None:
    host.say("ifconfig lo1 inet 10.17.1.10/32 alias")
    host.say("jail -c name=web path=/ ip4.addr=lo1|10.17.1.10 persist")
    await _hear_and_look_again(host)
    host.say("jail -r web", "ifconfig lo1 inet 10.17.1.10/32 -alias")
    await _hear_and_look_again(host)


async def _vnet_jail(host: Host) -> None:
    host.say(*made(2))
    await host.hear()
    host.say(*addressed(2))
    await _hear_and_look_again(host)
    host.elapsed += YOUNG_SECONDS
    host.say("jail -r v2", "ifconfig epair2a destroy")
    await _hear_and_look_again(host)


async def _join(host: Host) -> None:
    await host.join()


async def _hear_and_look_again(host: Host) -> None:
    """What the kernel told, and the looks a second and five seconds later, if one is due."""
    await host.hear()
    for _ in range(2):
        await host.hear(Recheck.YOUNG)


def _show(title: str, calls: Counter[str]) -> None:
    tools = Counter[str]()
    for call, times in calls.items():
        tools[call.partition(" ")[0]] += times
    parts = ", ".join(f"{times} {tool}" for tool, times in sorted(tools.items()))
    print(f"{title}: {calls.total()} processes ({parts})", flush=True)
