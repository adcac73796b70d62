"""A mesh that starts, a region that is lost: paths come up or die by the dozen, and each is no reason to look
at all of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from daemon_rig import build_rig, running
from meshes import SignedMesh
from until import until

from meshd.control import paths, relays
from meshd.control.wake import Wake
from meshd.model.path import PathStats
from meshd.probe.events import PathChanged

HOSTS = 40
UP = PathStats(sent=9, received=9, up=True, srtt_seconds=0.01)
SILENT = PathStats(sent=9)


def test_paths_that_come_up_one_by_one_are_looked_at_together_and_the_last_one_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "JUDGING_SHARE_SECONDS", 0.005)
    monkeypatch.setattr(relays, "LOOK_SHARE_SECONDS", 0.005)
    mesh = SignedMesh.create()
    for number in range(HOSTS):
        mesh.add(f"host{number}")
    rig = build_rig(tmp_path, mesh, mesh.hosts["host0"])
    prober = rig.prober
    others = [mesh.hosts[f"host{number}"].hid for number in range(1, HOSTS)]

    async def scenario() -> None:
        async with running(rig):
            prober.stats = dict.fromkeys(others, SILENT)
            await rig.turn()
            silent = "peer_unreachable"
            assert [each.code for each in rig.conditions()].count(silent) == HOSTS - 1
            before = prober.looks
            for hid in others:
                prober.stats[hid] = UP
                prober.tell(PathChanged(hid=hid, up=True))
                for _ in range(5):  # whoever is told of it has its turn
                    await asyncio.sleep(0)
            assert prober.looks - before < HOSTS / 2
            await until(lambda: silent not in {each.code for each in rig.conditions()})

    asyncio.run(scenario())


def test_paths_that_die_one_after_the_other_are_few_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "JUDGING_SHARE_SECONDS", 0.005)
    mesh = SignedMesh.create()
    for number in range(HOSTS):
        mesh.add(f"host{number}")
    rig = build_rig(tmp_path, mesh, mesh.hosts["host0"])
    others = [mesh.hosts[f"host{number}"].hid for number in range(1, HOSTS)]

    woken: list[Wake] = []
    queue = rig.daemon.parts.queue
    wake_turn = queue.wake

    def wake(reason: Wake) -> None:
        woken.append(reason)
        wake_turn(reason)

    async def scenario() -> None:
        async with running(rig):
            await rig.turn()
            monkeypatch.setattr(queue, "wake", wake)
            for hid in others:
                rig.prober.tell(PathChanged(hid=hid, up=False))
                for _ in range(5):
                    await asyncio.sleep(0)
            assert 1 <= woken.count(Wake.PATH_DOWN) < HOSTS / 4
            await until(lambda: woken.count(Wake.PATH_DOWN) > 1)  # for those that died since

    asyncio.run(scenario())
