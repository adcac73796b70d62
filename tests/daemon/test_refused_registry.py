"""The daemon and a registry that is forged, emptied or greedy: what does not verify changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from daemon_rig import build_rig, running
from meshes import NOW, SignedMesh, full_store

from meshd.backend.memory import MemoryBackend
from meshd.model.device import ObservedState, PeerUpdate
from meshd.model.keys import PrivateKey
from meshd.store.memory import MemoryStore


def peers_of(observed: ObservedState) -> set[str]:
    assert observed.device is not None
    return {str(key) for key in observed.device.peers}


def keys_of(mesh: SignedMesh, *names: str) -> set[str]:
    return {str(mesh.hosts[name].wireguard.public()) for name in names}


Attack = Callable[[SignedMesh, MemoryStore], None]


def changed_byte(mesh: SignedMesh, store: MemoryStore) -> None:
    host = mesh.hosts["newton"]
    body = bytearray(host.body(version=int(NOW * 1000)))
    body[len(body) // 2] ^= 1
    plant(mesh, store, host.key, bytes(body))


def signed_by_another_host(mesh: SignedMesh, store: MemoryStore) -> None:
    host = replace(mesh.hosts["newton"], identity=mesh.hosts["bohr"].identity)
    plant(mesh, store, mesh.hosts["newton"].key, host.body(version=int(NOW * 1000)))


def older_root(mesh: SignedMesh, store: MemoryStore) -> None:
    other = SignedMesh.create()
    for key, body in other.mesh.objects:
        plant(mesh, store, key, body)


def forged_grant(mesh: SignedMesh, store: MemoryStore) -> None:
    other = SignedMesh.create()
    intruder = other.add("intruder")
    key = next(key for key in other.objects if key.startswith("log/"))
    admin = mesh.mesh.admin_key.kid
    digest = key.rpartition("-")[2]
    plant(mesh, store, f"log/{admin}/{len(mesh.hosts) + 1:010d}-{digest}", other.objects[key])
    plant(mesh, store, intruder.key, other.objects[intruder.key])


def plant(mesh: SignedMesh, store: MemoryStore, key: str, body: bytes) -> None:
    store.put(f"v1/{mesh.ledger.mesh_id}/{key}", body)


def test_a_root_of_the_trusted_version_that_no_key_of_ours_is_said_to_have_signed_is_nothing(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    """Anybody who may write to the store can make as many as he likes."""
    store = full_store(mesh)
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(store,))

    async def scenario() -> None:
        async with running(rig):
            before = rig.kernel()
            older_root(mesh, store)
            assert (await rig.apply()).outcome == "unchanged"
            assert rig.kernel() == before
            assert await rig.codes() == set()

    asyncio.run(scenario())


@pytest.mark.parametrize("attack", [changed_byte, signed_by_another_host, forged_grant])
def test_what_does_not_verify_is_refused_and_said_and_the_mesh_stays(
    tmp_path: Path, mesh: SignedMesh, attack: Attack
) -> None:
    store = full_store(mesh)
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(store,))

    async def scenario() -> None:
        async with running(rig):
            before = rig.kernel()
            attack(mesh, store)
            assert (await rig.apply()).outcome == "unchanged"
            assert rig.kernel() == before
            assert await rig.codes() == {"registry_object_refused"}

    asyncio.run(scenario())


def test_a_network_that_was_not_granted_is_not_routed_and_is_said(tmp_path: Path, mesh: SignedMesh) -> None:
    store = full_store(mesh)
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(store,))

    async def scenario() -> None:
        async with running(rig):
            before = rig.kernel()
            greedy = mesh.hosts["newton"].body(
                version=int(NOW * 1000), networks=("10.17.2.0/24", "10.17.99.0/24")
            )
            plant(mesh, store, mesh.hosts["newton"].key, greedy)
            assert (await rig.apply()).outcome == "unchanged"
            assert rig.kernel() == before
            assert await rig.codes() == {"network_not_granted"}

    asyncio.run(scenario())


def test_our_own_record_is_put_back_when_somebody_takes_it_away(tmp_path: Path, mesh: SignedMesh) -> None:
    store = full_store(mesh)
    host = mesh.hosts["tesla"]
    rig = build_rig(tmp_path, mesh, host, stores=(store,))

    async def scenario() -> None:
        async with running(rig):
            key = f"v1/{mesh.ledger.mesh_id}/{host.key}"
            published = store.get(key)
            assert published is not None
            store.delete(key)
            await rig.apply()
            restored = store.get(key)
            assert restored is not None and restored.body == published.body

    asyncio.run(scenario())


def test_a_registry_that_lost_everybody_is_held_until_forced(tmp_path: Path, mesh: SignedMesh) -> None:
    backend = MemoryBackend()
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], backend=backend)

    async def first() -> None:
        async with running(rig):
            assert peers_of(rig.kernel()) == keys_of(mesh, "newton", "bohr")

    asyncio.run(first())
    alone = SignedMesh.create()
    alone_host = alone.add("tesla")
    alone.hosts["tesla"] = replace(alone_host, wireguard=mesh.hosts["tesla"].wireguard)
    alone.offer(
        alone_host.key,
        alone.hosts["tesla"].body(
            version=int(NOW * 1000), wireguard=str(mesh.hosts["tesla"].wireguard.public())
        ),
    )
    other = build_rig(tmp_path / "lost", alone, alone.hosts["tesla"], backend=backend)

    async def second() -> None:
        async with running(other):
            assert peers_of(other.kernel()) == keys_of(mesh, "newton", "bohr")
            held = await other.ask("plan")
            assert held.exit_code == 4
            assert "without a signed revoke" in ((await other.plan()).held_because or "")
            assert "plan_held" in await other.codes()
            assert (await other.ask("apply")).exit_code == 4
            assert (await other.apply(force=True)).outcome == "applied"
            assert peers_of(other.kernel()) == set()
            assert "plan_held" not in await other.codes()

    asyncio.run(second())


def test_a_signed_revoke_is_carried_out_while_the_plan_is_held(tmp_path: Path, mesh: SignedMesh) -> None:
    """What takes trust away waits for nothing: here peers that somebody added hold everything else."""
    store = MemoryStore()
    mesh.publish(store)
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(store,))

    async def scenario() -> None:
        async with running(rig):
            strangers = [
                PeerUpdate(
                    public_key=PrivateKey.generate().public(),
                    add_allowed_ips=frozenset({ip_network(f"192.0.2.{number}/32")}),
                )
                for number in range(5)
            ]
            rig.backend.set_peers("wg0", strangers)
            mesh.add("curie")
            mesh.revoke("bohr", "stolen")
            mesh.publish(store)
            assert (await rig.apply()).outcome == "held"
            added = {str(update.public_key) for update in strangers}
            assert peers_of(rig.kernel()) == keys_of(mesh, "newton") | added
            assert "plan_held" in await rig.codes()
            assert "without a signed revoke" in ((await rig.plan()).held_because or "")
            assert (await rig.apply(force=True)).outcome == "applied"
            assert peers_of(rig.kernel()) == keys_of(mesh, "newton", "curie")

    asyncio.run(scenario())
