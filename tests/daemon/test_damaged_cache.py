"""A cache that a disk damaged is reported until it is whole again, and is made whole at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from daemon_rig import Rig, build_rig, running
from meshes import SignedMesh

from meshd.registry.layout import host_key
from meshd.registry.segment import parse_segment
from meshd.store.memory import MemoryStore

LOST = "registry_object_refused"


@pytest.fixture
def mesh() -> SignedMesh:
    mesh = SignedMesh.create()
    for name in ("tesla", "newton", "bohr"):
        mesh.add(name)
    return mesh


@pytest.fixture
def store(mesh: SignedMesh) -> MemoryStore:
    store = MemoryStore()
    mesh.publish(store)
    return store


def objects_file(directory: Path) -> Path:
    return directory / "state" / "registry" / "objects"


def damage_one_byte(directory: Path, key: str) -> None:
    """In the body of an object, as a failing disk does."""
    path = objects_file(directory)
    data = bytearray(path.read_bytes())
    data[data.rindex(key.encode()) + len(key) + 20] ^= 1
    path.write_bytes(data)


def damage_a_superseded_entry(directory: Path, key: str) -> None:
    """An older body in front of the newest: nothing that is held is lost, so no store brings any news."""
    path = objects_file(directory)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(key.encode()) + len(key) + 9] + whole)


def rig_of(directory: Path, mesh: SignedMesh, store: MemoryStore) -> Rig:
    return build_rig(directory, mesh, mesh.hosts["tesla"], stores=(store,))


@pytest.mark.parametrize("damage", [damage_one_byte, damage_a_superseded_entry])
def test_a_damaged_byte_is_reported_until_a_store_has_shown_everything_and_the_file_is_whole(
    tmp_path: Path, mesh: SignedMesh, store: MemoryStore, damage: Callable[[Path, str], None]
) -> None:
    build_rig(tmp_path, mesh, mesh.hosts["tesla"])
    damage(tmp_path, host_key(mesh.hosts["newton"].hid))
    store.faults.unreachable = True

    async def scenario() -> None:
        async with running(rig_of(tmp_path, mesh, store)) as rig:
            await rig.news_and_turn()
            assert LOST in await rig.codes()
            store.faults.unreachable = False
            await rig.news_and_turn()
            assert await rig.codes() == set()
            assert all(host.record is not None for host in rig.world.membership.hosts.values())

    asyncio.run(scenario())
    assert parse_segment(objects_file(tmp_path).read_bytes()).damaged_bytes == 0


def test_without_stores_the_file_is_whole_after_the_first_start(tmp_path: Path, mesh: SignedMesh) -> None:
    build_rig(tmp_path, mesh, mesh.hosts["tesla"])
    damage_a_superseded_entry(tmp_path, host_key(mesh.hosts["newton"].hid))

    async def scenario() -> None:
        async with running(build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=())) as rig:
            await rig.news_and_turn()
            assert LOST not in await rig.codes()

    asyncio.run(scenario())
    assert parse_segment(objects_file(tmp_path).read_bytes()).damaged_bytes == 0
