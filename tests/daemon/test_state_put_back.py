"""A disk that holds another key than the living interface: put back from a backup, or enrolled anew."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest
from daemon_rig import Rig, build_rig, running
from meshes import NOW, SignedHost, SignedMesh

from meshd.backend.memory import MemoryBackend
from meshd.errors import BackendError
from meshd.model.device import PeerStats
from meshd.model.keys import PrivateKey, PublicKey
from meshd.registry.layout import host_key, mesh_prefix
from meshd.registry.record import parse_record
from meshd.store.memory import MemoryStore

NEWER = PrivateKey(bytes([8]) * 32)


@pytest.fixture
def mesh() -> SignedMesh:
    mesh = SignedMesh.create()
    for name in ("tesla", "newton", "bohr"):
        mesh.add(name)
    return mesh


@pytest.mark.slow
@pytest.mark.parametrize("knows", [True, False])
def test_the_key_of_the_interface_is_taken_when_the_newest_own_record_names_it(
    tmp_path: Path, mesh: SignedMesh, knows: bool
) -> None:
    """``knows``: the record is in the cache that was put back; else it comes from a store, a turn later."""
    backend, store, host = MemoryBackend(), MemoryStore(), mesh.hosts["tesla"]
    mesh.publish(store)
    state, before = tmp_path / "state", tmp_path / "before"

    def rig() -> Rig:
        return build_rig(tmp_path, mesh, host, backend=backend, stores=(store,))

    async def once(each: Rig) -> None:
        async with running(each):
            await each.news_and_turn()

    asyncio.run(once(rig()))
    shutil.copytree(state, before)
    (state / "wireguard.key").write_text(NEWER.reveal_text())
    os.utime(state / "wireguard.key", (NOW + 60, NOW + 60))
    backend.third_party_wireguard("wg0", NEWER)
    asyncio.run(once(rig()))
    if knows:
        shutil.copytree(state / "registry", before / "registry", dirs_exist_ok=True)
    shutil.rmtree(state)
    before.rename(state)
    for name in ("newton", "bohr"):
        key = mesh.hosts[name].wireguard.public()
        backend.peer_counts("wg0", key, PeerStats(latest_handshake_at=NOW))
    again = rig()

    async def scenario() -> None:
        async with running(again):
            await again.news_and_turn()
            await again.turn()
            device = again.kernel().device
            assert device is not None and device.public_key == NEWER.public()
            own = again.world.view.own
            assert own is not None and own.record is not None and own.record.public_key == NEWER.public()
            assert "plan_held" not in await again.codes()

    asyncio.run(scenario())
    assert (state / "wireguard.key").read_text().strip() == NEWER.reveal_text()
    assert sum(call.startswith("set_private_key") for call in backend.calls) == 1  # at the first start


class OtherKey:
    """Tesla ran and published its key; then its key file was removed, and ``meshd enroll`` made another."""

    def __init__(self, directory: Path, mesh: SignedMesh) -> None:
        self.directory, self.mesh = directory, mesh
        self.host: SignedHost = mesh.hosts["tesla"]
        self.backend, self.store = MemoryBackend(), MemoryStore()
        self.file = directory / "state" / "wireguard.key"
        mesh.publish(self.store)
        asyncio.run(self.run_once())
        self.file.unlink()
        self.file.write_text(NEWER.reveal_text())
        self.file.chmod(0o600)
        os.utime(self.file, (NOW + 60, NOW + 60))

    def rig(self) -> Rig:
        return build_rig(self.directory, self.mesh, self.host, backend=self.backend, stores=(self.store,))

    async def run_once(self) -> None:
        rig = self.rig()
        async with running(rig):
            await rig.news_and_turn()

    def live_sessions(self) -> None:
        for name in ("newton", "bohr"):
            key = self.mesh.hosts[name].wireguard.public()
            self.backend.peer_counts("wg0", key, PeerStats(latest_handshake_at=NOW))

    def published_key(self) -> PublicKey:
        mesh_id = self.mesh.ledger.mesh_id
        stored = self.store.get(mesh_prefix(mesh_id) + host_key(self.host.hid))
        assert stored is not None
        return parse_record(stored.body, mesh_id)[0].keys.public_key


@pytest.mark.slow
@pytest.mark.parametrize("marked", [True, False])
def test_a_key_that_was_lost_and_made_anew_gives_way_to_the_one_that_the_interface_has(
    tmp_path: Path, mesh: SignedMesh, marked: bool
) -> None:
    """``marked``: meshd made the interface; else it came from wg-quick, and only the key says whose it is."""
    world = OtherKey(tmp_path, mesh)
    world.live_sessions()
    if not marked:
        world.backend.third_party_unmarks("wg0")
    rig = world.rig()

    async def scenario() -> None:
        async with running(rig):
            await rig.news_and_turn()
            device = rig.kernel().device
            assert device is not None and device.public_key == world.host.wireguard.public()
            assert not {"plan_held", "interface_taken"} & await rig.codes()

    asyncio.run(scenario())
    assert world.published_key() == world.host.wireguard.public()
    assert world.file.read_text().strip() == world.host.wireguard.reveal_text()
    assert sum(call.startswith("set_private_key") for call in world.backend.calls) == 1  # at the first start


@pytest.mark.slow
def test_no_key_is_published_that_the_kernel_does_not_have(
    tmp_path: Path, mesh: SignedMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interface does not give its key away, so the plan is held: nobody may be told of another one."""
    world = OtherKey(tmp_path, mesh)
    world.live_sessions()

    def refuse(interface: str) -> PrivateKey:
        raise BackendError(f"{interface}: its key cannot be read")

    def say_nothing(interface: str) -> None:
        return None

    monkeypatch.setattr(world.backend, "read_private_key", refuse)
    rig = world.rig()

    async def scenario() -> None:
        async with running(rig):
            await rig.news_and_turn()
            assert "apply_failed" in await rig.codes()
            monkeypatch.setattr(world.backend, "read_private_key", say_nothing)
            await rig.news_and_turn()
            await rig.news_and_turn()
            assert "plan_held" in await rig.codes()
            assert world.published_key() == world.host.wireguard.public()
            await rig.apply(force=True)
            await rig.news_and_turn()
            assert world.published_key() == NEWER.public()

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_key_that_was_replaced_while_the_interface_was_gone_is_the_one_that_counts(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    world = OtherKey(tmp_path, mesh)
    world.backend.destroy_interface("wg0")
    asyncio.run(world.run_once())
    assert world.published_key() == NEWER.public()
    assert world.file.read_text().strip() == NEWER.reveal_text()
