"""A registry older than the one a host carried out: its cache was put back, from a backup or by a thief."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from daemon_rig import Rig, build_rig, copy_ledger, running
from meshes import SignedMesh

from meshd.backend.memory import MemoryBackend
from meshd.host.state import HostState
from meshd.model.network import IPAddress
from meshd.store.memory import MemoryStore


@pytest.fixture
def mesh() -> SignedMesh:
    mesh = SignedMesh.create()
    for name in ("tesla", "newton", "bohr"):
        mesh.add(name)
    return mesh


def peers_of(rig: Rig) -> set[str]:
    device = rig.kernel().device
    assert device is not None
    return {str(key) for key in device.peers}


def keys_of(mesh: SignedMesh, *names: str) -> set[str]:
    return {str(mesh.hosts[name].wireguard.public()) for name in names}


def addresses_of(mesh: SignedMesh, name: str) -> tuple[IPAddress, ...]:
    reduction, hid = mesh.ledger.reduction(), mesh.hosts[name].hid
    held = reduction.revoked.get(hid) or reduction.placed[hid]
    return held.addresses


def store_of(mesh: SignedMesh) -> MemoryStore:
    store = MemoryStore()
    mesh.publish(store)
    return store


class Tesla:
    """One host, process after process; its kernel stays."""

    def __init__(self, directory: Path, mesh: SignedMesh) -> None:
        self.directory, self.mesh, self.backend = directory, mesh, MemoryBackend()

    def start(self, *stores: MemoryStore) -> Rig:
        host = self.mesh.hosts["tesla"]
        return build_rig(
            self.directory, self.mesh, host, backend=self.backend, stores=stores or (MemoryStore(),)
        )

    def run_once(self, registry: SignedMesh) -> Rig:
        """Until it has carried out ``registry``."""

        async def scenario(rig: Rig) -> Rig:
            async with running(rig):
                return rig

        return asyncio.run(scenario(self.start(store_of(registry))))

    def put_cache_back(self, registry: SignedMesh) -> None:
        state = self.directory / "state"
        shutil.rmtree(state / "registry")
        HostState(state).open_cache().create(copy_ledger(registry))


def test_a_turn_without_changes_does_not_forget_that_the_registry_is_older(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    """A store that withholds the revoke, beside a cache from before the grant, lets the revoked host in."""
    tesla, before = Tesla(tmp_path, mesh), mesh.copy()
    thief = mesh.add("thief")
    withholding = mesh.copy()
    mesh.revoke("thief", "stolen")
    assert peers_of(tesla.run_once(mesh)) == keys_of(mesh, "newton", "bohr")
    tesla.put_cache_back(before)
    rig = tesla.start(store := store_of(before))

    async def scenario() -> None:
        async with running(rig):
            assert (await rig.apply()).outcome == "unchanged"
            withholding.publish(store)
            assert (await rig.apply()).outcome == "held"
            assert str(thief.wireguard.public()) not in peers_of(rig)
            assert "older" in ((await rig.plan()).held_because or "")
            mesh.publish(store)
            assert (await rig.apply()).outcome == "unchanged"
            assert "plan_held" not in await rig.codes()

    asyncio.run(scenario())


def test_an_operators_word_accepts_an_older_registry_for_good(tmp_path: Path, mesh: SignedMesh) -> None:
    tesla, before = Tesla(tmp_path, mesh), mesh.copy()
    mesh.add("curie")
    tesla.run_once(mesh)
    tesla.put_cache_back(before)
    rig = tesla.start()

    async def scenario() -> None:
        async with running(rig):
            assert (await rig.apply()).outcome == "held"
            assert (await rig.apply(force=True)).outcome == "applied"
            assert peers_of(rig) == keys_of(mesh, "newton", "bohr")
            assert (await rig.apply()).outcome == "unchanged"

    asyncio.run(scenario())
    assert rig.state.read_applied().generation == before.ledger.generation


def test_an_old_revoke_takes_no_host_away_that_has_the_address_since(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    """The revoke was carried out before; only the registry of that time calls the peer of today revoked."""
    tesla = Tesla(tmp_path, mesh)
    mesh.revoke("bohr", "sold")
    tesla.run_once(mesh)
    before = mesh.copy()
    mesh.add("curie", addresses=addresses_of(before, "bohr")[:1])
    assert peers_of(tesla.run_once(mesh)) == keys_of(mesh, "newton", "curie")
    tesla.put_cache_back(before)
    rig = tesla.start()

    async def scenario() -> None:
        async with running(rig):
            assert (await rig.apply()).outcome == "held"
            assert peers_of(rig) == keys_of(mesh, "newton", "curie")

    asyncio.run(scenario())


def test_a_revoke_that_an_older_registry_learns_is_carried_out_at_once(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    tesla, before = Tesla(tmp_path, mesh), mesh.copy()
    for name in ("curie", "hertz"):
        mesh.add(name)
    tesla.run_once(mesh)
    tesla.put_cache_back(before)
    rig = tesla.start(store := MemoryStore())

    async def scenario() -> None:
        async with running(rig):
            assert (await rig.apply()).outcome == "held"
            before.revoke("bohr", "stolen")
            before.publish(store)
            assert (await rig.apply()).outcome == "held"
            assert peers_of(rig) == keys_of(mesh, "newton", "curie", "hertz")

    asyncio.run(scenario())
