"""The daemon as its operator meets it: a mesh from the cache and the store, settings, and the socket."""

from __future__ import annotations

import asyncio
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest
from daemon_rig import Rig, build_rig, running, settings_for
from meshes import SignedMesh, full_store

from meshd.backend.memory import MemoryBackend
from meshd.errors import ConfigError, ControlError
from meshd.model.device import ObservedState
from meshd.registry.layout import mesh_prefix
from meshd.registry.record import parse_record
from meshd.store.memory import MemoryStore


def peers_of(observed: ObservedState) -> set[str]:
    assert observed.device is not None
    return {str(key) for key in observed.device.peers}


def keys_of(mesh: SignedMesh, *names: str) -> set[str]:
    return {str(mesh.hosts[name].wireguard.public()) for name in names}


def test_it_configures_the_mesh_from_its_cache_while_the_store_is_down(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    store = MemoryStore()
    store.faults.unreachable = True
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(store,))

    async def scenario() -> None:
        async with running(rig):
            assert peers_of(rig.kernel()) == keys_of(mesh, "newton", "bohr")
            assert await rig.codes() == {"store_down"}
            rig.clock.now += 10_000
            assert (await rig.apply()).outcome == "unchanged"
            assert await rig.codes() == {"store_down", "registry_stale"}
            assert peers_of(rig.kernel()) == keys_of(mesh, "newton", "bohr")

    asyncio.run(scenario())


def test_a_new_host_in_the_store_becomes_a_peer_and_a_revoked_one_goes(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    store = full_store(mesh)
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(store,))

    async def scenario() -> None:
        async with running(rig):
            await rig.apply()  # the look at the store that each start begins with is over
            mesh.add("curie", jails=("10.17.4.0/24",))
            mesh.publish(store)
            applied = await rig.apply()
            assert applied.outcome == "applied"
            assert peers_of(rig.kernel()) == keys_of(mesh, "newton", "bohr", "curie")
            assert ip_network("10.17.4.0/24") in {route.destination for route in rig.kernel().routes}
            mesh.revoke("newton", "sold")
            mesh.publish(store)
            removal = next(c for c in (await rig.apply()).plan.changes if c.kind == "RemovePeer")
            assert "revoked" in removal.reason and "sold" in removal.reason
            assert peers_of(rig.kernel()) == keys_of(mesh, "bohr", "curie")
            assert not await rig.codes()

    asyncio.run(scenario())


def test_an_interface_that_a_third_party_destroyed_is_made_again_and_peers_hear_from_us(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"])

    async def scenario() -> None:
        async with running(rig):
            nudges = rig.prober.rounds
            rig.backend.third_party_destroys("wg0")
            assert (await rig.apply()).outcome == "applied"
            assert peers_of(rig.kernel()) == keys_of(mesh, "newton", "bohr")
            assert rig.prober.rounds > nudges

    asyncio.run(scenario())


def test_a_restart_changes_nothing_in_the_kernel(tmp_path: Path, mesh: SignedMesh) -> None:
    backend = MemoryBackend()
    store = full_store(mesh)

    async def once(rig: Rig) -> str:
        async with running(rig):
            status = await rig.status()
            return status.last_plan.outcome if status.last_plan else "none"

    asyncio.run(once(build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(store,), backend=backend)))
    before = backend.observe("wg0")
    again = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(store,), backend=backend)
    assert asyncio.run(once(again)) == "unchanged"
    assert backend.observe("wg0") == before


def test_a_host_without_a_grant_changes_nothing_and_says_so(tmp_path: Path, mesh: SignedMesh) -> None:
    stranger = SignedMesh.create().add("stranger")
    rig = build_rig(tmp_path, mesh, stranger)

    async def scenario() -> None:
        async with running(rig):
            assert rig.kernel().device is None
            assert "not_granted" in await rig.codes()

    asyncio.run(scenario())


def test_bad_settings_on_reload_leave_the_old_ones_in_force(tmp_path: Path, mesh: SignedMesh) -> None:
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"])

    async def scenario() -> None:
        async with running(rig):
            rig.reload_with = ConfigError("meshd.toml: wireguard.mtu_bytes: 5 seen")
            refused = await rig.ask("reload")
            assert refused.exit_code == 2 and refused.error and "mtu_bytes" in refused.error
            assert "settings_refused" in await rig.codes()
            rig.reload_with = settings_for(tmp_path, wireguard={"mtu_bytes": 1380})
            assert (await rig.ask("reload")).exit_code == 0
            await rig.apply()
            assert rig.kernel().mtu_bytes == 1380
            assert "settings_refused" not in await rig.codes()
            rig.reload_with = settings_for(tmp_path, state_dir="/elsewhere")
            assert "restart" in str((await rig.ask("reload")).error)

    asyncio.run(scenario())


