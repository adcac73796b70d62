"""A client is a peer of every host and nothing else: nobody probes it, waits for it or misses it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from daemon_rig import Rig, build_rig, running
from meshes import NOW, SignedHost, SignedMesh

from meshd.backend.memory import MemoryBackend
from meshd.mesh.view import build_view
from meshd.model.device import PeerStats
from meshd.model.network import Endpoint
from meshd.services.view import Measured, build_service_view
from meshd.store.memory import MemoryStore


@pytest.fixture
def mesh() -> SignedMesh:
    """phone is as ``wgctl add-client`` makes it: its enrollment record, and no other ever."""
    mesh = SignedMesh.create()
    for name in ("tesla", "newton"):
        mesh.add(name)
    mesh.add("phone", is_client=True)
    return mesh


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def rig(tmp_path: Path, mesh: SignedMesh, backend: MemoryBackend) -> Rig:
    store = MemoryStore()
    mesh.publish(store)
    return build_rig(tmp_path, mesh, mesh.hosts["tesla"], backend=backend, stores=(store,))


def is_peer(backend: MemoryBackend, host: SignedHost) -> bool:
    device = backend.observe("wg0").device
    return device is not None and host.wireguard.public() in device.peers


def test_a_client_is_a_peer_with_its_addresses_alone_and_is_not_probed(
    rig: Rig, mesh: SignedMesh, backend: MemoryBackend
) -> None:
    async def scenario() -> None:
        async with running(rig):
            await rig.turn()
            phone = rig.world.membership.hosts[mesh.hosts["phone"].hid]
            device = backend.observe("wg0").device
            assert device is not None
            config = device.peers[mesh.hosts["phone"].wireguard.public()].config
            assert {network.network_address for network in config.allowed_ips} == set(phone.addresses)
            assert config.endpoint is None
            assert {target.hid for target in rig.prober.targets} == {mesh.hosts["newton"].hid}
            status = await rig.status()
            assert [peer.name for peer in status.peers] == ["newton"] and status.registry.hosts == 2
            assert [client.name for client in status.clients] == ["phone"] and status.clients[0].configured

    asyncio.run(scenario())


def test_where_a_client_called_from_stays(rig: Rig, mesh: SignedMesh, backend: MemoryBackend) -> None:
    """It roams, and no record says where it is."""
    cafe = Endpoint.parse("198.51.100.7:1024")

    async def scenario() -> None:
        async with running(rig):
            backend.peer_roams("wg0", mesh.hosts["phone"].wireguard.public(), cafe)
            assert (await rig.apply()).outcome == "unchanged"
            assert (await rig.status()).clients[0].endpoint == str(cafe)

    asyncio.run(scenario())


def test_a_revoked_client_goes_like_a_host(rig: Rig, mesh: SignedMesh, backend: MemoryBackend) -> None:
    async def scenario() -> None:
        async with running(rig):
            assert is_peer(backend, mesh.hosts["phone"])

    asyncio.run(scenario())
    mesh.revoke("phone", "stolen")
    store = MemoryStore()
    mesh.publish(store)
    after = build_rig(rig.state.directory.parent, mesh, mesh.hosts["tesla"], backend=backend, stores=(store,))

    async def later() -> None:
        async with running(after):
            await after.news_and_turn()
            assert not is_peer(backend, mesh.hosts["phone"])
            assert is_peer(backend, mesh.hosts["newton"])

    asyncio.run(later())


@pytest.mark.parametrize("seen_at", [NOW, 0.0])
def test_a_client_keeps_no_key_from_rotating(tmp_path: Path, backend: MemoryBackend, seen_at: float) -> None:
    """Whether it talks all the time or sleeps: it does not follow, and has to be given another file."""
    mesh = SignedMesh.create()
    for name in ("tesla", "phone"):
        mesh.add(name, is_client=name == "phone")
    tesla, phone = mesh.hosts["tesla"], mesh.hosts["phone"]
    elapsed = [0.0]
    mesh.objects.update([mesh.signer.rotate([tesla.hid], int(NOW) - 10, now=NOW - 10)])
    rig = build_rig(tmp_path, mesh, tesla, backend=backend, monotonic=lambda: elapsed[0])

    async def scenario() -> None:
        async with running(rig):
            for _ in range(40):
                device = backend.observe("wg0").device
                assert device is not None
                if device.public_key != tesla.wireguard.public():
                    break
                backend.peer_counts("wg0", phone.wireguard.public(), PeerStats(latest_handshake_at=seen_at))
                elapsed[0] += 5
                await rig.turn()
            else:
                pytest.fail("the key of tesla stayed")
            assert phone.wireguard.public() in device.peers
            assert backend.observe("wg100").mtu_bytes is None

    asyncio.run(scenario())


def test_a_client_that_sleeps_opens_no_second_interface(
    rig: Rig, mesh: SignedMesh, backend: MemoryBackend
) -> None:
    """As a host would that has had no session for three minutes: it may have slept through a rotation."""
    view = build_view(mesh.ledger.membership(NOW), mesh.hosts["tesla"].hid)
    assert mesh.hosts["phone"].hid in view.membership.hosts
    assert {host.name for host in view.peers} == {"newton"}


def test_the_exchange_calls_no_client_and_lets_it_ask(
    tmp_path: Path, mesh: SignedMesh, backend: MemoryBackend
) -> None:
    """Nobody there would answer; but wgctl on an administrator's laptop asks and hands over, as nobody."""
    rig = build_rig(
        tmp_path, mesh, mesh.hosts["tesla"], backend=backend, mesh_addresses_of=lambda host: host.addresses
    )

    async def scenario() -> None:
        async with running(rig):
            await rig.turn()
            assert rig.exchange is not None
            hosts = rig.world.membership.hosts
            partners = rig.exchange._partners
            at = {name: str(hosts[mesh.hosts[name].hid].addresses[0]) for name in ("newton", "phone")}
            assert all(partners.member_at(address) is not None for address in at.values())
            assert partners.member_at("10.99.77.7") is None
            assert set(partners.others) == {mesh.hosts["newton"].hid}

    asyncio.run(scenario())


def test_no_service_lives_on_a_client_and_no_module_is_told_of_it(mesh: SignedMesh) -> None:
    view = build_service_view(
        build_view(mesh.ledger.membership(NOW), mesh.hosts["tesla"].hid), Measured(now=NOW, verified_at=NOW)
    )
    assert view is not None and set(view.hosts) == {"tesla", "newton"}
