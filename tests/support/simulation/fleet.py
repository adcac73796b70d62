"""A fleet of whole daemons on virtual time, and what an operator and an accident do to it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import tempfile
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final, TypeVar

from daemon_rig import FakeUnderlay, copy_ledger
from meshes import NOW, SignedHost, SignedMesh
from quiet_relay import QuietRelay, SilentSocket

from meshd.control.clocks import Clocks
from meshd.control.world import World
from meshd.daemon.doors import Doors, Pace
from meshd.daemon.process import Daemon
from meshd.daemon.wiring import build_daemon
from meshd.host.state import NEXT_WIREGUARD_FILE, WIREGUARD_FILE, HostState
from meshd.model.keys import PrivateKey
from meshd.model.path import PathStats
from meshd.observe.protocol import ControlRequest
from meshd.probe.transport import IcmpProber
from meshd.registry.layout import mesh_prefix
from meshd.settings import Settings, parse_settings
from meshd.store.memory import MemoryStore
from simulation.echoes import EchoSocket
from simulation.sharing import shared_values
from simulation.tunnels import Kernel, Tunnels
from simulation.underlay import Underlay
from simulation.virtual_loop import VirtualLoop
from simulation.wire import Wires

T = TypeVar("T")

PORT: Final = 51820
KEEPALIVE_SECONDS: Final = 5.0
"""Also how often a peer that does not answer is called again (REKEY_TIMEOUT)."""
GARBAGE_OBJECTS: Final = 200_000
"""New objects between two looks for garbage in cycles, of which a daemon makes little. A fleet makes objects
by the million that live on, and each look at all of them would cost as much as they did."""
FIRST_ADDRESS: Final = int(IPv4Address("198.18.0.0"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a fleet is run."""

    hosts: int
    seed: int = 1
    probe_seconds: float = 0.0
    """Between two probes of a path; 0: as production chooses by the number of hosts."""
    turn_seconds: float = 10.0
    path_mtu: bool = True
    witness_seconds: float = 60.0
    key_lifetime_days: float = 0.0
    shares: bool = True
    """Hosts that judge the same bytes share what comes of it (``simulation.sharing``)."""

    @property
    def poll_seconds(self) -> float:
        """As ``meshd.registry.sync.poll_interval_seconds`` has it for a remote store."""
        return min(max(0.3 * self.hosts, 30.0), 300.0)


class DatedState(HostState, frozen=True):
    """A disk whose clock is the simulation's: how old a key is, its file says."""

    clock: Callable[[], float]

    def write_wireguard_key(self, key: PrivateKey, *, following: bool) -> None:
        HostState.write_wireguard_key(self, key, following=following)
        self.date(NEXT_WIREGUARD_FILE if following else WIREGUARD_FILE)

    def date(self, name: str) -> None:
        """That file was written now."""
        os.utime(self.directory / name, (self.clock(), self.clock()))


@dataclass(slots=True, eq=False)
class SimHost:
    """One host: its disk, its kernel, and the daemon while it runs."""

    fleet: Fleet
    number: int
    signed: SignedHost
    directory: Path
    kernel: Kernel
    store: MemoryStore
    daemon: Daemon | None = None
    sockets: list[EchoSocket] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.signed.name

    @property
    def hid(self) -> str:
        return self.signed.hid

    @property
    def region(self) -> str:
        return self.fleet.underlay.site(self.number).region

    @property
    def is_running(self) -> bool:
        return self.daemon is not None

    @property
    def running(self) -> Daemon:
        assert self.daemon is not None, f"{self.name} does not run"
        return self.daemon

    @property
    def world(self) -> World:
        world = self.running.parts.newest.world
        assert world is not None, f"{self.name} has had no turn yet"
        return world

    @property
    def has_started(self) -> bool:
        return self.daemon is not None and self.daemon.parts.newest.world is not None

    def paths(self) -> dict[str, PathStats]:
        """By hid."""
        return dict(self.running.parts.paths.stats())

    def answering(self) -> set[str]:
        """The hids of hosts whose path is up."""
        return self.running.parts.prober.answering()

    def codes(self) -> set[str]:
        """Of the conditions that are open."""
        return {condition.code for condition in self.running.parts.board.statuses()}

    def start(self) -> None:
        """``meshd run``."""
        self.daemon = self.fleet.build(self)
        self.task = asyncio.get_running_loop().create_task(self.daemon.run(), name=self.name)

    async def stop(self) -> None:
        """The process ends; its kernel goes on."""
        assert self.daemon is not None and self.task is not None
        self.daemon.stop()
        await self.task
        self.daemon = self.task = None


