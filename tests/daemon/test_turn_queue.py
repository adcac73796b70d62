"""The queue of turns under attack: defects, requests that race, a kernel that hangs, an end in the middle."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from daemon_rig import Rig, build_rig, running
from meshes import SignedMesh, full_store
from until import until

from meshd.backend.memory import MemoryBackend
from meshd.control.turn import Inputs
from meshd.model.device import ObservedState


class TroubledKernel(MemoryBackend):
    """Raises what nobody expects while ``is_broken``; keeps everybody waiting until ``goes_on``."""

    def __init__(self) -> None:
        super().__init__()
        self.is_broken = False
        self.is_asked = threading.Event()
        self.goes_on = threading.Event()
        self.goes_on.set()

    def observe(self, interface: str) -> ObservedState:
        self.is_asked.set()
        self.goes_on.wait(60)
        if self.is_broken:
            raise KeyError("a defect")
        return super().observe(interface)

    def hang(self) -> None:
        self.is_asked.clear()
        self.goes_on.clear()


@pytest.fixture
def kernel() -> TroubledKernel:
    return TroubledKernel()


@pytest.fixture
def rig(tmp_path: Path, kernel: TroubledKernel) -> Rig:
    mesh = SignedMesh.create()
    tesla = mesh.add("tesla")
    mesh.add("newton")
    return build_rig(tmp_path, mesh, tesla, stores=(full_store(mesh),), backend=kernel)


def failed_parts(rig: Rig) -> set[str]:
    return {each.subject for each in rig.conditions() if each.code == "part_failed"}


def nothing(_: Inputs) -> None:
    pass


def test_a_turn_that_raises_is_a_condition_until_a_turn_is_good_whatever_is_asked_meanwhile(
    rig: Rig, kernel: TroubledKernel
) -> None:
    async def scenario() -> None:
        async with running(rig):
            kernel.is_broken = True
            assert (await rig.ask("apply")).exit_code == 1
            assert "turns" in failed_parts(rig)
            for _ in range(5):
                await rig.daemon.parts.queue.run_between_turns(nothing)
                rig.clock.now += 10.0
                assert (await rig.ask("status")).error is None, "what was seen last is shown"
                assert "turns" in failed_parts(rig)
            kernel.is_broken = False
            assert (await rig.ask("apply")).exit_code == 0
            assert "turns" not in failed_parts(rig)

    asyncio.run(scenario())


def test_requests_do_not_wait_for_the_pause_after_turns_that_raised(rig: Rig, kernel: TroubledKernel) -> None:
    async def scenario() -> None:
        async with running(rig):
            kernel.is_broken = True
            for _ in range(8):  # the pause is a minute long by then
                answer = await rig.ask("apply")
                assert answer.error is not None and "KeyError" in answer.error
            kernel.is_broken = False
            assert (await rig.ask("plan")).exit_code == 0
            assert (await rig.ask("apply")).exit_code == 0

    asyncio.run(scenario())


def test_a_defect_in_a_look_between_turns_is_a_condition_and_what_was_seen_last_is_shown(
    rig: Rig, kernel: TroubledKernel
) -> None:
    async def scenario() -> None:
        async with running(rig):
            kernel.is_broken = True
            rig.clock.now += 10.0
            assert len((await rig.status()).peers) == 1
            assert failed_parts(rig) == {"looks"}
            kernel.is_broken = False
            rig.clock.now += 10.0
            await rig.status()
            assert failed_parts(rig) == set()

    asyncio.run(scenario())


def test_a_rollback_of_nothing_is_an_answer_and_no_defect(rig: Rig) -> None:
    async def scenario() -> None:
        async with running(rig):
            answer = await rig.ask("rollback")
            assert answer.exit_code == 1 and "nothing to go back to" in str(answer.error)
            assert "turns" not in failed_parts(rig)

    asyncio.run(scenario())


def test_a_first_turn_that_raises_leaves_a_daemon_that_says_so_and_recovers(
    rig: Rig, kernel: TroubledKernel
) -> None:
    kernel.is_broken = True

    async def scenario() -> None:
        async with running(rig):
            answer = await rig.ask("status")
            assert answer.exit_code == 1 and answer.error is not None and "turns" in answer.error
            kernel.is_broken = False
            assert (await rig.ask("apply")).exit_code == 0
            assert len((await rig.status()).peers) == 1

    asyncio.run(scenario())


def test_no_number_of_looks_keeps_a_turn_from_running(rig: Rig) -> None:
    async def scenario() -> None:
        async with running(rig):
            parts, before, looks = rig.daemon.parts, rig.world.number, 0

            async def look_again_and_again() -> None:
                nonlocal looks
                for _ in range(200):
                    if rig.world.number > before + 3:
                        return
                    await parts.queue.run_between_turns(nothing)
                    looks += 1
                    parts.queue.wake(next(iter(rig.world.wakes)))

            await asyncio.gather(*(look_again_and_again() for _ in range(4)))
            assert rig.world.number > before + 3, f"{looks} looks, and no turn had its place"

    asyncio.run(scenario())


def test_requests_for_other_turns_keep_their_order(rig: Rig, kernel: TroubledKernel) -> None:
    async def scenario() -> None:
        async with running(rig):
            queue = rig.daemon.parts.queue
            kernel.hang()
            hanging = asyncio.create_task(rig.ask("plan"))
            await until(kernel.is_asked.is_set)
            asked = [asyncio.create_task(queue.apply(force=force)) for force in (False, True, False)]
            await asyncio.sleep(0)
            kernel.goes_on.set()
            numbers = [world.number for world in await asyncio.gather(*asked)]
            assert numbers == sorted(set(numbers)), "the last one was asked for after the forced one"
            await hanging

    asyncio.run(scenario())


def test_an_end_during_a_turn_is_told_to_all_who_wait(rig: Rig, kernel: TroubledKernel) -> None:
    async def scenario() -> None:
        async with running(rig):
            kernel.hang()
            served = asyncio.create_task(rig.ask("apply", force=True))
            await until(kernel.is_asked.is_set)
            waiting = asyncio.create_task(rig.ask("plan"))
            await until(lambda: rig.daemon.parts.queue.waits)
            rig.daemon.stop()
            try:
                for answer in await asyncio.gather(served, waiting):
                    assert answer.error is not None and "stopping" in answer.error
            finally:
                kernel.goes_on.set()

    asyncio.run(scenario())


def test_a_request_whose_client_is_gone_is_carried_out_and_the_next_one_answered(
    rig: Rig, kernel: TroubledKernel
) -> None:
    async def scenario() -> None:
        async with running(rig):
            before = rig.world.number
            kernel.hang()
            _, writer = await asyncio.open_unix_connection(str(rig.socket))
            writer.write(b'{"verb": "apply"}\n')
            await until(kernel.is_asked.is_set)
            writer.close()
            kernel.goes_on.set()
            assert (await rig.ask("apply")).exit_code == 0
            assert rig.world.number > before and not failed_parts(rig)

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_storm_of_reloads_is_a_few_turns_and_nothing_else(rig: Rig) -> None:
    async def scenario() -> None:
        async with running(rig):
            before = rig.world.number
            for _ in range(1000):
                rig.daemon.reload_quietly()
            await rig.turn()
            await rig.turn()
            assert rig.world.number <= before + 6 and not failed_parts(rig)

    asyncio.run(scenario())
