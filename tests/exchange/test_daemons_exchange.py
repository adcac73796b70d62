"""Real daemons that hand each other records over real sockets, with and without a store."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from daemon_rig import Rig, settings_for
from exchange_rig import WAIT_SECONDS, Loopback, all_running, build_exchanging, codes_of, offer
from meshes import NOW, SignedMesh, full_store
from until import until

from meshd.exchange import flood
from meshd.exchange.client import ExchangeClient
from meshd.exchange.messages import Offer
from meshd.exchange.partner import Partner
from meshd.model.path import PathStats
from meshd.probe.events import PathChanged
from meshd.store.memory import MemoryStore

NAMES = ("tesla", "newton", "bohr", "curie", "noether", "hopper")


@pytest.fixture
def mesh() -> SignedMesh:
    mesh = SignedMesh.create()
    for number, name in enumerate(NAMES, 1):
        mesh.add(name, jails=(f"10.17.{number}.0/24",))
    return mesh


def dead_store() -> MemoryStore:
    store = MemoryStore()
    store.faults.unreachable = True
    return store


def build_two(
    tmp_path: Path, mesh: SignedMesh, first: MemoryStore, second: MemoryStore, **pauses: Any
) -> tuple[Rig, Rig]:
    loopback = Loopback.of(mesh.hosts.values())
    one, two = (
        build_exchanging(tmp_path, mesh, mesh.hosts[name], loopback, stores=(store,), **pauses)
        for name, store in (("tesla", first), ("newton", second))
    )
    for rig, other in ((one, "newton"), (two, "tesla")):
        rig.prober.stats = {mesh.hosts[other].hid: PathStats(up=True)}
    return one, two


def peers_of(rig: Rig) -> set[str]:
    device = rig.kernel().device
    assert device is not None
    return {str(key) for key in device.peers}


def key_of(mesh: SignedMesh, name: str) -> str:
    return str(mesh.hosts[name].wireguard.public())


def newest(mesh: SignedMesh) -> list[tuple[str, bytes]]:
    return [list(mesh.objects.items())[-1]]


def witness(rig: Rig) -> asyncio.Task[int]:
    assert rig.exchange is not None
    return asyncio.ensure_future(rig.exchange.witness_round())


@pytest.mark.slow
def test_what_one_host_is_given_reaches_all_while_no_store_answers(tmp_path: Path, mesh: SignedMesh) -> None:
    loopback, store = Loopback.of(mesh.hosts.values()), dead_store()
    rigs = [build_exchanging(tmp_path, mesh, mesh.hosts[n], loopback, stores=(store,)) for n in NAMES]

    async def scenario() -> None:
        async with all_running(rigs):
            mesh.revoke("hopper", "stolen")
            document = await offer(rigs[0], newest(mesh))
            assert document.outcomes == ("new",)
            assert document.hosts >= 4, "those that are still hosts afterwards"
            for rig in rigs[:-1]:
                await until(lambda rig=rig: key_of(mesh, "hopper") not in peers_of(rig))  # type: ignore[misc]
            await until(lambda: "self_revoked" in codes_of(rigs[-1]))
            assert (await offer(rigs[1], newest(mesh))).outcomes == ("known",)

    asyncio.run(scenario())


@pytest.mark.slow
def test_news_survives_a_restart_although_no_store_has_it(tmp_path: Path, mesh: SignedMesh) -> None:
    store = dead_store()

    async def first() -> None:
        one, two = build_two(tmp_path, mesh, store, store)
        async with all_running((one, two)):
            mesh.revoke("bohr", "sold")
            await offer(one, newest(mesh))
            await until(lambda: key_of(mesh, "bohr") not in peers_of(two))

    asyncio.run(first())

    async def second() -> None:
        _, two = build_two(tmp_path, mesh, store, store)
        async with all_running((two,)):
            assert key_of(mesh, "bohr") not in peers_of(two)

    asyncio.run(second())


def test_a_host_that_was_away_gets_what_waited_for_it_when_its_path_comes_up(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    one, two = build_two(tmp_path, mesh, dead_store(), dead_store())
    one.prober.stats = {}

    async def scenario() -> None:
        async with all_running((one, two)):
            mesh.revoke("bohr", "sold")
            assert (await offer(one, newest(mesh))).hosts == 0
            assert key_of(mesh, "bohr") in peers_of(two)
            one.prober.stats = {mesh.hosts["newton"].hid: PathStats(up=True)}
            one.prober.tell(PathChanged(hid=mesh.hosts["newton"].hid, up=True))
            await until(lambda: key_of(mesh, "bohr") not in peers_of(two))

    asyncio.run(scenario())


def test_a_host_that_reaches_no_store_pulls_from_one_that_does(tmp_path: Path, mesh: SignedMesh) -> None:
    store = full_store(mesh)
    one, two = build_two(tmp_path, mesh, store, dead_store())
    one.prober.stats = {}  # it tells nobody by itself

    async def scenario() -> None:
        async with all_running((one, two)):
            mesh.revoke("bohr", "sold")
            mesh.publish(store)
            await one.ask("poll")
            await two.ask("poll")
            await until(lambda: key_of(mesh, "bohr") not in peers_of(two))

    asyncio.run(scenario())


def test_a_withheld_revoke_arrives_by_a_witness_and_both_sides_say_what_the_store_does(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    honest = full_store(mesh)
    old = honest.reader()
    one, two = build_two(tmp_path, mesh, honest, old)
    one.prober.stats = {}

    async def scenario() -> None:
        async with all_running((one, two)):
            mesh.revoke("bohr", "sold")
            old.faults.hidden = {f"v1/{mesh.ledger.mesh_id}/{newest(mesh)[0][0]}"}
            mesh.publish(honest)
            await one.ask("poll")
            for rig in (one, two):
                rig.clock.now += 60
                await rig.ask("poll")
            await witness(two)
            await until(lambda: key_of(mesh, "bohr") not in peers_of(two))
            assert "store_split_view" in codes_of(two)
            one.prober.stats = {mesh.hosts["newton"].hid: PathStats(up=True)}
            await witness(one)
            assert "store_split_view" in codes_of(one)
            for _ in range(3):
                two.clock.now += 30
                await two.ask("poll")
            assert "store_withholds" in codes_of(two)
            old.faults.hidden = set()
            await two.ask("poll")
            await witness(two)
            await witness(one)
            assert codes_of(two) == codes_of(one) == set()

    asyncio.run(scenario())


@pytest.mark.slow
def test_what_a_store_shows_to_one_host_alone_is_said_before_the_next_turn_of_a_witness(
    tmp_path: Path, mesh: SignedMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long that takes follows from the pause between polls, and from no luck with other turns."""
    monkeypatch.setattr("meshd.exchange.rounds.VIEW_GRACE_SECONDS", 0.5)
    monkeypatch.setattr("meshd.exchange.rounds.VIEWS_TICK_SECONDS", 0.1)
    monkeypatch.setattr("meshd.exchange.rounds.VIEWS_SPREAD_SECONDS", (0.0, 0.1))
    honest = full_store(mesh)
    old = honest.reader()
    one, two = build_two(tmp_path, mesh, honest, old, poll_seconds=0.1, witness_seconds=3600.0)

    async def scenario() -> None:
        async with all_running((one, two)):
            await until(lambda: all(rig.exchange.stats().agrees for rig in (one, two)))  # type: ignore[union-attr]
            mesh.revoke("bohr", "sold")
            old.faults.hidden = {f"v1/{mesh.ledger.mesh_id}/{newest(mesh)[0][0]}"}
            mesh.publish(honest)
            await until(lambda: key_of(mesh, "bohr") not in peers_of(one))
            for rig in (one, two):
                rig.clock.now += 60
            await until(lambda: all("store_split_view" in codes_of(rig) for rig in (one, two)))

    asyncio.run(scenario())


