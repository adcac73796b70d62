"""Who of two new peers speaks first: they must not both begin, and neither may wait for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from daemon_rig import Rig, build_rig, running
from meshes import SignedHost, SignedMesh, full_store
from until import until

from meshd.backend.memory import MemoryBackend
from meshd.daemon.doors import Pace
from meshd.model.network import Route
from meshd.store.memory import MemoryStore

PATIENT = Pace(initiator_delay_seconds=3600.0)


def is_peer(rig: Rig, other: SignedHost) -> bool:
    device = rig.kernel().device
    return device is not None and other.wireguard.public() in device.peers


def calls(rig: Rig, other: SignedHost) -> bool:
    """Whether this host knows where that one is, which has to be a peer."""
    device = rig.kernel().device
    assert device is not None
    return device.peers[other.wireguard.public()].config.endpoint is not None


def test_of_two_new_peers_exactly_one_may_speak_first_and_the_other_one_soon_after(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    first, second = sorted((mesh.hosts["tesla"], mesh.hosts["newton"]), key=lambda host: host.hid)
    store = full_store(mesh)

    async def scenario() -> None:
        speaker = build_rig(tmp_path / "1", mesh, first, stores=(store,), pace=PATIENT)
        listener = build_rig(tmp_path / "2", mesh, second, stores=(store,), pace=PATIENT)
        async with running(speaker), running(listener):
            assert calls(speaker, second)
            assert second.hid in {target.hid for target in speaker.prober.targets}
            assert not calls(listener, first)
            assert first.hid not in {target.hid for target in listener.prober.targets}
        later = build_rig(tmp_path / "2", mesh, second, stores=(store,), backend=listener.backend)
        async with running(later):
            assert calls(later, first)
            assert first.hid in {target.hid for target in later.prober.targets}

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["newton", "bohr"])
def test_a_host_whose_daemon_has_never_run_is_left_to_call_first(
    tmp_path: Path, mesh: SignedMesh, name: str
) -> None:
    tesla, unborn = mesh.hosts["tesla"], mesh.hosts[name]
    mesh.objects[unborn.key] = unborn.body(version=0, mesh="")
    rig = build_rig(tmp_path, mesh, tesla, pace=PATIENT)

    async def scenario() -> None:
        async with running(rig):
            assert not calls(rig, unborn)
            assert unborn.hid not in {target.hid for target in rig.prober.targets}

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_host_that_does_not_call_is_called_when_its_time_is_up_and_costs_one_look(
    tmp_path: Path, mesh: SignedMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    tesla, unborn = mesh.hosts["tesla"], mesh.hosts["newton"]
    mesh.objects[unborn.key] = unborn.body(version=0, mesh="")
    rig = build_rig(tmp_path, mesh, tesla, pace=Pace(initiator_delay_seconds=0.2, turn_seconds=3600.0))

    async def turns() -> int:
        return sum((await rig.status()).counters.outcomes.values())

    async def scenario() -> None:
        async with running(rig):
            for _ in range(10):  # whatever else there was to look at in the meantime
                await rig.apply()
            before = await turns()
            assert not calls(rig, unborn)
            await until(lambda: calls(rig, unborn))
            assert await turns() - before <= 2

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_peer_whose_time_to_call_goes_by_during_a_slow_turn_is_called_after_it(
    tmp_path: Path, mesh: SignedMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that is slow to carry out what it is told is no reason to wait for the next regular turn."""
    first, second = sorted((mesh.hosts["tesla"], mesh.hosts["newton"]), key=lambda host: host.hid)

    class SlowBackend(MemoryBackend):
        def set_routes(self, interface: str, routes: Sequence[Route]) -> None:
            time.sleep(0.1)
            super().set_routes(interface, routes)

    record, store = mesh.objects.pop(first.key), MemoryStore()
    rig = build_rig(
        tmp_path,
        mesh,
        second,
        stores=(store,),
        backend=SlowBackend(),
        pace=Pace(initiator_delay_seconds=0.05, turn_seconds=3600.0),
    )
    mesh.objects[first.key] = record

    async def scenario() -> None:
        async with running(rig):
            mesh.publish(store)
            await rig.ask("poll")
            await until(lambda: is_peer(rig, first) and calls(rig, first))

    asyncio.run(scenario())
