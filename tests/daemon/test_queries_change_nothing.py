"""Looking changes nothing: what is remembered is equal before and after a plan and a status."""

from __future__ import annotations

import asyncio
from pathlib import Path

from daemon_rig import NO_WAITING, build_rig, running
from meshes import SignedMesh, full_store

from meshd.control.reconciler import Reconciler
from meshd.control.turn import Inputs
from meshd.daemon.doors import Pace
from meshd.mesh.selector import FIRST_TRY_SECONDS
from meshd.model.keys import PrivateKey
from meshd.model.path import PathStats


def three_candidates() -> SignedMesh:
    """newton may be at three places, and is at none of them."""
    mesh = SignedMesh.create()
    mesh.add("tesla")
    newton = mesh.add("newton")
    places = tuple(f"198.18.0.{number}:51820" for number in (11, 12, 13))
    mesh.offer(newton.key, newton.body(version=newton.record.version + 1, endpoints=places))
    return mesh


def endpoint_of(rig_kernel: object) -> str:
    device = getattr(rig_kernel, "device")  # noqa: B009
    (peer,) = device.peers.values()
    return str(peer.config.endpoint)


def test_a_plan_between_two_turns_skips_no_candidate(tmp_path: Path) -> None:
    mesh = three_candidates()
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(full_store(mesh),))

    async def scenario() -> list[str]:
        async with running(rig):
            rig.prober.stats[mesh.hosts["newton"].hid] = PathStats(sent=10)
            tried = [endpoint_of(rig.kernel())]
            for _ in range(5):
                rig.clock.now += FIRST_TRY_SECONDS / 2 + 0.1
                await rig.plan()
                await rig.status()
                rig.clock.now += FIRST_TRY_SECONDS / 2 + 0.1
                await rig.turn()
                if endpoint_of(rig.kernel()) != tried[-1]:
                    tried.append(endpoint_of(rig.kernel()))
            return tried

    tried = asyncio.run(scenario())
    assert len(set(tried[:3])) == 3, f"each candidate has its time in the first round: {tried}"


def test_a_plan_and_a_status_leave_everything_that_is_remembered_as_it_was(tmp_path: Path) -> None:
    mesh = three_candidates()
    mesh.objects[mesh.hosts["newton"].key] = mesh.hosts["newton"].body(version=0, mesh="")
    patient = Pace(initiator_delay_seconds=3600.0, turn_seconds=3600.0)
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(full_store(mesh),), pace=patient)

    async def scenario() -> None:
        async with running(rig):
            await rig.turn()
            queue = rig.daemon.parts.queue
            found: list[object] = []

            def note(_: Inputs) -> None:
                plane = rig.data_plane
                assert isinstance(plane, Reconciler)
                found.append((plane.trackers, repr(plane.trackers), plane.change_status()))

            await queue.run_between_turns(note)
            number, files = rig.world.number, state_files(tmp_path)
            for _ in range(3):
                rig.clock.now += 60.0
                await rig.plan()
                await rig.status()
            await queue.run_between_turns(note)
            assert found[0] == found[1]
            assert (rig.world.number, state_files(tmp_path)) == (number, files)

    asyncio.run(scenario())


def test_plans_do_not_use_up_the_time_that_another_hosts_rotation_has(tmp_path: Path) -> None:
    mesh = SignedMesh.create()
    mesh.add("tesla")
    newton = mesh.add("newton")
    following = str(PrivateKey.generate().public())
    body = newton.body(version=newton.record.version + 1, next=following)
    mesh.offer(newton.key, body)
    seconds = [0.0]
    patient = Pace(initiator_delay_seconds=0.0, turn_seconds=3600.0)
    rig = build_rig(
        tmp_path,
        mesh,
        mesh.hosts["tesla"],
        stores=(full_store(mesh),),
        pace=patient,
        monotonic=lambda: seconds[0],
    )

    async def scenario() -> None:
        async with running(rig):
            await rig.turn()
            found: list[str] = []

            def note(_: Inputs) -> None:
                plane = rig.data_plane
                assert isinstance(plane, Reconciler)
                found.append(repr(plane.trackers.foreign))

            queue = rig.daemon.parts.queue
            await queue.run_between_turns(note)
            assert newton.hid in found[0]
            seconds[0] += 60.0
            await rig.plan()
            await queue.run_between_turns(note)
            assert found[0] == found[1]

    asyncio.run(scenario())


def state_files(directory: Path) -> dict[str, bytes]:
    """Everything that the daemon keeps on disk."""
    state = directory / "state"
    return {str(path.relative_to(state)): path.read_bytes() for path in state.rglob("*") if path.is_file()}


def test_a_step_of_the_clock_is_still_new_to_the_turn_after_a_status(tmp_path: Path) -> None:
    mesh = SignedMesh.create()
    mesh.add("tesla")
    mesh.add("newton")
    steady = [0.0]
    rig = build_rig(
        tmp_path,
        mesh,
        mesh.hosts["tesla"],
        stores=(full_store(mesh),),
        steady=lambda: steady[0],
        pace=NO_WAITING,
    )

    async def scenario() -> None:
        async with running(rig):
            rig.clock.now += 7200.0  # set forward: the clock that nobody sets stands still
            await rig.status()
            await rig.plan()
            assert "clock_stepped" not in {condition.code for condition in rig.conditions()}
            await rig.turn()
            assert "clock_stepped" in {condition.code for condition in rig.conditions()}

    asyncio.run(scenario())