class Fleet:
    """Hosts by number, an administrator and a store. Made and used inside ``simulate``."""

    def __init__(self, plan: Plan, directory: Path, loop: VirtualLoop, rng: random.Random) -> None:
        self.plan = plan
        self.loop = loop
        self.rng = rng
        self.underlay = Underlay(random.Random(rng.random()))
        self.tunnels = Tunnels(self.underlay, self.wall)
        self.wires = Wires(self.tunnels, loop.time)
        self.mesh = SignedMesh.create(seed=f"simulation {plan.seed}")
        self.store = MemoryStore()
        self.hosts: list[SimHost] = []
        self._directory = directory
        self._addresses: dict[str, int] = {}

    def wall(self) -> float:
        """Unix seconds."""
        return NOW + self.loop.time()

    # --- the administrator

    def enroll(self) -> SimHost:
        """A host that is granted, and has joined with what the registry is now; its daemon does not run."""
        number = len(self.hosts)
        signed = self.mesh.add(f"host{number}", region=self.underlay.site(number).region, at=self.wall())
        kernel = Kernel(number, IPv4Address(FIRST_ADDRESS + number + 1))
        self.tunnels.add(kernel)
        own = self.mesh.ledger.membership(self.wall()).hosts[signed.hid]
        kernel.addresses = {address.version: str(address) for address in reversed(own.addresses)}
        kernel.addresses[own.link_address.version] = str(own.link_address)
        directory = self._directory / signed.name
        host = SimHost(self, number, signed, directory, kernel, self.store.reader())
        self.hosts.append(host)
        return host

    def join(self, host: SimHost) -> None:
        """``meshd join``: it holds the registry as it is now."""
        state = DatedState(host.directory / "state", self.wall)
        state.create()
        for name, secret in (
            ("identity.key", host.signed.identity.seed().hex()),
            ("wireguard.key", host.signed.wireguard.reveal_text()),
        ):
            path = state.directory / name
            path.write_text(secret)
            path.chmod(0o600)
        state.date(WIREGUARD_FILE)
        ledger, prefix = copy_ledger(self.mesh), mesh_prefix(self.mesh.ledger.mesh_id)
        for info in self.store.list(prefix):
            found = self.store.get(info.key)
            if found is not None:
                ledger.offer(info.key.removeprefix(prefix), found.body)
        state.open_cache().create(ledger)

    def publish(self, objects: Iterable[tuple[str, bytes]]) -> None:
        """Into the store, whoever may see it."""
        prefix = mesh_prefix(self.mesh.ledger.mesh_id)
        for key, body in objects:
            self.store.put(prefix + key, body)

    async def offer(self, host: SimHost, objects: Iterable[tuple[str, bytes]]) -> int:
        """``wgctl`` beside that host's daemon -> the hosts that were told before the answer."""
        request = ControlRequest(verb="offer", objects=tuple(objects))
        document, _ = await host.running.parts.requests.handle(request)
        return int(document.hosts)

    async def add_host(self, at: SimHost) -> SimHost:
        """``wgctl add-host`` at that host, then ``meshd join`` and ``meshd run``."""
        known = set(self.mesh.objects)
        newcomer = self.enroll()
        objects = [item for item in self.mesh.objects.items() if item[0] not in known]
        self.publish(objects)
        await self.offer(at, objects)
        self.join(newcomer)
        newcomer.start()
        return newcomer

    async def revoke(self, host: SimHost, at: SimHost) -> None:
        """``wgctl revoke`` at another host."""
        item = self.mesh.revoke(host.name, at=self.wall())
        self.publish([item])
        await self.offer(at, [item])

    # --- accidents

    def lose_region(self, region: str) -> None:
        """No packet in or out; the store is elsewhere."""
        self.underlay.cut_regions.add(region)
        self._connect_stores()

    def regain_region(self, region: str) -> None:
        self.underlay.cut_regions.discard(region)
        self._connect_stores()

    def _connect_stores(self) -> None:
        for host in self.hosts:
            host.store.faults.unreachable = host.region in self.underlay.cut_regions

    async def keep_alive(self) -> None:
        """What kernels do by themselves."""
        while True:
            await asyncio.sleep(KEEPALIVE_SECONDS)
            self.tunnels.keep_alive(self.loop.time())

    # --- waiting

    async def until(self, holds: Callable[[], bool], seconds: float, *, step_seconds: float = 0.5) -> float:
        """Wait until it holds -> the virtual seconds that took. AssertionError after so many."""
        began_at = self.loop.time()
        while not holds():
            if self.loop.time() - began_at > seconds:
                raise AssertionError(f"does not hold after {seconds:g} s of virtual time")
            await asyncio.sleep(step_seconds)
        return self.loop.time() - began_at

    def is_whole(self, hosts: Collection[SimHost]) -> bool:
        """Whether each of these is answered by all others of them, and by nobody else."""
        hids = {host.hid for host in hosts}
        return all(host.has_started and host.answering() == hids - {host.hid} for host in hosts)

    # --- doors

    def build(self, host: SimHost) -> Daemon:
        settings = self.settings(host)
        membership = self.mesh.ledger.membership(NOW)
        own = membership.hosts[host.hid]
        underlay = FakeUnderlay(
            source=host.kernel.underlay_address, in_mesh=own.addresses, ranges=membership.mesh_ranges
        )
        host.sockets.clear()
        doors = Doors(
            state=DatedState(settings.state_dir, self.wall),
            backend=host.kernel,
            prober=self._prober(host, settings),
            open_stores=lambda named: (host.store,),
            jail_host=None,
            open_event_sources=tuple,
            lookup=underlay.lookup,
            source_of=underlay.source_of,
            is_own=underlay.is_own,
            forwarding=lambda version: True,
            open_relay=lambda port, tasks: QuietRelay(port),
            open_echo=SilentSocket,
            exchange_wire=self.wires.of(host.kernel),
            clocks=Clocks(wall=self.wall, monotonic=self.loop.time, steady=self.loop.time),
            jails_elapsed=self.loop.time,
            rng=random.Random(self.rng.random()),
            pace=Pace(turn_seconds=self.plan.turn_seconds),
        )
        return build_daemon(settings, doors, lambda: settings)

    def _prober(self, host: SimHost, settings: Settings) -> IcmpProber:
        def open_socket(family: int) -> EchoSocket:
            version = 4 if family == 2 else 6
            made = EchoSocket(host.kernel, self.tunnels, version, self.loop.time)
            host.sockets.append(made)
            return made

        return IcmpProber(
            settings.probe.interval_seconds,
            settings.probe.window,
            clock=self.loop.time,
            asleep=lambda: 0.0,
            open_socket=open_socket,
        )

    def settings(self, host: SimHost) -> Settings:
        document = {
            "state_dir": str(host.directory / "state"),
            "run_dir": str(host.directory / "run"),
            "host": {"endpoints": [f"{host.kernel.underlay_address}:{PORT}"]},
            "registry": {"poll_seconds": self.plan.poll_seconds},
            "exchange": {"witness_seconds": self.plan.witness_seconds},
            "wireguard": {"key_lifetime_days": self.plan.key_lifetime_days},
            "probe": {"interval_seconds": self.plan.probe_seconds, "path_mtu": self.plan.path_mtu},
            # The tunnels know no third host that forwards: a pair that is cut stays cut.
            "relay": {"enabled": False, "use": False},
            "metrics": {"listen": []},
        }
        return parse_settings(document, source="simulation")


