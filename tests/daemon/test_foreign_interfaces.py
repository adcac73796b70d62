"""What is this host's, and what is somebody else's: proved by keys and marks, never by a name."""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address, ip_interface, ip_network
from pathlib import Path

import pytest
from daemon_rig import Rig, build_rig, running, settings_for
from meshes import SignedMesh

from meshd.backend.memory import MemoryBackend
from meshd.model.device import ObservedState, PeerUpdate
from meshd.model.keys import PrivateKey
from meshd.store.memory import MemoryStore

THEIRS = PrivateKey(bytes([7]) * 32)
ROAD_WARRIOR = PeerUpdate(
    public_key=PrivateKey(bytes([6]) * 32).public(), add_allowed_ips=frozenset({ip_network("10.8.0.2/32")})
)


@pytest.fixture
def mesh() -> SignedMesh:
    mesh = SignedMesh.create()
    for name in ("tesla", "newton", "bohr"):
        mesh.add(name)
    return mesh


def rig_of(directory: Path, mesh: SignedMesh, backend: MemoryBackend, **wireguard: str) -> Rig:
    store = MemoryStore()
    mesh.publish(store)
    settings = settings_for(directory, wireguard=wireguard) if wireguard else None
    return build_rig(
        directory, mesh, mesh.hosts["tesla"], backend=backend, stores=(store,), settings=settings
    )


def peers_of(seen: ObservedState) -> set[str]:
    return {str(key) for key in seen.device.peers} if seen.device else set()


def keys_of(mesh: SignedMesh, *names: str) -> set[str]:
    return {str(mesh.hosts[name].wireguard.public()) for name in names}


@pytest.mark.parametrize("clients", [0, 1])
def test_a_tunnel_of_somebody_else_with_our_name_is_left_alone_and_said(
    tmp_path: Path, mesh: SignedMesh, clients: int
) -> None:
    """``wg-quick`` has it, with a road warrior or before the first one."""
    backend = MemoryBackend()
    backend.third_party_wireguard("wg0", THEIRS, [ROAD_WARRIOR] * clients)
    backend._interfaces["wg0"].addresses = {ip_interface("10.8.0.1/24")}
    before = backend.observe("wg0")
    rig = rig_of(tmp_path, mesh, backend)

    async def scenario() -> None:
        async with running(rig):
            for force in (False, True):
                document = await rig.apply(force=force)
                assert document.outcome == "held" and document.done == 0
                assert backend.observe("wg0") == before and not backend.calls
            plan = await rig.plan()
            assert plan.objections and not plan.changes
            [said] = [one for one in rig.conditions() if one.severity == "critical"]
            assert said.code == "interface_taken"
            assert "wireguard.interface" in said.text and "force" not in said.text
            assert "10.8.0.2" not in str(await rig.status())

    asyncio.run(scenario())


def test_a_link_of_that_name_that_is_no_wireguard_is_somebody_elses(tmp_path: Path, mesh: SignedMesh) -> None:
    backend = MemoryBackend()
    backend.third_party_interface("wg0")
    rig = rig_of(tmp_path, mesh, backend)

    async def scenario() -> None:
        async with running(rig):
            assert "interface_taken" in await rig.codes()
            assert not backend.calls

    asyncio.run(scenario())


def test_it_goes_on_by_itself_when_the_other_tunnel_has_gone(tmp_path: Path, mesh: SignedMesh) -> None:
    backend = MemoryBackend()
    backend.third_party_wireguard("wg0", THEIRS, [ROAD_WARRIOR])
    rig = rig_of(tmp_path, mesh, backend)

    async def scenario() -> None:
        async with running(rig):
            backend.third_party_destroys("wg0")
            assert (await rig.apply()).outcome == "applied"
            assert peers_of(rig.kernel()) == keys_of(mesh, "newton", "bohr")
            assert "interface_taken" not in await rig.codes()

    asyncio.run(scenario())


