"""A note that a power cut left without bytes keeps no host out of its mesh, and nobody is lost by it."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from pathlib import Path

import pytest
from daemon_rig import Rig, build_rig, running
from meshes import SignedMesh

from meshd.backend.memory import MemoryBackend
from meshd.model.device import PeerUpdate
from meshd.model.keys import PrivateKey
from meshd.store.memory import MemoryStore

NOTES = ("applied.json", "change.json", "rotation.json")
DAMAGES = (b"", b"\0" * 40, b"{", b'{"generation": "x"}')
STRANGER = PeerUpdate(
    public_key=PrivateKey(bytes([5]) * 32).public(), add_allowed_ips=frozenset({ip_network("192.0.2.7/32")})
)


@pytest.fixture
def mesh() -> SignedMesh:
    mesh = SignedMesh.create()
    for name in ("tesla", "newton", "bohr"):
        mesh.add(name)
    return mesh


def rig_of(tmp_path: Path, mesh: SignedMesh, backend: MemoryBackend) -> Rig:
    store = MemoryStore()
    mesh.publish(store)
    return build_rig(tmp_path, mesh, mesh.hosts["tesla"], backend=backend, stores=(store,))


def run_once(rig: Rig) -> None:
    async def once() -> None:
        async with running(rig):
            await rig.apply()

    asyncio.run(once())


def peers_of(rig: Rig) -> set[str]:
    device = rig.kernel().device
    return {str(key) for key in device.peers} if device else set()


def keys_of(mesh: SignedMesh, *names: str) -> set[str]:
    return {str(mesh.hosts[name].wireguard.public()) for name in names}


@pytest.mark.parametrize("note", NOTES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_host_boots_into_its_mesh_and_the_note_is_written_anew(
    tmp_path: Path, mesh: SignedMesh, note: str, damage: bytes
) -> None:
    run_once(rig_of(tmp_path, mesh, MemoryBackend()))
    (tmp_path / "state" / note).write_bytes(damage)
    rig = rig_of(tmp_path, mesh, MemoryBackend())

    async def scenario() -> None:
        async with running(rig):
            assert peers_of(rig) == keys_of(mesh, "newton", "bohr")
            await rig.apply()
            assert "note_damaged" not in await rig.codes()

    asyncio.run(scenario())
    path = tmp_path / "state" / note
    assert not path.exists() or path.read_bytes() != damage
    again = rig_of(tmp_path, mesh, MemoryBackend())
    run_once(again)


@pytest.mark.parametrize("note", ["applied.json", "change.json"])
def test_nobody_goes_without_a_signature_while_the_past_is_unknown(
    tmp_path: Path, mesh: SignedMesh, note: str
) -> None:
    """One peer in five may go otherwise; here it waits for an operator, and a revoke does not."""
    backend = MemoryBackend()
    run_once(rig_of(tmp_path, mesh, backend))
    backend.set_peers("wg0", [STRANGER])
    (tmp_path / "state" / note).write_bytes(b"")
    mesh.revoke("bohr", "stolen")
    rig = rig_of(tmp_path, mesh, backend)

    async def scenario() -> None:
        async with running(rig):
            assert peers_of(rig) == keys_of(mesh, "newton") | {str(STRANGER.public_key)}
            codes = await rig.codes()
            assert {"note_damaged", "plan_held"} <= codes
            [said] = [one for one in rig.conditions() if one.code == "note_damaged"]
            assert said.subject == note and said.severity == "critical"
            assert (await rig.apply(force=True)).outcome == "applied"
            assert peers_of(rig) == keys_of(mesh, "newton")
            await rig.apply()
            assert not {"note_damaged", "plan_held"} & await rig.codes()

    asyncio.run(scenario())
