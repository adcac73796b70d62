"""The daemon turns what its prober found into routes, conditions and figures."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from pathlib import Path

from daemon_rig import Rig, build_rig, running, settings_for
from meshes import SignedMesh
from until import until

from meshd.model.network import Route
from meshd.probe.events import MtuChanged

JAILS = ip_network("10.17.2.0/24")


async def found(rig: Rig, mesh: SignedMesh, old: int | None, new: int) -> None:
    hid = mesh.hosts["newton"].hid
    rig.prober.mtus[hid] = new
    rig.prober.tell(MtuChanged(hid=hid, old_bytes=old, new_bytes=new))
    await until(lambda: rig.prober.told_all)


def mtu_of(rig: Rig, network: object = JAILS) -> int | None:
    return next(route.mtu_bytes for route in rig.kernel().routes if route.destination == network)


async def until_mtu(rig: Rig, wanted: int | None) -> None:
    await until(lambda: mtu_of(rig) == wanted)


def test_a_shrunk_path_reaches_the_kernel_without_waiting_for_the_next_turn_and_is_an_alarm(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"])

    async def scenario() -> None:
        async with running(rig):
            await found(rig, mesh, None, 1420)
            await rig.apply()
            assert mtu_of(rig) is None and not await rig.codes() & {"path_mtu_low", "path_mtu_shrunk"}
            await found(rig, mesh, 1420, 1200)
            await until_mtu(rig, 1200)
            assert mtu_of(rig, ip_network("10.17.3.0/24")) is None
            await rig.apply()
            assert "path_mtu_shrunk" in await rig.codes()
            assert "path_mtu_too_low" not in await rig.codes()  # the search may yet find more
            await found(rig, mesh, 1200, 1216)
            rig.clock.now += 60
            await rig.apply()
            assert {"path_mtu_shrunk", "path_mtu_too_low"} <= await rig.codes()
            status = await rig.status()
            assert {peer.name: peer.mtu_bytes for peer in status.peers} == {"newton": 1216, "bohr": None}
            await found(rig, mesh, 1216, 1420)
            await until_mtu(rig, None)
            await rig.apply()
            assert not {code for code in await rig.codes() if code.startswith("path_mtu")}

    asyncio.run(scenario())


def test_a_path_that_was_always_narrow_is_no_alarm(tmp_path: Path, mesh: SignedMesh) -> None:
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"])

    async def scenario() -> None:
        async with running(rig):
            await found(rig, mesh, None, 1200)
            await found(rig, mesh, 1200, 1376)
            await rig.apply()
            assert {code for code in await rig.codes() if code.startswith("path_mtu")} == {"path_mtu_low"}

    asyncio.run(scenario())


def test_a_restart_keeps_the_routes_as_they_are_and_tells_the_prober(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"])

    async def first() -> None:
        async with running(rig):
            await found(rig, mesh, 1420, 1216)
            await until_mtu(rig, 1216)

    asyncio.run(first())
    again = build_rig(tmp_path, mesh, mesh.hosts["tesla"], backend=rig.backend)

    async def second() -> None:
        async with running(again):
            assert (await again.apply()).outcome == "unchanged" and mtu_of(again) == 1216
            targets = {target.hid: target for target in again.prober.targets}
            newton, bohr = (targets[mesh.hosts[name].hid] for name in ("newton", "bohr"))
            assert (newton.known_bytes, newton.largest_bytes) == (1216, 1420)
            assert (bohr.known_bytes, bohr.largest_bytes) == (None, 1420)
            assert newton.endpoint is not None and newton.endpoint.port == 51820

    asyncio.run(second())


def test_switched_off_no_route_has_an_mtu_of_its_own_and_nothing_is_searched(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    rig = build_rig(
        tmp_path, mesh, mesh.hosts["tesla"], settings=settings_for(tmp_path, probe={"path_mtu": False})
    )

    async def scenario() -> None:
        async with running(rig):
            rig.backend.set_routes("wg0", [Route(destination=JAILS, interface="wg0", mtu_bytes=1300)])
            await rig.apply()
            assert mtu_of(rig) is None
            assert {target.largest_bytes for target in rig.prober.targets} == {0}

    asyncio.run(scenario())
