"""Settings of relaying that a reload carries out, in daemons that carry each other's pairs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from daemon_rig import Rig
from meshes import SignedMesh
from trio import UP, Trio, asked, play, reload
from until import until

NAMES = ("tesla", "newton", "bohr")


@pytest.fixture
def mesh() -> SignedMesh:
    made = SignedMesh.create()
    for name in NAMES:
        made.add(name)
    return made


def test_a_reload_that_switches_relaying_off_ends_it_for_others(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        bohr = trio.rigs["bohr"]
        await reload(bohr, enabled=False)
        trio.kill("tesla", "newton")
        first, second = trio.by_id("tesla", "newton")
        await until(lambda: asked(trio, first, second))
        assert [each.answer for each in (await trio.path(first, second)).asked] == ["it relays for nobody"]

    play(Trio(tmp_path, mesh), scene)


def test_a_reload_takes_this_hosts_own_pairs_back(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        trio.kill("tesla", "newton")
        await until(lambda: trio.via("tesla", "newton") != "direct")
        await reload(trio.rigs["tesla"], use=False)
        await until(lambda: trio.endpoint("tesla", "newton") == "198.18.0.2:51820")
        assert trio.via("tesla", "newton") == "direct"

    play(Trio(tmp_path, mesh), scene)


def test_a_reload_gives_the_relay_another_budget(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        trio.kill("tesla", "newton")
        await until(lambda: trio.via("tesla", "newton") != "direct")
        await reload(trio.rigs["bohr"], bytes_per_second=77_000)
        assert trio.rigs["bohr"].relays[0].table.bytes_per_second == 77_000

    play(Trio(tmp_path, mesh), scene)


def test_a_reload_says_how_many_pairs_there_is_room_for(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        host = trio.rigs["bohr"].daemon.parts.relays.host
        await reload(trio.rigs["bohr"], pairs=7)
        assert host.site.terms.pairs == 7

    play(Trio(tmp_path, mesh), scene)


def test_a_reload_says_from_which_loss_a_path_is_left(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        lossy = msgspec.structs.replace(UP, loss_ratio=0.15)
        trio.rigs["tesla"].prober.stats[trio.hids["newton"]] = lossy
        await trio.rigs["tesla"].turn()
        assert trio.via("tesla", "newton") == "direct"
        await reload(trio.rigs["tesla"], loss_ratio=0.1)
        await until(lambda: trio.via("tesla", "newton") == trio.hids["bohr"])

    play(Trio(tmp_path, mesh), scene)


@pytest.mark.parametrize(
    ("key", "before", "after"),
    [
        ("latency", False, True),
        ("latency_margin_ms", 15.0, 5.0),
        ("latency_share", 0.3, 0.1),
        ("latency_minutes", 60.0, 1.0),
    ],
)
def test_a_reload_says_when_a_shorter_way_is_taken(
    tmp_path: Path, mesh: SignedMesh, key: str, before: bool | float, after: bool | float
) -> None:
    """Directly 50 ms, through the third host 40."""
    wanted = {"latency": True, "latency_margin_ms": 5.0, "latency_share": 0.1, "latency_minutes": 1.0}

    async def scene(trio: Trio) -> None:
        first, second = trio.by_id("tesla", "newton")
        rig, other = trio.rigs[first], trio.hids[second]
        rig.prober.stats[other] = msgspec.structs.replace(UP, srtt_seconds=0.05)
        for _ in range(8):
            await review(trio, rig, other)
        assert trio.via(first, second) == "direct"
        await reload(rig, **{key: after})
        await until(lambda: review(trio, rig, other))
        assert "10 ms shorter" in (await trio.path(first, second)).why

    play(Trio(tmp_path, mesh, relay=wanted | {key: before}), scene)


async def review(trio: Trio, rig: Rig, other: str) -> bool:
    """Half a minute later -> whether the pair goes through another host."""
    trio.now += 35.0
    await rig.turn()
    pair = rig.daemon.parts.relays.pairs[other]
    await until(lambda: pair.review is None or pair.review.search is None)
    await until(lambda: pair.search is None)
    return pair.is_carried