def test_two_histories_of_one_log_are_said_and_both_end_with_the_same_knowledge(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    there = mesh.copy()
    here_store, there_store = full_store(mesh), full_store(mesh)
    one, two = build_two(tmp_path, mesh, here_store, there_store)
    mesh.revoke("bohr", "sold")
    mesh.publish(here_store)
    there.revoke("curie", "a copied key at work")
    there.publish(there_store)
    for rig in (one, two):
        rig.prober.stats = {}

    async def scenario() -> None:
        async with all_running((one, two)):
            assert codes_of(one) == codes_of(two) == set()
            one.prober.stats = {mesh.hosts["newton"].hid: PathStats(up=True)}
            await witness(one)
            for rig in (one, two):
                await until(lambda rig=rig: "registry_fork" in codes_of(rig))  # type: ignore[misc]
                await until(
                    lambda rig=rig: peers_of(rig).isdisjoint(  # type: ignore[misc]
                        {key_of(mesh, "bohr"), key_of(mesh, "curie")}
                    )
                )
            await witness(one)
            assert one.exchange is not None and one.exchange.stats().agrees is True
            assert codes_of(one) == {"registry_fork"}, "both hold both now, and neither lied"

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_witness_that_answers_slowly_keeps_nobody_elses_word_back(tmp_path: Path, mesh: SignedMesh) -> None:
    """Its time ends, it is asked one thing at a time, and what the others say counts when they say it."""
    loopback = Loopback.of(mesh.hosts.values())
    names = ("tesla", "newton")
    one, two = (
        build_exchanging(tmp_path, mesh, mesh.hosts[name], loopback, stores=(dead_store(),)) for name in names
    )
    slow = mesh.hosts["bohr"].hid
    one.prober.stats = {hid: PathStats(up=True) for hid in (slow, mesh.hosts["newton"].hid)}
    two.prober.stats = {}

    async def scenario() -> None:
        held: list[asyncio.StreamWriter] = []
        asked: list[bytes] = []

        async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            held.append(writer)
            asked.append((await reader.readline()).split()[1].rpartition(b"/")[2])

        stalled = await asyncio.start_server(stall, str(loopback.addresses[slow]), loopback.port)
        async with stalled, all_running((one, two)):
            exchange = one.exchange
            assert exchange is not None
            rounds = [witness(one)]
            await until(lambda: b"witness" in asked or b"objects" in asked)
            async with asyncio.timeout(WAIT_SECONDS):
                while exchange.stats().witnesses["agreed"] < 3:
                    rounds.append(witness(one))
                    exchange.path_up(slow)
                    await asyncio.sleep(0.05)
            assert sum(verb != b"offer" for verb in asked) == 1, "one conversation at a time, beside the news"
            stalled.close()
            for writer in held:
                writer.close()
            await asyncio.gather(*rounds)

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_new_own_record_is_told_to_the_others_at_once(tmp_path: Path, mesh: SignedMesh) -> None:
    one, two = build_two(tmp_path, mesh, dead_store(), dead_store())

    async def scenario() -> None:
        async with all_running((one, two)):
            changed = one.reload_with
            one.reload_with = settings_for(
                tmp_path / "tesla",
                host={"endpoints": ["198.18.7.7:51820"]},
                exchange={"port": changed.exchange.port, "witness_seconds": 3600.0},  # type: ignore[union-attr]
            )
            await one.ask("reload")
            await until(lambda: endpoint_of(two, mesh, "tesla") == "198.18.7.7:51820")

    asyncio.run(scenario())


def endpoint_of(rig: Rig, mesh: SignedMesh, name: str) -> str:
    device = rig.kernel().device
    assert device is not None
    peer = device.peers.get(mesh.hosts[name].wireguard.public())
    return str(peer.config.endpoint) if peer else ""


class Draw(random.Random):
    """Of every span the same part."""

    def __init__(self, part: float) -> None:
        super().__init__(0)
        self._part = part

    def uniform(self, a: float, b: float) -> float:
        return a + self._part * (b - a)


@pytest.mark.slow
def test_what_all_see_in_a_store_is_told_by_one_and_not_by_each_to_each(
    tmp_path: Path, mesh: SignedMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    loopback, store = Loopback.of(mesh.hosts.values()), full_store(mesh)
    rigs = [
        build_exchanging(
            tmp_path, mesh, mesh.hosts[name], loopback, stores=(store,), rng=Draw(1.0 if number else 0.0)
        )
        for number, name in enumerate(NAMES)
    ]
    key, body = mesh.signer.rotate([], int(NOW) + 60, now=NOW)
    mesh.objects[key] = body
    told: Counter[str] = Counter()
    offer_to = ExchangeClient.offer

    def count(self: ExchangeClient, partner: Partner, offered: Offer) -> Any:
        answer = offer_to(self, partner, offered)
        told[str(partner.source)] += (key, body) in offered.objects
        return answer

    monkeypatch.setattr(ExchangeClient, "offer", count)
    # Whoever draws most would still wait when the first one has told everybody, however slow it is.
    monkeypatch.setattr(flood, "LISTING_PAUSE_SECONDS_PER_HOST", 20.0)
    monkeypatch.setattr(flood, "MAX_LISTING_PAUSE_SECONDS", 60.0)

    async def scenario() -> None:
        async with all_running(rigs):
            mesh.publish(store)
            await asyncio.gather(*(rig.ask("poll") for rig in rigs))
            first = str(loopback.addresses[mesh.hosts[NAMES[0]].hid])
            await until(lambda: told[first] == len(NAMES) - 1)
            assert set(told) - {first} <= {source for source, count in told.items() if not count}

    asyncio.run(scenario())
