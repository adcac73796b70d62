"""Whole daemons on recorded kernels, step by step: registry, view, plan and apply are the product's own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import pytest
from daemon_rig import NO_WAITING, Rig, build_rig, settings_for
from golden_transcript import Killed, Transcript
from meshes import NOW, SignedHost, SignedMesh
from msgspec.structs import replace

from meshd.backend.base import Backend
from meshd.control import rotation
from meshd.host import keyring
from meshd.model.keys import PrivateKey
from meshd.model.network import parse_network
from meshd.probe.events import MtuChanged
from meshd.store.memory import MemoryStore
from meshd.version import VERSION

INTERFACE = "wg0"
SECOND = "wg100"
LIMIT_SECONDS = 60.0
QUIET = replace(NO_WAITING, turn_seconds=3600.0)


class GoldenKernel(Protocol):
    """One host's kernel, and what the world does to it."""

    def open(self) -> Backend:
        """The backend as the next daemon on this host opens it."""

    def destroy(self, interface: str) -> None: ...

    def delete_route(self, destination: str, interface: str) -> None: ...

    def block_route(self, destination: str) -> None: ...

    def unblock_route(self, destination: str) -> None: ...

    def add_peer(self, interface: str, key: str, allowed_ip: str) -> None: ...

    def roam(self, interface: str, key: str, endpoint: str, at: float) -> None: ...

    def refuse_route_once(self, destination: str) -> None: ...

    def state(self, interface: str) -> list[str]: ...


MakeKernel = Callable[[Path, Transcript], GoldenKernel]


@dataclass(slots=True)
class Player:
    """One host of the stage; ``rig`` while its daemon runs."""

    host: SignedHost
    directory: Path
    kernel: GoldenKernel
    settings: dict[str, Any]
    rig: Rig | None = None
    task: asyncio.Task[None] | None = None

    @property
    def running(self) -> Rig:
        assert self.rig is not None
        return self.rig

    def turns(self) -> int:
        world = self.running.daemon.parts.newest.world
        return world.number if world is not None else 0


