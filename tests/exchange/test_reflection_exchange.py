"""Real daemons tell each other where they see each other, and what they publish from that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, TypeVar

import pytest
from daemon_rig import Rig, build_rig, running, settings_for
from exchange_rig import Loopback, all_running, codes_of
from meshes import SignedMesh
from until import until

from meshd.exchange import witness
from meshd.model.device import PeerStats
from meshd.model.network import Endpoint
from meshd.model.path import PathStats
from meshd.settings import Settings

T = TypeVar("T")

NAMES = ("tesla", "newton", "bohr", "curie")
CONFIGURED = "198.18.0.1:51820"
SEEN = "198.18.0.9:51820"


@pytest.fixture
def mesh() -> SignedMesh:
    mesh = SignedMesh.create()
    for name in NAMES:
        mesh.add(name)
    return mesh


def build(
    directory: Path, mesh: SignedMesh, loopback: Loopback, name: str, *, others: Iterable[str], **host: Any
) -> Rig:
    """A daemon whose probes reach ``others``. ``host``: of its settings."""
    settings = settings_of(directory / name, loopback, **host)
    rig = build_rig(
        directory / name, mesh, mesh.hosts[name], settings=settings, mesh_addresses_of=loopback.places
    )
    rig.prober.stats = {mesh.hosts[other].hid: PathStats(up=True, sent=9) for other in others}
    return rig


def settings_of(directory: Path, loopback: Loopback, **host: Any) -> Settings:
    return settings_for(
        directory,
        exchange={"port": loopback.port, "witness_seconds": 3600},
        host={"endpoints": [CONFIGURED], **host},
    )


async def hear(rig: Rig, mesh: SignedMesh, text: str) -> None:
    """A packet of tesla's from there, and a look at the kernel."""
    key = mesh.hosts["tesla"].wireguard.public()
    rig.backend.peer_roams("wg0", key, Endpoint.parse(text))
    rig.backend.peer_counts("wg0", key, PeerStats(latest_handshake_at=rig.clock.now, receive_bytes=1))
    await rig.apply()


class Fleet:
    """tesla, which is seen, and the others, who see it."""

    def __init__(self, directory: Path, mesh: SignedMesh, *, seers: int = 1, **host: Any) -> None:
        self.mesh, self.directory = mesh, directory
        self.loopback = Loopback.of(mesh.hosts.values())
        self.names = NAMES[1 : seers + 1]
        self.tesla = build(directory, mesh, self.loopback, "tesla", others=self.names, **host)
        self.seers = [build(directory, mesh, self.loopback, name, others=("tesla",)) for name in self.names]

    def running(self) -> AbstractAsyncContextManager[None]:
        return all_running((self.tesla, *self.seers))

    async def see(self, *endpoints: str) -> None:
        """Each seer sees tesla at its endpoint from now on, and has looked; then tesla asks them."""
        for rig, text in zip(self.seers, endpoints, strict=True):
            await hear(rig, self.mesh, text)
        assert self.tesla.exchange is not None
        await self.tesla.exchange.witness_round()

    async def published(self) -> tuple[str, ...]:
        return (await self.tesla.status()).host.endpoints

    async def version(self) -> int:
        """Of tesla's record, as the first seer holds it."""
        (peer,) = [each for each in (await self.seers[0].status()).peers if each.name == "tesla"]
        return peer.record_version or 0


async def until_published(fleet: Fleet, *endpoints: str) -> None:
    await until_true(fleet.published, lambda published: published == endpoints)


