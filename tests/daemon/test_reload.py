"""A reload: each setting takes effect without a restart or is refused by name, and there is no third."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from daemon_rig import Rig, build_rig, running, settings_for
from meshes import NOW, SignedMesh, full_store
from until import until

from meshd.backend.memory import MemoryBackend
from meshd.host.reload import LIVE
from meshd.mesh.reflexive import Learned
from meshd.model.device import Peer
from meshd.model.network import Endpoint
from meshd.observe.logs import JsonFormatter
from meshd.registry.record import HostRecord, parse_record
from meshd.settings import parse_settings, setting_values
from meshd.store.memory import MemoryStore

FIXED: dict[str, Any] = {
    "state_dir": "/elsewhere",
    "run_dir": "/elsewhere",
    "wireguard.interface": "wg7",
    "wireguard.backend": "userspace",
    "wireguard.userspace_program": "/usr/bin/another",
    "wireguard.rotation_interface": "wg107",
    "wireguard.fibs": [0],
    "registry.stores": ["file:///elsewhere"],
    "probe.interval_seconds": 7.0,
    "probe.window": 77,
    "probe.path_mtu": False,
    "control.group": "games",
    "exchange.enabled": False,
    "exchange.port": 7777,
    "exchange.witness_seconds": 77.0,
}
"""Another value of each key that needs a restart."""
ELSEWHERE = {
    "jails.routes": "test_jails_on_freebsd.py::test_jails_get_their_routes_when_a_reload_asks_for_it",
    "relay.enabled": "test_relay_settings.py::test_a_reload_that_switches_relaying_off_ends_it_for_others",
    "relay.use": "test_relay_settings.py::test_a_reload_takes_this_hosts_own_pairs_back",
    "relay.pairs": "test_relay_settings.py::test_a_reload_says_how_many_pairs_there_is_room_for",
    "relay.bytes_per_second": "test_relay_settings.py::test_a_reload_gives_the_relay_another_budget",
    "relay.loss_ratio": "test_relay_settings.py::test_a_reload_says_from_which_loss_a_path_is_left",
    "relay.latency": "test_relay_settings.py::test_a_reload_says_when_a_shorter_way_is_taken",
    "relay.latency_margin_ms": "test_relay_settings.py::test_a_reload_says_when_a_shorter_way_is_taken",
    "relay.latency_share": "test_relay_settings.py::test_a_reload_says_when_a_shorter_way_is_taken",
    "relay.latency_minutes": "test_relay_settings.py::test_a_reload_says_when_a_shorter_way_is_taken",
    "safety.confirm_seconds": "test_rollback.py::test_no_confirmation_time_no_trial",
}
"""Live settings whose effect needs another world than the one here."""


class World:
    """tesla's daemon, with a store and a settings file that a test rewrites key by key."""

    def __init__(self, directory: Path, mesh: SignedMesh, tables: dict[str, Any]) -> None:
        self.directory = directory
        self.mesh = mesh
        self.store: MemoryStore = full_store(mesh)
        self.backend = MemoryBackend()
        self.tables = tables
        self.rig = self.build(mesh)
        seen = Learned(endpoints=(Endpoint(ip_address("198.18.9.9"), 40000),))
        self.rig.state.write_learned(seen)  # by an earlier daemon of this host
        self.rig = self.build(mesh)

    def build(self, mesh: SignedMesh, name: str = "state") -> Rig:
        settings = settings_for(self.directory / name, **self.tables)
        return build_rig(
            self.directory / name,
            mesh,
            mesh.hosts["tesla"],
            settings=settings,
            stores=(self.store,),
            backend=self.backend,
        )

    async def reload(self, key: str, value: Any) -> None:
        table, _, name = key.rpartition(".")
        tables = {**self.tables, table: {**self.tables.get(table, {}), name: value}}
        self.rig.reload_with = settings_for(self.rig.socket.parent.parent, **tables)
        answer = await self.rig.ask("reload")
        assert answer.exit_code == 0, answer.error

    def record(self) -> HostRecord:
        """What the store shows of tesla."""
        held = self.store.get(f"v1/{self.mesh.mesh.chain.mesh_id}/{self.mesh.hosts['tesla'].key}")
        assert held is not None
        return parse_record(held.body, self.mesh.mesh.chain.mesh_id)[0].record

    def peer(self, name: str) -> Peer:
        device = self.rig.kernel().device
        assert device is not None
        return device.peers[self.mesh.hosts[name].wireguard.public()]


