"""One real daemon on a kernel and a store in memory, asked through its real control socket."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import msgspec
from meshes import NOW, SignedHost, SignedMesh
from quiet_prober import QuietProber
from quiet_relay import QuietRelay, SilentSocket

from meshd.backend.base import Backend
from meshd.backend.events import EventSource
from meshd.backend.jails import JailHost
from meshd.backend.memory import MemoryBackend
from meshd.control.clocks import Clocks
from meshd.control.wake import Wake
from meshd.control.world import World
from meshd.daemon.doors import Doors, Pace
from meshd.daemon.process import Daemon
from meshd.daemon.wiring import build_daemon
from meshd.errors import ConfigError
from meshd.exchange.exchange import Exchange, MeshAddresses
from meshd.host.state import HostState
from meshd.model.device import ObservedState
from meshd.model.network import IPAddress, IPNetwork
from meshd.observe.protocol import ApplyDocument, ControlAnswer, PlanDocument
from meshd.observe.status import ConditionStatus, Status
from meshd.registry.ledger import Ledger
from meshd.settings import Settings, parse_settings
from meshd.store.base import ObjectStore
from meshd.store.memory import MemoryStore
from meshd.supervisor import Supervisor

NO_WAITING = Pace(initiator_delay_seconds=0.0, resolve_again_seconds=0.02)
"""New peers are called at once, and a name is asked for again at once."""


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class FakeUnderlay:
    """``source``: what this host sends from, which is also its only address. ``names``: what resolves.
    ``in_mesh``: its addresses in the mesh, from which it sends to whatever is in there; ``diverted``: to
    these it does not, as somebody's rule comes first; ``prohibited``: to these it sends nothing at all."""

    source: IPAddress = field(default_factory=lambda: IPv4Address("198.18.0.1"))
    names: dict[str, list[str]] = field(default_factory=dict)
    in_mesh: tuple[IPAddress, ...] = ()
    ranges: tuple[IPNetwork, ...] = ()
    diverted: set[IPAddress] = field(default_factory=set)
    prohibited: set[IPAddress] = field(default_factory=set)

    def source_of(self, address: IPAddress) -> IPAddress | None:
        if address in self.prohibited:
            return None
        if address not in self.diverted and any(
            address in one for one in self.ranges if one.version == address.version
        ):
            return next((own for own in self.in_mesh if own.version == address.version), None)
        return self.source if address.version == self.source.version else None

    def is_own(self, address: IPAddress) -> bool:
        return address == self.source

    def lookup(self, name: str) -> list[str]:
        if name not in self.names:
            raise OSError(f"{name}: not known")
        return self.names[name]


@dataclass(slots=True)
class Rig:
    """``settings_text``: what a reload reads; a ConfigError instance is raised instead."""

    daemon: Daemon
    backend: MemoryBackend
    prober: QuietProber
    clock: Clock
    socket: Path
    state: HostState
    exchange: Exchange | None
    underlay: FakeUnderlay
    reload_with: Settings | ConfigError
    relays: list[QuietRelay]
    """Its relaying processes, newest last."""

    async def ask(self, verb: str, *, force: bool = False) -> ControlAnswer:
        line = msgspec.json.encode({"verb": verb, "force": force}) + b"\n"
        return msgspec.json.decode(await self.raw(line), type=ControlAnswer)

    async def raw(self, line: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(self.socket), limit=1 << 24)
        try:
            writer.write(line)
            return await asyncio.wait_for(reader.readline(), 20)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def apply(self, *, force: bool = False) -> ApplyDocument:
        return msgspec.json.decode((await self.ask("apply", force=force)).result, type=ApplyDocument)

    async def plan(self) -> PlanDocument:
        return msgspec.json.decode((await self.ask("plan")).result, type=PlanDocument)

    async def status(self) -> Status:
        return msgspec.json.decode((await self.ask("status")).result, type=Status)

    async def codes(self) -> set[str]:
        return {condition.code for condition in (await self.status()).conditions}

    def kernel(self) -> ObservedState:
        return self.backend.observe("wg0")

    @property
    def data_plane(self) -> object:
        """What the driver drives; for questions between turns."""
        return self.daemon.parts.driver.data_plane

    @property
    def world(self) -> World:
        """The newest one."""
        world = self.daemon.parts.newest.world
        assert world is not None
        return world

    def conditions(self) -> tuple[ConditionStatus, ...]:
        """What is wrong now, without asking anybody."""
        return self.daemon.parts.board.statuses()

    async def turn(self, wake: Wake = Wake.INTERVAL) -> World:
        """A turn that nobody asked for and that begins now, to its end and that of those who follow it."""
        parts = self.daemon.parts
        world = await asyncio.wait_for(parts.queue.turn(wake), 20)
        await asyncio.wait_for(parts.followers.followed(world.number), 20)
        return self.world

    async def news_and_turn(self) -> World:
        """A registry round, and a turn after it."""
        await self.daemon.parts.feed.round()
        return await self.turn()


