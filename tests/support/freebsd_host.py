"""tesla, an imitated FreeBSD with two VNET jails and a daemon, whose kernel tells of its changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

from bsd_news import KernelNews, TellingTools
from daemon_rig import build_rig, settings_for
from fakebsd import FakeBSD
from meshes import SignedMesh

from meshd.backend.events import KernelEvent, Recheck
from meshd.backend.freebsd import FreeBSDBackend
from meshd.backend.freebsd_jails import FreeBSDJails
from meshd.backend.memory import MemoryBackend
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
        self.elapsed = 0.0
        self.news = KernelNews(self.bsd, jail_events=jail_events, elapsed=self.clock)
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

    async def turn(self) -> None:
        await self.rig.turn()

    async def join(self) -> None:
        """Another host joins, and this one takes it for a peer."""
        self.mesh.add("bohr", jails=("10.17.9.0/24",))
        self.mesh.publish(self.store)
        before = self.rig.world
        await self.rig.daemon.parts.feed.round()  # which wakes a turn
        while self.rig.world is before:
            await self.rig.ask("status")
        await self.hear()

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
