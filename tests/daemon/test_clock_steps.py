"""The wall clock is set by years, either way: the mesh goes on as it was, and the operator is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from daemon_rig import Rig, build_rig, running
from meshes import NOW, SignedHost, SignedMesh

from meshd.backend.memory import MemoryBackend
from meshd.model.device import PeerStats
from meshd.model.network import Endpoint

YEARS = 3 * 365 * 86400.0
ROAMED = Endpoint.parse("203.0.113.9:4711")


async def turn(rig: Rig) -> None:
    """One turn that nobody asked for."""
    await rig.news_and_turn()


def endpoint(backend: MemoryBackend, host: SignedHost) -> str:
    device = backend.observe("wg0").device
    assert device is not None
    return str(device.peers[host.wireguard.public()].config.endpoint)


def shake_hands(rig: Rig, host: SignedHost, at: float) -> None:
    rig.backend.peer_counts("wg0", host.wireguard.public(), PeerStats(latest_handshake_at=at))


@pytest.mark.parametrize("years", [YEARS, -YEARS])
def test_a_peer_that_roamed_keeps_its_endpoint_when_the_clock_is_set(
    tmp_path: Path, mesh: SignedMesh, years: float
) -> None:
    newton, bohr = mesh.hosts["newton"], mesh.hosts["bohr"]
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], steady=lambda: NOW)

    async def scenario() -> None:
        async with running(rig):
            for host, age in ((newton, 60.0), (bohr, 3600.0)):
                rig.backend.peer_roams("wg0", host.wireguard.public(), ROAMED)
                shake_hands(rig, host, NOW - age)
            rig.clock.now += years
            await turn(rig)
            assert endpoint(rig.backend, newton) == str(ROAMED)
            assert endpoint(rig.backend, bohr) == "198.18.0.3:51820", "a dead session became a living one"
            assert "clock_stepped" in await rig.codes()
            shake_hands(rig, newton, rig.clock.now)  # the next handshake, by the clock as it is now
            await turn(rig)
            assert endpoint(rig.backend, newton) == str(ROAMED)
            rig.clock.now -= years
            await turn(rig)
            assert endpoint(rig.backend, newton) == str(ROAMED)
            assert "clock_stepped" not in await rig.codes()

    asyncio.run(scenario())


def test_a_handshake_from_before_a_step_grows_old_all_the_same(tmp_path: Path, mesh: SignedMesh) -> None:
    newton, steady = mesh.hosts["newton"], [NOW]
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], steady=lambda: steady[0])

    async def scenario() -> None:
        async with running(rig):
            rig.backend.peer_roams("wg0", newton.wireguard.public(), ROAMED)
            shake_hands(rig, newton, NOW)
            rig.clock.now -= YEARS
            await turn(rig)
            assert endpoint(rig.backend, newton) == str(ROAMED)
            rig.clock.now += 200
            steady[0] += 200
            asked = PeerStats(latest_handshake_at=NOW, transmit_bytes=148)  # a call without an answer
            rig.backend.peer_counts("wg0", newton.wireguard.public(), asked)
            await turn(rig)
            rig.clock.now += 10  # what it has is given one more handshake's time
            steady[0] += 10
            await turn(rig)
            assert endpoint(rig.backend, newton) == "198.18.0.2:51820"

    asyncio.run(scenario())


def test_grants_that_end_only_by_a_clock_set_forward_are_not_taken_for_ended(tmp_path: Path) -> None:
    mesh = SignedMesh.create()
    tesla = mesh.add("tesla")
    ends = int(NOW + 30 * 86400)
    keys = {mesh.add(name, expires_at=ends).wireguard.public() for name in ("newton", "bohr")}
    steady = [NOW]
    rig = build_rig(tmp_path, mesh, tesla, steady=lambda: steady[0])

    def peers() -> set[object]:
        device = rig.kernel().device
        assert device is not None
        return set(device.peers)

    async def scenario() -> None:
        async with running(rig):
            rig.clock.now += YEARS
            await turn(rig)
            assert peers() == keys
            assert {"plan_held", "clock_stepped"} <= await rig.codes()
            assert "set forward" in ((await rig.plan()).held_because or "")
            rig.clock.now -= YEARS
            await turn(rig)
            assert peers() == keys and not {"plan_held", "clock_stepped"} & await rig.codes()
            rig.clock.now += 31 * 86400  # a month goes by as months do
            steady[0] += 31 * 86400
            await turn(rig)
            assert peers() == set()

    asyncio.run(scenario())


def test_status_shows_the_kernel_as_it_is_after_the_clock_was_set_back(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    """What was seen before the step is not the newest for as long as the clock was set back."""
    newton, steady = mesh.hosts["newton"], [NOW]
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], steady=lambda: steady[0])

    async def received() -> int:
        return next(peer.receive_bytes for peer in (await rig.status()).peers if peer.name == "newton")

    async def scenario() -> None:
        async with running(rig):
            rig.clock.now -= 3600
            for count in (100, 200):
                steady[0] += 10
                counts = PeerStats(latest_handshake_at=rig.clock.now, receive_bytes=count)
                rig.backend.peer_counts("wg0", newton.wireguard.public(), counts)
                assert await received() == count

    asyncio.run(scenario())