def settings_for(directory: Path, **tables: Any) -> Settings:
    document = {
        "state_dir": str(directory / "state"),
        "run_dir": str(directory / "run"),
        "host": {"endpoints": ["198.18.0.1:51820"]},
        "registry": {"poll_seconds": 3600},
        "metrics": {"listen": []},
        **tables,
    }
    return parse_settings(document, source="test")


def copy_ledger(mesh: SignedMesh) -> Ledger:
    ledger = Ledger(mesh.mesh.chain)
    for key, body in mesh.objects.items():
        ledger.offer(key, body)
    return ledger


def build_rig(
    directory: Path,
    mesh: SignedMesh,
    host: SignedHost,
    *,
    stores: tuple[ObjectStore, ...] | None = None,
    settings: Settings | None = None,
    backend: Backend | None = None,
    forwarding: bool = True,
    pace: Pace = NO_WAITING,
    mesh_addresses_of: MeshAddresses | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    steady: Callable[[], float] | None = None,
    rng: random.Random | None = None,
    jail_host: JailHost | None = None,
    jails_elapsed: Callable[[], float] = time.monotonic,
    event_sources: Sequence[EventSource] = (),
    underlay: FakeUnderlay | None = None,
) -> Rig:
    """A daemon of ``host`` that has joined ``mesh`` as it is now; not running yet.

    It is put together as in production, with other doors. ``mesh_addresses_of``: where the
    exchange reaches hosts; None: it has none. ``monotonic``: the clock by which a rotation waits and a
    change is on trial.
    ``steady``: a clock that nobody sets; None: nobody sets the other one either.
    """
    settings = settings or settings_for(directory)
    state = HostState(settings.state_dir)
    if not state.joined:
        state.create()
        (settings.state_dir / "identity.key").write_text(host.identity.seed().hex())
        (settings.state_dir / "wireguard.key").write_text(host.wireguard.reveal_text())
        for path in settings.state_dir.glob("*.key"):
            path.chmod(0o600)
        state.open_cache().create(copy_ledger(mesh))
    relays: list[QuietRelay] = []

    def open_relay(port: int, tasks: Supervisor) -> QuietRelay:
        relays.append(QuietRelay(port))
        return relays[-1]

    clock, prober, underlay = Clock(), QuietProber(), underlay or FakeUnderlay()
    membership = mesh.ledger.membership(NOW)
    underlay.ranges = membership.mesh_ranges
    underlay.in_mesh = membership.hosts[host.hid].addresses if host.hid in membership.hosts else ()
    kernel = backend or MemoryBackend()
    doors = Doors(
        state=state,
        backend=kernel,
        prober=prober,
        open_stores=lambda named: stores if stores is not None else (MemoryStore(),),
        jail_host=jail_host,
        open_event_sources=lambda: event_sources,
        lookup=underlay.lookup,
        source_of=underlay.source_of,
        is_own=underlay.is_own,
        open_relay=open_relay,
        open_echo=SilentSocket,
        forwarding=lambda version: forwarding,
        exchange_addresses=mesh_addresses_of,
        clocks=Clocks(wall=clock, monotonic=monotonic, steady=steady or clock),
        jails_elapsed=jails_elapsed,
        rng=rng or random.SystemRandom(),
        pace=pace,
    )

    def read() -> Settings:
        if isinstance(rig.reload_with, ConfigError):
            raise rig.reload_with
        return rig.reload_with

    daemon = build_daemon(settings, doors, read)
    rig = Rig(
        daemon=daemon,
        backend=cast(MemoryBackend, kernel),
        prober=prober,
        clock=clock,
        socket=settings.run_dir / "control.sock",
        state=state,
        exchange=daemon.parts.exchange,
        underlay=underlay,
        reload_with=settings,
        relays=relays,
    )
    return rig


@contextlib.asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[Rig]:
    task = asyncio.create_task(rig.daemon.run())
    try:
        await _until(rig.socket.exists, task)
        await rig.ask("apply")  # answered after the first turn, whatever that did
        yield rig
    finally:
        rig.daemon.stop()
        await asyncio.wait_for(task, 20)


async def _until(condition: Callable[[], bool], task: asyncio.Task[None]) -> None:
    while not condition():
        if task.done():
            task.result()
        await asyncio.sleep(0.005)