def test_an_interface_with_our_key_that_somebody_else_made_is_taken_over_and_marked(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    """``wireguard.boot_file``: wg-quick brings the mesh up before meshd starts."""
    backend = MemoryBackend()
    backend.third_party_wireguard("wg0", mesh.hosts["tesla"].wireguard)
    rig = rig_of(tmp_path, mesh, backend)

    async def scenario() -> None:
        async with running(rig):
            assert peers_of(rig.kernel()) == keys_of(mesh, "newton", "bohr")
            assert rig.kernel().marked
            assert not any(call.startswith("set_private_key") for call in backend.calls)

    asyncio.run(scenario())


def test_a_key_that_somebody_typed_over_ours_is_put_right_without_a_question(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    """``wg set wg0 private-key``: no record names it, so every session with it is dead."""
    backend = MemoryBackend()
    rig = rig_of(tmp_path, mesh, backend)

    async def scenario() -> None:
        async with running(rig):
            backend.third_party_wireguard("wg0", THEIRS)
            assert (await rig.apply()).outcome == "applied"
            device = rig.kernel().device
            assert device is not None
            assert device.public_key == mesh.hosts["tesla"].wireguard.public()
            assert peers_of(rig.kernel()) == keys_of(mesh, "newton", "bohr")

    asyncio.run(scenario())


@pytest.mark.parametrize("revoked", ["", "bohr"])
def test_another_name_in_the_settings_takes_the_old_interface_away(
    tmp_path: Path, mesh: SignedMesh, revoked: str
) -> None:
    backend = MemoryBackend()
    before = rig_of(tmp_path, mesh, backend)

    async def first() -> None:
        async with running(before):
            assert peers_of(backend.observe("wg0")) == keys_of(mesh, "newton", "bohr")

    asyncio.run(first())
    if revoked:
        mesh.revoke(revoked, "stolen")
    after = rig_of(tmp_path, mesh, backend, interface="mesh0")

    async def second() -> None:
        async with running(after):
            assert backend.observe("wg0").device is None
            wanted = keys_of(mesh, *({"newton", "bohr"} - {revoked}))
            seen = backend.observe("mesh0")
            assert peers_of(seen) == wanted and seen.up and seen.routes
            assert not await after.codes()

    asyncio.run(second())


@pytest.mark.parametrize("when", ["it runs", "it is stopped"])
def test_an_interface_that_the_system_renamed_is_made_anew_under_its_name(
    tmp_path: Path, mesh: SignedMesh, when: str
) -> None:
    backend = MemoryBackend()
    rig = rig_of(tmp_path, mesh, backend)

    async def scenario() -> None:
        nonlocal rig
        if when == "it is stopped":
            async with running(rig):
                pass
            backend.third_party_renames("wg0", "enp3s0")
            rig = rig_of(tmp_path, mesh, backend)
        async with running(rig):
            if when == "it runs":
                backend.third_party_renames("wg0", "enp3s0")
                assert (await rig.apply()).outcome == "applied"
            assert backend.observe("enp3s0").device is None
            assert peers_of(rig.kernel()) == keys_of(mesh, "newton", "bohr")
            assert rig.kernel().up and rig.kernel().routes

    asyncio.run(scenario())


def test_a_host_whose_ipv6_is_off_from_the_first_start_has_the_mesh_over_ipv4(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    backend = MemoryBackend()
    backend.third_party_switches_ipv6_off("net.ipv6.conf.default.disable_ipv6=1")
    rig = rig_of(tmp_path, mesh, backend)

    async def scenario() -> None:
        async with running(rig):
            await rig.turn()
            seen = rig.kernel()
            assert seen.up and peers_of(seen) == keys_of(mesh, "newton", "bohr")
            assert {route.destination.version for route in seen.routes} == {4}
            [said] = [one for one in rig.conditions() if one.code == "address_family_off"]
            assert "net.ipv6.conf.default.disable_ipv6=1" in said.text
            assert not await rig.codes() & {"apply_failed", "route_conflict"}

    asyncio.run(scenario())


def test_a_host_whose_ipv6_goes_off_keeps_the_mesh_over_ipv4_and_carries_out_revokes(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    backend, store = MemoryBackend(), MemoryStore()
    mesh.publish(store)
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], backend=backend, stores=(store,))

    async def scenario() -> None:
        async with running(rig):
            await rig.apply()  # the look at the store that each start begins with is over
            backend.third_party_switches_ipv6_off("net.ipv6.conf.wg0.disable_ipv6=1")
            mesh.add("curie")
            mesh.revoke("bohr", "stolen")
            mesh.publish(store)
            assert (await rig.apply()).outcome == "applied"
            seen = rig.kernel()
            assert peers_of(seen) == keys_of(mesh, "newton", "curie")
            assert {route.destination.version for route in seen.routes} == {4}
            await rig.turn()
            assert {target.address.version for target in rig.prober.targets} == {4}
            assert (await rig.apply()).outcome == "unchanged"
            [said] = [one for one in rig.conditions() if one.code == "address_family_off"]
            assert "net.ipv6.conf.wg0.disable_ipv6=1" in said.text
            backend.ipv6_off = ""
            assert (await rig.apply()).outcome == "applied"
            assert {route.destination.version for route in rig.kernel().routes} == {4, 6}
            await rig.turn()
            assert {target.address.version for target in rig.prober.targets} == {6}
            assert "address_family_off" not in await rig.codes()

    asyncio.run(scenario())


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("rule", ["lookup", "prohibit"])
def test_a_rule_that_comes_before_the_route_to_a_host_is_said_and_closes(
    tmp_path: Path, mesh: SignedMesh, rule: str, version: int
) -> None:
    """Another VPN's table, or its switch that lets nothing out beside it."""
    rig = rig_of(tmp_path, mesh, MemoryBackend())
    taken = rig.underlay.diverted if rule == "lookup" else rig.underlay.prohibited
    if version == 6:
        rig.underlay.source = IPv6Address("2001:db8::1")

    async def scenario() -> None:
        async with running(rig):
            newton = next(host for host in rig.world.view.peers if host.name == "newton")
            address = next(each for each in newton.addresses if each.version == version)
            taken.add(address)
            await rig.turn()
            [said] = [one for one in rig.conditions() if one.code == "route_conflict"]
            assert said.subject == str(address)
            assert "newton" in said.text and "wg0" in said.text and "ip rule" in said.text
            assert (str(rig.underlay.source) in said.text) is (rule == "lookup")
            taken.clear()
            await rig.turn()
            assert "route_conflict" not in await rig.codes()

    asyncio.run(scenario())