def test_an_endpoint_inside_the_mesh_is_reported_and_never_signed(tmp_path: Path, mesh: SignedMesh) -> None:
    store, tesla = full_store(mesh), mesh.hosts["tesla"]
    rig = build_rig(tmp_path, mesh, tesla, stores=(store,))
    place = mesh_prefix(mesh.ledger.mesh_id) + tesla.key

    async def scenario() -> None:
        async with running(rig):
            endpoints = ["10.99.0.200:51820", "198.18.7.7:51820"]
            rig.reload_with = settings_for(tmp_path, host={"endpoints": endpoints})
            await rig.ask("reload")
            await rig.apply()
            assert "endpoint_unusable" in await rig.codes()
            first = store.get(place)
            assert first is not None
            record = parse_record(first.body, mesh.ledger.mesh_id)[0].record
            assert record.endpoints == ("198.18.7.7:51820",)
            await rig.apply()
            assert store.get(place) == first

    asyncio.run(scenario())


def test_a_new_endpoint_in_the_settings_is_published_in_a_newer_record(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    store = full_store(mesh)
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(store,))

    async def scenario() -> None:
        async with running(rig):
            rig.reload_with = settings_for(tmp_path, host={"endpoints": ["198.18.7.7:51820"]})
            await rig.ask("reload")
            await rig.apply()

    asyncio.run(scenario())
    reader = build_rig(tmp_path / "bohr", mesh, mesh.hosts["bohr"], stores=(store,))

    async def seen() -> None:
        async with running(reader):
            device = reader.kernel().device
            assert device is not None
            peer = device.peers[mesh.hosts["tesla"].wireguard.public()]
            assert str(peer.config.endpoint) == "198.18.7.7:51820"

    asyncio.run(seen())


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{}\n",
        b"[1]\n",
        b'{"verb":"dance"}\n',
        b'{"verb":"status","x":1}\n',
        b"\xff\xfe\n",
        b'{"\x80":1}\n',
    ],
)
def test_a_request_that_makes_no_sense_is_answered_with_an_error(
    tmp_path: Path, mesh: SignedMesh, line: bytes
) -> None:
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"])

    async def scenario() -> None:
        async with running(rig):
            assert b"not understood" in await rig.raw(line)
            assert (await rig.ask("status")).error is None

    asyncio.run(scenario())


def test_a_second_daemon_on_the_same_socket_is_refused(tmp_path: Path, mesh: SignedMesh) -> None:
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"])
    second = build_rig(tmp_path, mesh, mesh.hosts["tesla"])

    async def scenario() -> None:
        async with running(rig):
            with pytest.raises(ControlError, match="another meshd"):
                await second.daemon.run()
            assert (await rig.ask("status")).error is None

    asyncio.run(scenario())


@pytest.mark.skipif(sys.platform != "linux", reason="on FreeBSD these jails need no forwarding")
def test_jails_behind_a_kernel_that_does_not_forward_are_said(tmp_path: Path, mesh: SignedMesh) -> None:
    settings = settings_for(tmp_path, jails={"networks": ["10.17.1.0/24"]})
    store = full_store(mesh)
    host = mesh.hosts["tesla"]
    rig = build_rig(tmp_path, mesh, host, stores=(store,), settings=settings, forwarding=False)

    async def scenario() -> None:
        async with running(rig):
            assert await rig.codes() == {"forwarding_off"}

    asyncio.run(scenario())


def test_the_status_holds_no_secret(tmp_path: Path, mesh: SignedMesh) -> None:
    host = mesh.hosts["tesla"]
    rig = build_rig(tmp_path, mesh, host)

    async def scenario() -> None:
        async with running(rig):
            for verb in ("status", "plan", "apply"):
                answer = await rig.raw(b'{"verb":"%s"}\n' % verb.encode())
                assert host.wireguard.reveal_text().encode() not in answer
                assert host.identity.seed().hex().encode() not in answer

    asyncio.run(scenario())


def test_a_system_without_raw_sockets_is_named_and_has_its_mesh(tmp_path: Path, mesh: SignedMesh) -> None:
    """As in a FreeBSD jail that nobody allowed them."""
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"])
    rig.prober.refusal = "raw ICMP sockets: Operation not permitted"

    async def scenario() -> None:
        async with running(rig):
            (found,) = [each for each in rig.conditions() if each.code == "probe_failed"]
            assert "Operation not permitted; paths are not measured" in found.text
            assert peers_of(rig.kernel()) == keys_of(mesh, "newton", "bohr")

    asyncio.run(scenario())
