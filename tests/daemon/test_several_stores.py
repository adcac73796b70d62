"""Which of several stores a daemon asks, and what it says about each."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from daemon_rig import Rig, build_rig, running
from meshes import SignedMesh

from meshd.store.memory import MemoryStore

ROUNDS = 30


@pytest.fixture
def mesh() -> SignedMesh:
    mesh = SignedMesh.create()
    for name in ("tesla", "newton"):
        mesh.add(name)
    return mesh


def full(mesh: SignedMesh, name: str) -> MemoryStore:
    store = MemoryStore(name=name)
    mesh.publish(store)
    return store


async def follow(rig: Rig, rounds: int) -> None:
    for _ in range(rounds):
        await rig.ask("poll")


def test_a_dead_first_store_is_asked_now_and_then_and_not_in_every_round(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    dead, good = full(mesh, "dead"), full(mesh, "good")
    dead.faults.unreachable = True
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(dead, good))

    async def scenario() -> None:
        async with running(rig):
            await follow(rig, ROUNDS)
            assert 0 < dead.calls["list"] <= ROUNDS // 5
            assert await rig.codes() == {"store_down"}
            assert [(store.url, store.up) for store in (await rig.status()).registry.stores] == [
                ("memory:dead", False),
                ("memory:good", True),
            ]

    asyncio.run(scenario())


@pytest.mark.slow
def test_the_first_store_is_used_again_once_it_works_again(tmp_path: Path, mesh: SignedMesh) -> None:
    first, second = full(mesh, "first"), full(mesh, "second")
    first.faults.unreachable = True
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(first, second))

    async def scenario() -> None:
        async with running(rig):
            await follow(rig, ROUNDS)
            first.faults.unreachable = False
            await follow(rig, ROUNDS)
            assert await rig.codes() == set()
            second.faults.unreachable = True
            mesh.add("bohr")
            mesh.publish(first)
            await rig.apply()
            assert len((await rig.status()).peers) == 2

    asyncio.run(scenario())


def test_every_store_is_looked_at_and_gets_this_hosts_record(tmp_path: Path, mesh: SignedMesh) -> None:
    stores = [full(mesh, name) for name in ("one", "two", "three")]
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(*stores,))
    own = f"v1/{mesh.mesh.chain.mesh_id}/host/{mesh.hosts['tesla'].hid}.json"
    before = stores[0].get(own)

    async def scenario() -> None:
        async with running(rig):
            await follow(rig, ROUNDS)
            assert all(store.up for store in (await rig.status()).registry.stores)

    asyncio.run(scenario())
    bodies = {stored.body for store in stores if (stored := store.get(own)) is not None}
    assert len(bodies) == 1 and before is not None and bodies != {before.body}


def test_a_disk_that_takes_nothing_is_complained_of_until_it_does_whatever_is_published_meanwhile(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    store = full(mesh, "good")
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(store,))
    cache, aside = rig.state.directory / "registry", tmp_path / "aside"

    async def scenario() -> None:
        async with running(rig):
            cache.rename(aside)
            cache.write_text("no directory")
            mesh.add("bohr")
            mesh.publish(store)
            await rig.ask("poll")
            assert "disk_failed" in await rig.codes()
            await rig.daemon.parts.feed.publish_own()
            assert "disk_failed" in {condition.code for condition in rig.conditions()}
            cache.unlink()
            aside.rename(cache)
            await rig.ask("poll")
            assert "disk_failed" not in await rig.codes()

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_store_that_takes_no_record_is_named_in_every_round_until_it_takes_it(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    good, refusing = full(mesh, "good"), full(mesh, "refusing")
    refusing.faults.refused_puts = 10**6
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(good, refusing))

    async def scenario() -> None:
        async with running(rig):
            await follow(rig, 2)  # the second round looks at all of them
            for _ in range(3):
                await rig.ask("poll")
                missing = [c for c in (await rig.status()).conditions if c.code == "own_record_missing"]
                assert [c.subject for c in missing] == ["memory:refusing"]
            refusing.faults.refused_puts = 0
            await follow(rig, ROUNDS)
            assert await rig.codes() == set()

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_reported_as_that_alone(tmp_path: Path, mesh: SignedMesh) -> None:
    store = full(mesh, "store")
    store.faults.refused_puts = 10**6
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(store,))

    async def scenario() -> None:
        async with running(rig):
            await rig.ask("poll")
            assert await rig.codes() == {"own_record_missing"}
            store.faults.unreachable = True
            await rig.ask("poll")
            assert await rig.codes() == {"store_down"}

    asyncio.run(scenario())
