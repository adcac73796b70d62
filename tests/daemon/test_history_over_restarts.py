"""How the paths were is known to the next meshd, whatever the disk makes of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from daemon_rig import Rig, build_rig, running
from meshes import SignedMesh
from until import until

from meshd.model.path import PathStats
from meshd.observe.protocol import ControlAnswer
from meshd.observe.trend import HistoryDocument

MEASURED = PathStats(up=True, srtt_seconds=0.08, loss_ratio=0.25, sent=60, received=45)


def mesh_of_two() -> SignedMesh:
    mesh = SignedMesh.create()
    for name in ("tesla", "newton"):
        mesh.add(name)
    return mesh


async def history_of(rig: Rig) -> HistoryDocument:
    answer = msgspec.json.decode(await rig.raw(b'{"verb": "history"}\n'), type=ControlAnswer)
    assert answer.error is None
    return msgspec.json.decode(answer.result, type=HistoryDocument)


async def live(directory: Path, mesh: SignedMesh, stats: PathStats | None) -> HistoryDocument:
    """A meshd from its start to its end, that measured this -> what it showed."""
    rig = build_rig(directory, mesh, mesh.hosts["tesla"])
    if stats is not None:
        rig.prober.stats = {mesh.hosts["newton"].hid: stats}
    async with running(rig):
        await rig.turn()

        async def is_noted() -> bool:
            """What the disk had was taken in before."""
            return bool((await history_of(rig)).paths)

        await until(is_noted)
        assert await rig.codes() == set()
        return await history_of(rig)


def test_the_next_meshd_shows_what_the_last_one_measured(tmp_path: Path) -> None:
    async def scenario() -> None:
        mesh = mesh_of_two()
        await live(tmp_path, mesh, MEASURED)
        again = (await live(tmp_path, mesh, None)).paths["newton"]
        assert again.rtt_seconds[-1] == pytest.approx(0.08, rel=1e-3)
        assert again.loss_ratio[-1] == pytest.approx(0.25, rel=1e-3)
        assert set(again.rtt_seconds[:-1]) == {None}

    asyncio.run(scenario())


def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    async def scenario() -> None:
        mesh = mesh_of_two()
        await live(tmp_path, mesh, MEASURED)
        kept = tmp_path / "state" / "history"
        kept.write_bytes(kept.read_bytes()[:-1] + b"?")
        assert set((await live(tmp_path, mesh, None)).paths["newton"].rtt_seconds) == {None}
        await live(tmp_path, mesh, MEASURED)
        again = (await live(tmp_path, mesh, None)).paths["newton"]
        assert again.rtt_seconds[-1] == pytest.approx(0.08, rel=1e-3)

    asyncio.run(scenario())


def test_a_disk_that_takes_and_gives_nothing_costs_nothing_but_the_picture(tmp_path: Path) -> None:
    async def scenario() -> None:
        mesh = mesh_of_two()
        await live(tmp_path, mesh, None)
        kept = tmp_path / "state" / "history"
        kept.unlink()
        kept.mkdir()  # neither read nor replaced by a file, also not for root
        shown = await live(tmp_path, mesh, MEASURED)
        assert shown.paths["newton"].rtt_seconds[-1] == pytest.approx(0.08)
        assert list(kept.parent.glob(".history*")) == []

    asyncio.run(scenario())
