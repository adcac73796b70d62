"""A daemon on an imitated FreeBSD with jails of both kinds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from daemon_rig import Rig, build_rig, running, settings_for
from fakebsd import FakeBSD
from meshes import SignedMesh
from quick_tools import QuickTools

from meshd.backend.events import KernelEvent, Recheck
from meshd.backend.freebsd import FreeBSDBackend
from meshd.backend.freebsd_jails import FreeBSDJails
from meshd.registry.layout import mesh_prefix
from meshd.store.memory import MemoryStore

BRIDGE = ("ifconfig bridge create", "ifconfig bridge0 inet 10.17.1.1/24 up")
VNET_JAIL = (
    "jail -c name=db vnet path=/ persist",
    "ifconfig epair create",
    "ifconfig epair0a up",
    "ifconfig bridge0 addm epair0a",
    "ifconfig epair0b vnet db",
    "ifconfig -j db epair0b inet 10.17.1.20/24 up",
)
LOOKS = ("ifconfig wg0", "ifconfig -a", "ifconfig -j", "wg show", "netstat", "jls")
TO_MESH = [
    "route -j db -n add -inet 10.17.0.0/16 10.17.1.1",
    "route -j db -n add -inet 10.99.0.0/16 10.17.1.1",
]


class Announcer:
    """The kernel's news, told by the test."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def tell(self, look: Recheck = Recheck.MESH | Recheck.JAILS) -> None:
        os.write(self._write, bytes([look.value]))

    def fileno(self) -> int:
        return self._read

    def take(self) -> KernelEvent:
        news = KernelEvent(Recheck.NONE, "something")
        for value in os.read(self._read, 100):
            news |= KernelEvent(Recheck(value))
        return news

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class Host:
    """One FreeBSD host, tesla, with its daemon."""

    def __init__(self, directory: Path, networks: object) -> None:
        self.mesh = SignedMesh.create()
        tesla = self.mesh.add("tesla", jails=("10.17.1.0/24", "10.17.11.0/24"), announced=())
        self.mesh.add("newton", jails=("10.17.2.0/24",))
        self.store = MemoryStore()
        self.mesh.publish(self.store)
        self.bsd = FakeBSD(directory / "bsd")
        self.news = Announcer()
        self.elapsed = 0.0
        runner = QuickTools(self.bsd)
        backend = FreeBSDBackend(runner, directory / "routes.json")
        self.rig = build_rig(
            directory,
            self.mesh,
            tesla,
            stores=(self.store,),
            backend=backend,
            settings=settings_for(directory, jails={"networks": networks}),
            jail_host=FreeBSDJails(runner),
            jails_elapsed=lambda: self.elapsed,
            event_sources=(self.news,),
        )

    def say(self, *lines: str) -> None:
        for line in lines:
            done = self.bsd.answer(line.split())
            assert done.returncode == 0, done

    def calls(self) -> list[str]:
        return [" ".join(words) for words in self.bsd.calls()]

    def changing_since(self, start: int) -> list[str]:
        return [call for call in self.calls()[start:] if not call.startswith(LOOKS)]

    def stored_record(self) -> bytes:
        found = self.store.get(mesh_prefix(self.mesh.ledger.mesh_id) + self.mesh.hosts["tesla"].key)
        assert found is not None
        return found.body

    async def announced(self) -> set[str]:
        """What tesla's own record says, as others get it."""
        own = next(h for h in self.rig.daemon.parts.feed.membership.hosts.values() if h.name == "tesla")
        assert own.record is not None
        return set(map(str, own.record.announced))

    async def until(self, true: Callable[[], bool]) -> None:
        for _ in range(5000):
            if true():
                return
            await self.rig.ask("status")
        pytest.fail("nothing came of it")


def play(host: Host, scenario: Callable[[Rig], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with running(host.rig) as rig:
            await scenario(rig)

    asyncio.run(run())