async def until_true(ask: Callable[[], Awaitable[T]], is_right: Callable[[T], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            if is_right(await ask()):
                return
            await asyncio.sleep(0.01)


@pytest.mark.slow
def test_a_host_without_endpoints_publishes_where_a_peer_sees_it(tmp_path: Path, mesh: SignedMesh) -> None:
    fleet = Fleet(tmp_path, mesh, endpoints=[])
    fleet.tesla.underlay.source = IPv4Address("198.18.0.9")

    async def scenario() -> None:
        async with fleet.running():
            assert await fleet.published() == ()
            before = await fleet.version()
            await fleet.see(SEEN)
            await until_published(fleet, SEEN)
            assert (await fleet.tesla.status()).host.learned == (SEEN,)
            await until_true(fleet.version, lambda version: version > before)

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_host_that_moves_speaks_to_all_and_publishes_its_new_place_behind_the_configured_one(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    fleet = Fleet(tmp_path, mesh)

    async def scenario() -> None:
        async with fleet.running():
            await fleet.tesla.apply()
            nudges = fleet.tesla.prober.rounds
            fleet.tesla.underlay.source = IPv4Address("198.18.0.9")
            await hear(fleet.seers[0], mesh, SEEN)
            await fleet.tesla.apply()
            await until(lambda: fleet.tesla.prober.rounds == nudges + 1)
            await until_published(fleet, CONFIGURED, SEEN)

    asyncio.run(scenario())


@pytest.mark.slow
def test_what_is_learned_outlives_a_restart_without_a_new_record(tmp_path: Path, mesh: SignedMesh) -> None:
    fleet = Fleet(tmp_path, mesh)
    fleet.tesla.underlay.source = IPv4Address("198.18.0.9")

    async def first() -> int:
        async with fleet.running():
            await fleet.see(SEEN)
            await until_published(fleet, CONFIGURED, SEEN)
            await until((tmp_path / "tesla" / "state" / "learned.json").exists)
            await fleet.tesla.ask("poll")
            return await record_version(fleet.tesla)

    version = asyncio.run(first())
    again = build(tmp_path, mesh, fleet.loopback, "tesla", others=())
    again.underlay.source = IPv4Address("198.18.0.9")

    async def second() -> None:
        async with running(again):
            assert (await again.status()).host.endpoints == (CONFIGURED, SEEN)
            assert await record_version(again) == version

    asyncio.run(second())


async def record_version(rig: Rig) -> int:
    own = rig.daemon.parts.feed.membership.hosts[rig.state.read_hid()]
    assert own.record is not None
    return own.record.version


@pytest.mark.slow
def test_a_liar_is_outvoted_and_rounds_without_news_sign_nothing(tmp_path: Path, mesh: SignedMesh) -> None:
    fleet = Fleet(tmp_path, mesh, seers=3, endpoints=[])

    async def scenario() -> None:
        async with fleet.running():
            await fleet.see(CONFIGURED, CONFIGURED, "203.0.113.66:53")
            await until_published(fleet, CONFIGURED)
            version = await record_version(fleet.tesla)
            for minute in range(30):
                fleet.tesla.clock.now += 60
                await fleet.see(CONFIGURED, CONFIGURED, f"203.0.113.{minute}:53")
            assert await record_version(fleet.tesla) == version
            assert not (await fleet.tesla.status()).host.behind_nat

    asyncio.run(scenario())


@pytest.mark.slow
def test_behind_a_nat_that_gives_each_peer_a_port_only_the_nat_is_published_and_keepalives_begin(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    fleet = Fleet(tmp_path, mesh, seers=3, endpoints=[])
    fleet.tesla.underlay.source = IPv4Address("192.168.7.3")

    def keepalives() -> set[int]:
        device = fleet.tesla.kernel().device
        assert device is not None
        return {peer.config.persistent_keepalive_seconds for peer in device.peers.values()}

    async def scenario() -> None:
        async with fleet.running():
            assert keepalives() == {0}
            await fleet.see("203.0.113.5:1001", "203.0.113.5:1002", "203.0.113.5:1003")
            await until(lambda: keepalives() == {25})
            await until_true(fleet.tesla.status, lambda status: status.host.behind_nat)
            assert await fleet.published() == ()

    asyncio.run(scenario())


def test_with_reflection_off_nothing_is_learned(tmp_path: Path, mesh: SignedMesh) -> None:
    fleet = Fleet(tmp_path, mesh, reflection=False)
    fleet.tesla.underlay.source = IPv4Address("198.18.0.9")

    async def scenario() -> None:
        async with fleet.running():
            await fleet.see(SEEN)
            await fleet.tesla.apply()
            assert await fleet.published() == (CONFIGURED,)

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_name_is_resolved_used_and_said_when_it_does_not_resolve(tmp_path: Path, mesh: SignedMesh) -> None:
    named = Fleet(tmp_path, mesh, endpoints=["tesla.example.net:51820"])
    (seer,) = named.seers

    def endpoint() -> str:
        device = seer.kernel().device
        assert device is not None
        return str(device.peers[mesh.hosts["tesla"].wireguard.public()].config.endpoint)

    async def scenario() -> None:
        async with named.running():
            await until(lambda: "name_unresolved" in codes_of(seer))
            seer.underlay.names["tesla.example.net"] = ["198.18.0.77"]
            await until(lambda: endpoint() == "198.18.0.77:51820")
            await seer.apply()
            assert "name_unresolved" not in codes_of(seer)
            (peer,) = [each for each in (await seer.status()).peers if each.name == "tesla"]
            assert peer.endpoint_reason is not None
            assert peer.endpoint_reason.startswith("candidate 1 of 1, tesla.example.net")

    asyncio.run(scenario())


@pytest.mark.parametrize("text", ["", "junk", "tesla.example.net:1", "198.18.0.1:051820", "[198.18.0.1]:1"])
def test_what_is_no_endpoint_in_a_testimony_is_as_good_as_nothing(text: str) -> None:
    testimony = witness.Testimony(
        mesh="", hid="", nonce="", at=0, root=(1, ""), heads={}, records="", stores=(), seen=text
    )
    assert testimony.seen_endpoint is None


def test_a_mesh_address_is_never_published_as_an_endpoint(tmp_path: Path, mesh: SignedMesh) -> None:
    fleet = Fleet(tmp_path, mesh)

    async def scenario() -> None:
        async with fleet.running():
            await fleet.see("10.99.0.1:51820")
            await fleet.tesla.apply()
            assert await fleet.published() == (CONFIGURED,)

    asyncio.run(scenario())


def test_an_endpoint_that_was_only_configured_is_nothing_that_was_seen(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    fleet = Fleet(tmp_path, mesh, endpoints=[])

    async def scenario() -> None:
        async with fleet.running():
            assert fleet.tesla.exchange is not None
            assert await fleet.tesla.exchange.witness_round() == 0

    asyncio.run(scenario())
