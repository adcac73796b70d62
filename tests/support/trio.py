"""Three daemons in one process, and which paths between them are dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import msgspec
from daemon_rig import FakeUnderlay, Rig, build_rig, settings_for
from exchange_rig import Loopback, all_running
from meshes import NOW, SignedMesh
from published import check_document

from meshd.model.device import PeerStats
from meshd.model.network import Endpoint
from meshd.model.path import PathStats
from meshd.observe.path_document import PathDocument
from meshd.observe.protocol import ControlAnswer
from meshd.probe.events import PathChanged

NAMES = ("tesla", "newton", "bohr")
UP = PathStats(up=True, srtt_seconds=0.02, sent=30, received=30, last_reply_at=NOW)
DEAD = PathStats(up=False, srtt_seconds=0.02, sent=30, received=20, last_reply_at=NOW - 5)


class Trio:
    """Three daemons that talk over loopback. The kernels are in memory: no packet teaches them anything. Time
    stands still unless a test moves it, so that no relay is given up while it looks."""

    def __init__(self, directory: Path, mesh: SignedMesh, **tables: Any) -> None:
        self.mesh = mesh
        self.hids = {name: mesh.hosts[name].hid for name in NAMES}
        self.received_bytes = 0
        self.now = 1000.0
        loopback = Loopback.of(mesh.hosts.values())
        self.rigs: dict[str, Rig] = {}
        for number, name in enumerate(NAMES, 1):
            settings = settings_for(
                directory / name,
                host={"endpoints": [f"198.18.0.{number}:51820"], "reflection": False},
                exchange={"port": loopback.port, "witness_seconds": 3600.0},
                **tables,
            )
            rig = build_rig(
                directory / name,
                mesh,
                mesh.hosts[name],
                settings=settings,
                mesh_addresses_of=loopback.places,
                monotonic=lambda: self.now,
                underlay=FakeUnderlay(source=IPv4Address(f"198.18.0.{number}")),
            )
            rig.prober.stats = {hid: UP for other, hid in self.hids.items() if other != name}
            self.rigs[name] = rig

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with all_running(self.rigs.values()):
            for name in NAMES:
                for number, other in enumerate(NAMES, 1):
                    if other != name:
                        self.roam(name, other, f"198.18.0.{number}:51820")
                await self.rigs[name].turn()
            yield

    def roam(self, name: str, other: str, endpoint: str) -> None:
        """A packet of ``other`` came from there."""
        rig = self.rigs[name]
        key = self.mesh.hosts[other].wireguard.public()
        rig.backend.peer_roams("wg0", key, Endpoint.parse(endpoint))
        self.received_bytes += 100
        stats = PeerStats(latest_handshake_at=rig.clock(), receive_bytes=self.received_bytes)
        rig.backend.peer_counts("wg0", key, stats)

    def endpoint(self, name: str, other: str) -> str:
        device = self.rigs[name].kernel().device
        assert device is not None
        return str(device.peers[self.mesh.hosts[other].wireguard.public()].config.endpoint)

    def kill(self, one: str, other: str) -> None:
        """Neither end's probes are answered any more, and both notice."""
        for a, b in ((one, other), (other, one)):
            self.rigs[a].prober.stats[self.hids[b]] = DEAD
            self.rigs[a].prober.tell(PathChanged(hid=self.hids[b], up=False))

    def answer(self, one: str, other: str) -> None:
        """Probes are answered again, by whatever way they go."""
        again = msgspec.structs.replace(UP, sent=40, received=35)
        for a, b in ((one, other), (other, one)):
            self.rigs[a].prober.stats[self.hids[b]] = again
            self.rigs[a].prober.tell(PathChanged(hid=self.hids[b], up=True))

    def by_id(self, *names: str) -> list[str]:
        """The one with the lower id first: it asks, and the other one waits for that."""
        return sorted(names, key=self.hids.__getitem__)

    def via(self, name: str, other: str) -> str:
        return self.rigs[name].daemon.parts.paths.stats()[self.hids[other]].via

    async def ask(self, name: str, **request: Any) -> ControlAnswer:
        line = msgspec.json.encode(request) + b"\n"
        return msgspec.json.decode(await self.rigs[name].raw(line), type=ControlAnswer)

    async def path(self, name: str, other: str) -> PathDocument:
        answer = await self.ask(name, verb="path", host=other)
        assert answer.error is None, answer.error
        check_document(bytes(answer.result))
        return msgspec.json.decode(answer.result, type=PathDocument)


def play(trio: Trio, scene: Callable[[Trio], Awaitable[None]]) -> None:
    async def scenario() -> None:
        async with trio.running():
            await scene(trio)

    asyncio.run(scenario())


async def asked(trio: Trio, name: str, other: str) -> bool:
    """All hosts have answered, and none can."""
    return (await trio.path(name, other)).standing == "waiting"


async def reload(rig: Rig, **relay: Any) -> None:
    current = rig.daemon.parts.newest.world
    assert current is not None
    settings = current.settings
    fresh = msgspec.structs.replace(settings.relay, **relay)
    rig.reload_with = msgspec.structs.replace(settings, relay=fresh)
    assert (await rig.ask("reload")).exit_code == 0
    await rig.turn()
