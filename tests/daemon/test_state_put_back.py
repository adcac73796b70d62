"""A state directory from before a key rotation comes back under a living interface."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest
from daemon_rig import Rig, build_rig, running
from meshes import NOW, SignedMesh

from meshd.backend.memory import MemoryBackend
from meshd.model.device import PeerStats
from meshd.model.keys import PrivateKey
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
