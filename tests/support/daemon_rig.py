"""One real daemon on a kernel and a store in memory, asked through its real control socket."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import msgspec
from meshes import NOW, SignedHost, SignedMesh
from quiet_prober import QuietProber

from meshd.backend.memory import MemoryBackend
from meshd.control.follower import RegistryFollower
from meshd.control.jails import JailKeeper
from meshd.control.kernel_watch import KernelWatch
from meshd.control.reconciler import Reconciler
from meshd.control.resolver import NameResolver
from meshd.control.rollback import WayBack
from meshd.control.rotation import Rotation
from meshd.control.sessionclock import SessionClock
from meshd.control.whereabouts import Whereabouts
from meshd.daemon.service import Daemon
from meshd.daemon.wiring import cache_conditions
from meshd.errors import ConfigError
from meshd.exchange.exchange import Exchange, MeshAddresses
from meshd.host.keyring import KeyRing
from meshd.host.state import HostState
from meshd.model.device import ObservedState
from meshd.model.network import IPAddress
from meshd.observe.protocol import ApplyDocument, ControlAnswer, PlanDocument
from meshd.observe.status import Status
from meshd.registry.ledger import Ledger
from meshd.settings import Settings, parse_settings
from meshd.store.base import ObjectStore
from meshd.store.memory import MemoryStore


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class FakeUnderlay:
    """``source``: what this host sends from, which is also its only address. ``names``: what resolves."""

    source: IPAddress = field(default_factory=lambda: IPv4Address("198.18.0.1"))
    names: dict[str, list[str]] = field(default_factory=dict)

    def source_of(self, address: IPAddress) -> IPAddress | None:
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

    async def ask(self, verb: str, *, force: bool = False) -> ControlAnswer:
        line = msgspec.json.encode({"verb": verb, "force": force}) + b"\n"
        return msgspec.json.decode(await self.raw(line), type=ControlAnswer)

    async def raw(self, line: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(self.socket), limit=1 << 24)
        writer.write(line)
        answer = await asyncio.wait_for(reader.readline(), 20)
        writer.close()
        return answer

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
        ledger.offer(key, body, now=NOW)
    return ledger


def build_rig(
    directory: Path,
    mesh: SignedMesh,
    host: SignedHost,
    *,
    stores: tuple[ObjectStore, ...] | None = None,
    settings: Settings | None = None,
    backend: MemoryBackend | None = None,
    forwarding: bool = True,
    courtesy_seconds: float = 0.0,
    mesh_addresses_of: MeshAddresses | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    steady: Callable[[], float] | None = None,
    rng: random.Random | None = None,
    jails: JailKeeper | None = None,
    watch: KernelWatch | None = None,
    underlay: FakeUnderlay | None = None,
) -> Rig:
    """A daemon of ``host`` that has joined ``mesh`` as it is now; not running yet.

    ``mesh_addresses_of``: where the exchange reaches hosts; None: it has none. ``monotonic``: the clock by
    which a rotation waits and a change is on trial. ``steady``: a clock that nobody sets; None: nobody
    sets the other one either.
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
    cache, clock, prober = state.open_cache(), Clock(), QuietProber()
    underlay = underlay or FakeUnderlay()
    backend = backend or MemoryBackend()
    ledger = cache.load()
    follower = RegistryFollower(
        ledger=ledger,
        cache=cache,
        identity=state.read_identity(),
        hid=host.hid,
        stores=stores if stores is not None else (MemoryStore(),),
        clock=clock,
        stale_after_seconds=settings.registry.stale_after_seconds,
    )

    exchange = (
        None
        if mesh_addresses_of is None
        else Exchange(
            shared_ledger=follower.shared_ledger,
            hid=host.hid,
            port=settings.exchange.port,
            witness_seconds=settings.exchange.witness_seconds,
            clock=clock,
            mesh_addresses_of=mesh_addresses_of,
            rng=rng,
        )
    )

    def read() -> Settings:
        if isinstance(rig.reload_with, ConfigError):
            raise rig.reload_with
        return rig.reload_with

    rotation = Rotation(keys=KeyRing(state), identity=state.read_identity(), clock=clock, monotonic=monotonic)
    whereabouts = Whereabouts(
        state=state,
        clock=clock,
        witness_seconds=settings.exchange.witness_seconds,
        open_resolver=partial(NameResolver, lookup=underlay.lookup, retry_seconds=0.02),
        source_of=underlay.source_of,
        is_own=underlay.is_own,
    )
    daemon = Daemon(
        settings=settings,
        read_settings=read,
        rotation=rotation,
        hid=host.hid,
        backend=backend,
        reconciler=Reconciler(
            backend=backend,
            state=state,
            hid=host.hid,
            clock=clock,
            rotation=rotation,
            forwarding=lambda version: forwarding,
            wayback=WayBack(state, clock, monotonic),
            sessions=SessionClock(clock, steady or clock),
            courtesy_seconds=courtesy_seconds,
            advise=whereabouts.advise,
        ),
        whereabouts=whereabouts,
        follower=follower,
        prober=prober,
        clock=clock,
        exchange=exchange,
        watch=watch,
        jails=jails,
        conditions=cache_conditions(cache),
    )
    rig = Rig(
        daemon=daemon,
        backend=backend,
        prober=prober,
        clock=clock,
        socket=settings.run_dir / "control.sock",
        state=state,
        exchange=exchange,
        underlay=underlay,
        reload_with=settings,
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
