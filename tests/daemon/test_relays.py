"""A daemon and its relayed pairs: what it asks, sets, shows and refuses. Real HTTP between real daemons."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import msgspec
import pytest
from daemon_rig import FakeUnderlay, Rig, build_rig, settings_for
from exchange_rig import Loopback, all_running
from meshes import NOW, SignedMesh
from published import check_document
from until import until

from meshd.exchange.relaying import RelayRequest
from meshd.model.device import PeerStats
from meshd.model.network import Endpoint
from meshd.model.path import PathStats
from meshd.observe.path_document import DrainDocument, PathDocument
from meshd.observe.protocol import ControlAnswer
from meshd.observe.status import PeerStatus
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


@pytest.fixture
def mesh() -> SignedMesh:
    made = SignedMesh.create()
    for name in NAMES:
        made.add(name)
    return made


def play(trio: Trio, scene: Callable[[Trio], Awaitable[None]]) -> None:
    async def scenario() -> None:
        async with trio.running():
            await scene(trio)

    asyncio.run(scenario())


def test_a_dead_path_goes_through_the_third_host_at_both_ends(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        trio.kill("tesla", "newton")
        relay = "198.18.0.3:51822"
        await until(lambda: trio.endpoint("tesla", "newton") == relay)
        await until(lambda: trio.endpoint("newton", "tesla") == relay)
        assert trio.via("tesla", "newton") == trio.hids["bohr"]
        leases = trio.rigs["bohr"].daemon.parts.relays.host.leases.by_ends
        assert set(leases) == {frozenset((trio.hids["tesla"], trio.hids["newton"]))}
        for other in ("tesla", "newton"):
            assert trio.endpoint("bohr", other).endswith(":51820"), "the relay's own peers stay"

    play(Trio(tmp_path, mesh), scene)


def test_it_is_shown_everywhere_and_by_name(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        trio.kill("tesla", "newton")
        await until(lambda: trio.via("tesla", "newton") != "direct")
        trio.answer("tesla", "newton")
        rig = trio.rigs["tesla"]

        async def newton() -> PeerStatus:
            (peer,) = [peer for peer in (await rig.status()).peers if peer.name == "newton"]
            return peer

        async def is_explained() -> bool:
            return (await newton()).endpoint_reason == "the relay of bohr"

        await until(is_explained)
        assert (await newton()).path.via == "bohr"
        status = await rig.status()
        (shown,) = [each for each in status.conditions if each.code == "path_relayed"]
        assert shown.subject == "newton" and "through bohr" in shown.text
        document = await trio.path("tesla", "newton")
        assert document.via == "bohr" and document.standing == "relayed" and document.switches == 1
        assert any("through bohr" in step.text for step in document.steps)

    play(Trio(tmp_path, mesh), scene)


def test_no_witness_says_that_a_relayed_host_is_where_its_relay_is(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        observer = trio.rigs["tesla"].daemon.parts.observer
        seen = await asyncio.to_thread(observer.observed_address, trio.hids["newton"], False)
        assert seen == "198.18.0.2:51820"
        trio.kill("tesla", "newton")
        await until(lambda: trio.endpoint("tesla", "newton") == "198.18.0.3:51822")
        assert await asyncio.to_thread(observer.observed_address, trio.hids["newton"], True) == ""

    play(Trio(tmp_path, mesh), scene)


def test_packets_that_come_directly_again_end_it(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        trio.kill("tesla", "newton")
        await until(lambda: trio.endpoint("tesla", "newton") == "198.18.0.3:51822")
        trio.answer("tesla", "newton")
        engine = trio.rigs["tesla"].daemon.parts.relays

        async def relayed_packets_settle_it() -> bool:
            trio.roam("tesla", "newton", "198.18.0.3:51822")
            await trio.rigs["tesla"].turn()
            return not engine.pairs[trio.hids["newton"]].is_due

        await until(relayed_packets_settle_it)

        async def packets_come_directly() -> bool:
            trio.roam("tesla", "newton", "198.18.0.2:51820")
            await trio.rigs["tesla"].turn()
            return trio.via("tesla", "newton") == "direct"

        await until(packets_come_directly)
        assert trio.endpoint("tesla", "newton") == "198.18.0.2:51820", "what the kernel learned stays"

    play(Trio(tmp_path, mesh), scene)


def test_a_daemon_that_starts_goes_on_with_the_relay_that_it_finds(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        trio.roam("tesla", "newton", "198.18.0.3:51822")
        await trio.rigs["tesla"].turn()
        assert trio.via("tesla", "newton") == trio.hids["bohr"]
        assert trio.endpoint("tesla", "newton") == "198.18.0.3:51822"
        assert not (await trio.rigs["tesla"].plan()).changes

    play(Trio(tmp_path, mesh), scene)


def test_a_member_that_says_it_carries_a_pair_changes_nothing_while_the_path_is_good(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    async def scene(trio: Trio) -> None:
        liar = trio.rigs["bohr"].daemon.parts.exchange
        assert liar is not None
        await liar.relay(trio.hids["tesla"], RelayRequest(kind="told", other=trio.hids["newton"]))
        await trio.rigs["tesla"].turn()
        assert trio.via("tesla", "newton") == "direct"
        assert trio.endpoint("tesla", "newton") == "198.18.0.2:51820"

    play(Trio(tmp_path, mesh), scene)


def test_a_host_that_relays_for_nobody_says_so_and_the_pair_waits(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        trio.kill("tesla", "newton")
        first, second = trio.by_id("tesla", "newton")
        await until(lambda: asked(trio, first, second))
        document = await trio.path(first, second)
        assert document.via == "direct"
        assert [(each.host, each.answer) for each in document.asked] == [("bohr", "it relays for nobody")]

    play(Trio(tmp_path, mesh, relay={"enabled": False}), scene)


async def asked(trio: Trio, name: str, other: str) -> bool:
    """All hosts have answered, and none can."""
    return (await trio.path(name, other)).standing == "waiting"


def test_a_drained_host_takes_no_pair_and_its_pairs_look_elsewhere(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        answer = await trio.ask("bohr", verb="drain")
        assert msgspec.json.decode(answer.result, type=DrainDocument).is_drained
        trio.kill("tesla", "newton")
        first, second = trio.by_id("tesla", "newton")
        await until(lambda: asked(trio, first, second))
        document = await trio.path(first, second)
        assert [each.answer for each in document.asked] == ["it is drained"]
        await trio.ask("bohr", verb="drain", end=True)
        assert not trio.rigs["bohr"].daemon.parts.relays.is_drained

    play(Trio(tmp_path, mesh), scene)


async def reload(rig: Rig, **relay: Any) -> None:
    current = rig.daemon.parts.newest.world
    assert current is not None
    settings = current.settings
    fresh = msgspec.structs.replace(settings.relay, **relay)
    rig.reload_with = msgspec.structs.replace(settings, relay=fresh)
    assert (await rig.ask("reload")).exit_code == 0
    await rig.turn()


def test_a_reload_that_switches_relaying_off_ends_it_for_others(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        bohr = trio.rigs["bohr"]
        await reload(bohr, enabled=False)
        trio.kill("tesla", "newton")
        first, second = trio.by_id("tesla", "newton")
        await until(lambda: asked(trio, first, second))
        assert [each.answer for each in (await trio.path(first, second)).asked] == ["it relays for nobody"]

    play(Trio(tmp_path, mesh), scene)


def test_a_reload_takes_this_hosts_own_pairs_back(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        trio.kill("tesla", "newton")
        await until(lambda: trio.via("tesla", "newton") != "direct")
        await reload(trio.rigs["tesla"], use=False)
        await until(lambda: trio.endpoint("tesla", "newton") == "198.18.0.2:51820")
        assert trio.via("tesla", "newton") == "direct"

    play(Trio(tmp_path, mesh), scene)


def test_the_file_for_the_next_boot_has_no_relay_in_it(tmp_path: Path, mesh: SignedMesh) -> None:
    """At boot nobody relays yet: each peer is called where its record says that it is."""
    file = tmp_path / "wg0.conf"

    async def scene(trio: Trio) -> None:
        trio.kill("tesla", "newton")
        await until(lambda: trio.endpoint("tesla", "newton") == "198.18.0.3:51822")
        rig = trio.rigs["tesla"]
        current = rig.daemon.parts.newest.world
        assert current is not None
        wireguard = msgspec.structs.replace(current.settings.wireguard, boot_file=str(file))
        rig.reload_with = msgspec.structs.replace(current.settings, wireguard=wireguard)
        assert (await rig.ask("reload")).exit_code == 0
        await rig.turn()
        ends = [line for line in file.read_text().splitlines() if line.startswith("Endpoint")]
        assert sorted(ends) == ["Endpoint = 198.18.0.2:51820", "Endpoint = 198.18.0.3:51820"]
        assert trio.endpoint("tesla", "newton") == "198.18.0.3:51822", "the kernel keeps it"

    play(Trio(tmp_path, mesh), scene)


def test_a_reload_gives_the_relay_another_budget(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        trio.kill("tesla", "newton")
        await until(lambda: trio.via("tesla", "newton") != "direct")
        await reload(trio.rigs["bohr"], bytes_per_second=77_000)
        assert trio.rigs["bohr"].relays[0].table.bytes_per_second == 77_000

    play(Trio(tmp_path, mesh), scene)


def test_a_reload_says_how_many_pairs_there_is_room_for(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        host = trio.rigs["bohr"].daemon.parts.relays.host
        await reload(trio.rigs["bohr"], pairs=7)
        assert host.site.terms.pairs == 7

    play(Trio(tmp_path, mesh), scene)


def test_a_reload_says_from_which_loss_a_path_is_left(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        lossy = msgspec.structs.replace(UP, loss_ratio=0.15)
        trio.rigs["tesla"].prober.stats[trio.hids["newton"]] = lossy
        await trio.rigs["tesla"].turn()
        assert trio.via("tesla", "newton") == "direct"
        await reload(trio.rigs["tesla"], loss_ratio=0.1)
        await until(lambda: trio.via("tesla", "newton") == trio.hids["bohr"])

    play(Trio(tmp_path, mesh), scene)


@pytest.mark.parametrize(
    ("key", "before", "after"),
    [
        ("latency", False, True),
        ("latency_margin_ms", 15.0, 5.0),
        ("latency_share", 0.3, 0.1),
        ("latency_minutes", 60.0, 1.0),
    ],
)
def test_a_reload_says_when_a_shorter_way_is_taken(
    tmp_path: Path, mesh: SignedMesh, key: str, before: bool | float, after: bool | float
) -> None:
    """Directly 50 ms, through the third host 40."""
    wanted = {"latency": True, "latency_margin_ms": 5.0, "latency_share": 0.1, "latency_minutes": 1.0}

    async def scene(trio: Trio) -> None:
        first, second = trio.by_id("tesla", "newton")
        rig, other = trio.rigs[first], trio.hids[second]
        rig.prober.stats[other] = msgspec.structs.replace(UP, srtt_seconds=0.05)
        for _ in range(8):
            await review(trio, rig, other)
        assert trio.via(first, second) == "direct"
        await reload(rig, **{key: after})
        await until(lambda: review(trio, rig, other))
        assert "10 ms shorter" in (await trio.path(first, second)).why

    play(Trio(tmp_path, mesh, relay=wanted | {key: before}), scene)


async def review(trio: Trio, rig: Rig, other: str) -> bool:
    """Half a minute later -> whether the pair goes through another host."""
    trio.now += 35.0
    await rig.turn()
    pair = rig.daemon.parts.relays.pairs[other]
    await until(lambda: pair.review is None or pair.review.search is None)
    await until(lambda: pair.search is None)
    return pair.is_carried


def test_one_member_at_anothers_place_takes_no_other_pair_away(tmp_path: Path, mesh: SignedMesh) -> None:
    """WireGuard follows an authenticated packet wherever it comes from, a forged address too."""
    for name in ("curie", "noether"):
        mesh.add(name)

    async def scene(trio: Trio) -> None:
        bohr = trio.rigs["bohr"]
        for name, endpoint in (("curie", "198.18.0.4:51820"), ("noether", "198.18.0.1:51820")):
            trio.roam("bohr", name, endpoint)
            bohr.prober.stats[mesh.hosts[name].hid] = UP
        await bohr.turn()
        host = bohr.daemon.parts.relays.host
        liar = RelayRequest(kind="open", other=mesh.hosts["curie"].hid)
        host.answer(mesh.hosts["noether"].hid, liar)
        host.answer(trio.hids["tesla"], RelayRequest(kind="open", other=trio.hids["newton"]))
        host.answer(trio.hids["newton"], RelayRequest(kind="renew", other=trio.hids["tesla"]))
        await bohr.turn()
        keys = {mesh.hosts[name].wireguard.public() for name in ("tesla", "newton")}
        assert keys in [set(pair.keys) for pair in bohr.relays[0].table.pairs]

    play(Trio(tmp_path, mesh), scene)