class Stage:
    """A mesh whose every key is made from its name, so that a transcript is the same each time."""

    def __init__(self, directory: Path, make_kernel: MakeKernel) -> None:
        self._directory = directory
        self._make_kernel = make_kernel
        self._players: dict[str, Player] = {}
        self._seen: str = ""
        self.mesh = SignedMesh.create(seed="golden")
        self.store = MemoryStore()
        self.transcript = Transcript()

    # --- the registry

    def grow(self, *names: str) -> None:
        """Grant these hosts, each with a jail network."""
        for name in names:
            number = len(self.mesh.hosts) + 1
            self.mesh.add(name, jails=(f"10.17.{number}.0/24",), software=f"meshd/{VERSION}")
            key = self.mesh.hosts[name].wireguard.public()
            self.transcript.remark(f"{name} has key {key} and network 10.17.{number}.0/24")
        self.mesh.publish(self.store)

    def revoke(self, name: str, why: str) -> None:
        self.mesh.revoke(name, why)
        self.mesh.publish(self.store)

    def restate(self, name: str, **changes: Any) -> None:
        """The host signs a newer record that says this."""
        host = self.mesh.hosts[name]
        newer = {"version": host.record.version + 100_000, **changes}
        fields = {field: getattr(host.record, field) for field in host.record.__struct_fields__}
        self.mesh.hosts[name] = dataclasses.replace(host, record=type(host.record)(**{**fields, **newer}))
        self.mesh.offer(host.key, self.mesh.hosts[name].body())
        self.mesh.publish(self.store)

    def regrant(self, name: str, *networks: str) -> None:
        """The host may announce these, and no others."""
        host = self.mesh.hosts[name]
        key, body = self.mesh.signer.grant(
            now=NOW - 20,
            hid=host.hid,
            identity=host.identity.public,
            name=name,
            networks=[parse_network(text) for text in networks],
        )
        self.mesh.objects[key] = body
        self.mesh.publish(self.store)

    def ask_for_a_new_key(self, name: str) -> None:
        key, body = self.mesh.signer.rotate([self.mesh.hosts[name].hid], int(NOW) - 10, now=NOW - 10)
        self.mesh.objects[key] = body
        self.mesh.publish(self.store)

    def replace_own_key(self, name: str) -> None:
        path = self.player(name).directory / "state" / "wireguard.key"
        path.write_text(self.new_key(name).reveal_text())
        path.chmod(0o600)
        os.utime(path, (NOW + 60, NOW + 60))  # newer than the record

    def new_key(self, name: str) -> PrivateKey:
        return self.mesh.make_keys(f"{name} again")[1]

    # --- the hosts

    def player(self, name: str) -> Player:
        if name not in self._players:
            directory = self._directory / name
            host = self.mesh.hosts[name]
            settings = {
                "host": {"endpoints": list(host.record.endpoints)},
                "jails": {"networks": list(host.record.networks)},
            }
            kernel = self._make_kernel(directory / "kernel", self.transcript)
            self._players[name] = Player(host=host, directory=directory, kernel=kernel, settings=settings)
        return self._players[name]

    def kernel(self, name: str) -> GoldenKernel:
        return self.player(name).kernel

    async def start(self, name: str, what: str, *, settled: bool = True, **tables: Any) -> None:
        """The daemon's start, up to the end of its first look at the store."""
        player = self.player(name)
        player.settings |= tables
        with self._step(player, what):
            backend: Any = player.kernel.open()
            player.rig = build_rig(
                player.directory,
                self.mesh,
                player.host,
                stores=(self.store,),
                backend=backend,
                settings=settings_for(player.directory, **player.settings),
                monotonic=self._monotonic(player),
                pace=QUIET,
            )
            player.task = asyncio.create_task(player.rig.daemon.run())
            await self._until(lambda: player.turns() > 0, player)
            await player.rig.ask("poll")
        await self._settle(player, settled)

    @staticmethod
    def _monotonic(player: Player) -> Callable[[], float]:
        return lambda: player.rig.clock.now if player.rig else NOW

    async def start_unheard(self, name: str) -> None:
        """Where the start is not the case's subject: what is there before it begins."""
        self.transcript.muted = True
        await self.start(name, "before")
        self.transcript.muted = False
        self.transcript.blank()
        self.transcript.remark(self._seen)

    async def start_and_die(self, name: str, what: str, *, after: int) -> None:
        """Killed after so many changing commands of the first turn."""
        player = self.player(name)
        self.transcript.lives = after
        with self._step(player, what), contextlib.suppress(Killed):
            backend: Any = player.kernel.open()
            rig = build_rig(
                player.directory,
                self.mesh,
                player.host,
                stores=(self.store,),
                backend=backend,
                settings=settings_for(player.directory, **player.settings),
                pace=QUIET,
            )
            await asyncio.wait_for(rig.daemon.run(), LIMIT_SECONDS)
            raise AssertionError("the daemon was not killed")
        self.transcript.lives = None
        (player.directory / "run" / "control.sock").unlink(missing_ok=True)

    async def news(self, name: str, what: str, *, settled: bool = True) -> None:
        """What changed in the registry reaches the host, and a turn follows."""
        player = self.player(name)
        before = player.turns()
        with self._step(player, what):
            await player.running.ask("poll")
            await self._until(lambda: player.turns() > before, player)
        await self._settle(player, settled)

    async def path_carries(self, name: str, peer: str, mtu_bytes: int) -> None:
        """The prober of ``name`` finds so, and a turn follows."""
        player = self.player(name)
        hid, before = self.mesh.hosts[peer].hid, player.turns()
        found = player.running.prober.mtus
        with self._step(player, f"the path to {peer} carries {mtu_bytes} bytes"):
            old, found[hid] = found.get(hid), mtu_bytes
            player.running.prober.tell(MtuChanged(hid=hid, old_bytes=old, new_bytes=mtu_bytes))
            await self._until(lambda: player.turns() > before, player)
        await self._settle(player, True)

    async def turn(self, name: str, what: str, *, settled: bool = True, force: bool = False) -> None:
        """A turn because it is time for one, or because an operator says so."""
        player = self.player(name)
        with self._step(player, what):
            await player.running.ask("apply", force=force)
        await self._settle(player, settled)

    async def reload(self, name: str, what: str, **tables: Any) -> None:
        """The settings are read again."""
        player = self.player(name)
        player.settings |= tables
        player.running.reload_with = settings_for(player.directory, **player.settings)
        before = player.turns()
        async with self._restating(player, what):
            await player.running.ask("reload")
            await self._until(lambda: player.turns() > before, player)

    async def rotate(self, name: str, what: str, *, seconds: float = 0.0) -> None:
        """A turn of a key rotation, so many seconds later; with news, if there are."""
        player = self.player(name)
        player.running.clock.now += seconds
        async with self._restating(player, what):
            await player.running.ask("poll")
            await player.running.ask("apply")

    @contextlib.asynccontextmanager
    async def _restating(self, player: Player, what: str) -> AsyncIterator[None]:
        """A step that may change the host's own record: a turn more or less follows, whose looks alone
        tell, so they are left out."""
        self.transcript.changes_only = True
        with self._step(player, f"{what} (without looks)"):
            yield
            await player.running.ask("poll")
            await player.running.ask("apply")
        self.transcript.changes_only = False
        await self._settle(player, True)

    async def stop(self, name: str) -> None:
        player = self.player(name)
        assert player.task is not None
        player.running.daemon.stop()
        await asyncio.wait_for(player.task, LIMIT_SECONDS)
        player.rig = player.task = None

    async def close(self) -> None:
        for name, player in self._players.items():
            if player.rig is not None:
                await self.stop(name)

    # --- the steps

    @contextlib.contextmanager
    def _step(self, player: Player, what: str) -> Iterator[None]:
        if not self.transcript.muted:
            self.transcript.heading(f"{player.host.name}: {what}")
        yield
        self.transcript.blank()
        if player.rig is not None:
            turn = player.rig.world.turn
            if not self.transcript.changes_only:
                self.transcript.remark(f"outcome: {turn.outcome}, {turn.done} changes")
            for condition in player.rig.conditions():
                self.transcript.remark(f"condition {condition.code}: {condition.text}")

    async def _settle(self, player: Player, settled: bool) -> None:
        """The next turn changes nothing, whatever the step was; what is true now is shown."""
        if settled:
            muted, self.transcript.muted = self.transcript.muted, True
            mark = len(self.transcript.spoken)
            await player.running.ask("apply")
            again = [one.command for one in self.transcript.since(mark) if not one.look]
            self.transcript.muted = muted
            assert again == [], f"the next turn changes something: {again}"
            self.transcript.remark("the next turn only looks")
        state = "\n".join(
            [*(player.kernel.state(INTERFACE) or [f"no interface {INTERFACE}"]), *player.kernel.state(SECOND)]
        )
        if state != self._seen:
            self._seen = state
            self.transcript.blank()
            self.transcript.remark(state)

    async def _until(self, true: Callable[[], bool], player: Player) -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            while not true():
                if player.task is not None and player.task.done():
                    player.task.result()
                await asyncio.sleep(0.002)
            if player.rig is not None and player.turns():
                await player.rig.daemon.parts.followers.followed(player.turns())


Play = Callable[[Stage], Any]


def record(play: Play, directory: Path, make_kernel: MakeKernel, patch: pytest.MonkeyPatch) -> Transcript:
    """Play a case. No turn happens but those that the case asks for."""
    patch.setattr(rotation, "FAST_RECHECK_SECONDS", 3600.0)
    patch.setattr(rotation, "SLOW_RECHECK_SECONDS", 3600.0)
    following = SimpleNamespace(generate=lambda: PrivateKey(hashlib.sha256(b"golden next").digest()))
    patch.setattr(keyring, "PrivateKey", following)
    stage = Stage(directory, make_kernel)

    async def whole() -> None:
        try:
            await play(stage)
        finally:
            await stage.close()

    asyncio.run(whole())
    return stage.transcript


__all__ = ["INTERFACE", "NOW", "GoldenKernel", "Stage", "record"]