Show = Callable[[World], Awaitable[None]]
SHOWN: dict[str, tuple[dict[str, Any], Show]] = {}


def shows(key: str, **tables: Any) -> Callable[[Show], Show]:
    """The effect of ``key``, where a daemon has started with ``tables``."""

    def note(show: Show) -> Show:
        SHOWN[key] = ({"host": {"endpoints": ["198.18.0.1:51820"]}, **tables}, show)
        return show

    return note


@shows("host.endpoints")
async def another_endpoint_is_published(world: World) -> None:
    await world.reload("host.endpoints", ["198.18.7.7:51820"])
    await until(lambda: "198.18.7.7:51820" in world.record().endpoints)


@shows("host.behind_nat")
async def a_host_behind_nat_keeps_its_sessions_alive(world: World) -> None:
    assert world.peer("newton").config.persistent_keepalive_seconds == 0
    await world.reload("host.behind_nat", True)
    await world.rig.apply()
    assert world.peer("newton").config.persistent_keepalive_seconds == 25
    await until(lambda: world.record().nat)


@shows("host.reflection", host={"endpoints": ["198.18.0.1:51820"], "reflection": False})
async def what_the_others_see_is_published(world: World) -> None:
    assert world.record().endpoints == ("198.18.0.1:51820",)
    await world.reload("host.reflection", True)
    await until(lambda: "198.18.9.9:40000" in world.record().endpoints)


@shows("wireguard.listen_port")
async def the_interface_listens_elsewhere_and_the_record_says_so(world: World) -> None:
    await world.reload("wireguard.listen_port", 4)
    await world.rig.apply()
    device = world.rig.kernel().device
    assert device is not None and device.listen_port == 4
    await until(lambda: world.record().listen_port == 4)


@shows("wireguard.mtu_bytes")
async def the_interface_has_another_mtu(world: World) -> None:
    await world.reload("wireguard.mtu_bytes", 1380)
    await world.rig.apply()
    assert world.rig.kernel().mtu_bytes == 1380


@shows("wireguard.boot_file")
async def the_boot_file_is_written(world: World) -> None:
    path = world.directory / "wg0.conf"
    await world.reload("wireguard.boot_file", str(path))
    await world.rig.apply()
    await until(path.exists)
    assert "ListenPort = 51820" in path.read_text()


@shows("wireguard.persistent_keepalive_seconds", host={"behind_nat": True})
async def sessions_are_kept_alive_at_another_pace(world: World) -> None:
    await world.reload("wireguard.persistent_keepalive_seconds", 11)
    await world.rig.apply()
    assert world.peer("newton").config.persistent_keepalive_seconds == 11


@shows("wireguard.key_lifetime_days")
async def an_old_key_is_rotated(world: World) -> None:
    await world.rig.apply()
    assert (await world.rig.status()).rotation.state == "steady"
    await world.reload("wireguard.key_lifetime_days", 1.0)
    await until(lambda: world.rig.state.read_next_wireguard_key() is not None)


@shows("registry.poll_seconds")
async def a_store_is_asked_at_another_pace(world: World) -> None:
    world.mesh.add("curie")
    world.mesh.publish(world.store)
    await world.reload("registry.poll_seconds", 0.05)
    await until(lambda: len(world.rig.prober.targets) == 3)
    world.mesh.add("noether")
    world.mesh.publish(world.store)
    await until(lambda: len(world.rig.prober.targets) == 4)


@shows("registry.stale_after_seconds")
async def a_registry_counts_as_stale_sooner(world: World) -> None:
    world.store.faults.unreachable = True
    world.rig.clock.now = NOW + 60
    await world.rig.ask("poll")
    assert "registry_stale" not in await world.rig.codes()
    await world.reload("registry.stale_after_seconds", 30.0)
    await until(lambda: stale(world.rig))


async def stale(rig: Rig) -> bool:
    return "registry_stale" in await rig.codes()