def simulate(plan: Plan, story: Callable[[Fleet], Coroutine[Any, Any, T]]) -> T:
    """Make a fleet with its hosts running, let ``story`` happen to it, and end it."""
    rng = random.Random(plan.seed)
    state, level = random.getstate(), logging.getLogger("meshd").level
    random.seed(rng.random())
    logging.getLogger("meshd").setLevel(logging.CRITICAL)
    loop = VirtualLoop(random.Random(rng.random()))
    thresholds = gc.get_threshold()
    gc.set_threshold(GARBAGE_OBJECTS, *thresholds[1:])
    try:
        with (
            tempfile.TemporaryDirectory(prefix="simulation") as directory,
            shared_values() if plan.shares else contextlib.nullcontext(),
        ):
            return loop.simulate(_tell(Fleet(plan, Path(directory), loop, rng), story))
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        random.setstate(state)
        logging.getLogger("meshd").setLevel(level)


async def _tell(fleet: Fleet, story: Callable[[Fleet], Coroutine[Any, Any, T]]) -> T:
    for _ in range(fleet.plan.hosts):
        fleet.enroll()
    fleet.publish(fleet.mesh.objects.items())
    for host in fleet.hosts:
        fleet.join(host)
        host.start()
    gc.freeze()
    keepalives = asyncio.get_running_loop().create_task(fleet.keep_alive())
    try:
        return await story(fleet)
    finally:
        keepalives.cancel()
        await asyncio.gather(*(host.stop() for host in fleet.hosts if host.is_running))
