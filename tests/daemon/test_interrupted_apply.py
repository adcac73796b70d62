"""An apply that a dead machine or a refusing kernel cut short is finished by the next turn, not held."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from daemon_rig import build_rig, running
from meshes import NOW, SignedMesh

from meshd.backend.memory import Failure
from meshd.model.keys import PrivateKey
from meshd.store.memory import MemoryStore

HOSTS = 6


@pytest.mark.slow
@pytest.mark.parametrize("after_items", [HOSTS, HOSTS + 1])
def test_many_keys_replaced_at_once_and_cut_short_are_not_taken_for_a_lost_registry(
    tmp_path: Path, after_items: int
) -> None:
    mesh, store = SignedMesh.create(), MemoryStore()
    own = mesh.add("tesla")
    others = [mesh.add(f"host{number}") for number in range(HOSTS)]
    mesh.publish(store)
    rig = build_rig(tmp_path, mesh, own, stores=(store,))

    async def scenario() -> None:
        async with running(rig):
            fresh = {host.hid: PrivateKey.generate() for host in others}
            for host in others:
                body = host.body(version=int(NOW * 1000), wireguard=str(fresh[host.hid].public()))
                mesh.offer(host.key, body)
            mesh.publish(store)
            first = len(rig.backend.calls) + 1
            rig.backend.failures[first] = Failure(call=first, after_items=after_items)
            for call in range(first + 1, first + 100):  # whatever is tried after it
                rig.backend.failures[call] = Failure(call=call)
            assert (await rig.apply()).outcome in ("failed", "partial")
            rig.backend.failures.clear()
            assert (await rig.apply()).outcome in ("applied", "unchanged")
            device = rig.kernel().device
            assert device is not None
            assert set(device.peers) == {key.public() for key in fresh.values()}
            assert "plan_held" not in await rig.codes()

    asyncio.run(scenario())