@shows("jails.networks")
async def another_network_is_announced(world: World) -> None:
    assert world.record().networks == ()
    await world.reload("jails.networks", ["10.17.1.0/24"])
    await until(lambda: world.record().networks == ("10.17.1.0/24",))


@shows("metrics.listen")
async def the_metrics_are_elsewhere(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    await world.reload("metrics.listen", [f"127.0.0.1:{port}"])
    await world.rig.apply()
    await until(lambda: answers(port))


async def answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


@shows("safety.max_removed_share")
async def a_plan_that_removes_much_is_no_longer_held(world: World) -> None:
    world.rig.daemon.stop()  # the next daemon knows a registry that has lost the others
    alone = SignedMesh.create()
    tesla = world.mesh.hosts["tesla"]
    alone.hosts["tesla"] = replace(alone.add("tesla"), wireguard=tesla.wireguard)
    key = str(tesla.wireguard.public())
    alone.offer(alone.hosts["tesla"].key, alone.hosts["tesla"].body(version=int(NOW * 1000), wireguard=key))
    world.rig = world.build(alone, "alone")
    async with running(world.rig):
        assert (await world.rig.ask("apply")).exit_code == 4
        await world.reload("safety.max_removed_share", 1.0)
        await world.rig.apply()
        device = world.rig.kernel().device
        assert device is not None and not device.peers


@shows("log.level")
async def more_is_logged(world: World) -> None:
    await world.reload("log.level", "debug")
    assert logging.getLogger("meshd").isEnabledFor(logging.DEBUG)


@shows("log.format")
async def it_is_logged_in_another_form(world: World) -> None:
    await world.reload("log.format", "json")
    assert any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)


@pytest.fixture
def mesh() -> SignedMesh:
    made = SignedMesh.create()
    for number, name in enumerate(("tesla", "newton", "bohr"), 1):
        made.add(name, jails=(f"10.17.{number}.0/24",), announced=())
    return made


@pytest.fixture
def untouched_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("meshd")
    handlers, level, root_level = list(root.handlers), ours.level, root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(root_level)
    for name in ("meshd", "wgctl"):
        logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize("key", SHOWN)
@pytest.mark.usefixtures("untouched_logging")
def test_a_live_setting_takes_effect_without_a_restart(tmp_path: Path, mesh: SignedMesh, key: str) -> None:
    tables, show = SHOWN[key]

    async def scenario() -> None:
        world = World(tmp_path, mesh, tables)
        async with running(world.rig):
            await show(world)

    asyncio.run(scenario())


@pytest.mark.parametrize("key", FIXED)
def test_a_fixed_setting_is_refused_by_name_and_nothing_changes(
    tmp_path: Path, mesh: SignedMesh, key: str
) -> None:
    async def scenario() -> None:
        world = World(tmp_path, mesh, {})
        async with running(world.rig) as rig:
            before = rig.kernel()
            table, _, name = key.rpartition(".")
            changed = {table: {name: FIXED[key]}} if table else {name: FIXED[key]}
            rig.reload_with = settings_for(
                tmp_path / "state",
                **{**changed, "wireguard": {"mtu_bytes": 1380, **changed.get("wireguard", {})}},
            )
            refused = await rig.ask("reload")
            assert refused.exit_code == 2 and refused.error is not None
            assert refused.error.startswith(f"{key}: ") and "restart meshd" in refused.error
            assert "settings_refused" in await rig.codes()
            await rig.apply()
            assert rig.kernel() == before

    asyncio.run(scenario())


def test_every_setting_is_shown_to_be_live_or_to_be_refused() -> None:
    every = setting_values(parse_settings({}, source="test")).keys()
    for place in ELSEWHERE.values():
        file, _, name = place.partition("::")
        assert f"def {name}(" in Path(__file__).with_name(file).read_text()
    assert SHOWN.keys() | ELSEWHERE.keys() == LIVE.keys()
    assert FIXED.keys() == every - LIVE.keys()


def test_the_manual_names_every_setting_that_needs_a_restart() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    _, _, sentence = manual.partition("A reload that changes one of these settings is refused")
    assert set(re.findall(r"`([a-z_.]+)`", sentence.partition("All others")[0])) == FIXED.keys()
