"""What is wrong on the victim's own machine: its clock, its disk. Tried on a whole daemon.

Each test is a line of the list in docs/attacks.md.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import fakemesh as fm
import msgspec
import pytest
from arena import ADMIN, Arena, create_mesh, grant_of, stranger
from daemon_rig import running, settings_for
from meshes import NOW

from meshd.errors import TrustStateError
from meshd.registry.cache import RegistryCache
from meshd.registry.root import root_objects
from meshd.registry.segment import parse_segment, render_segment
from meshd.registry.signer import build_root_key
from meshd.store.memory import MemoryStore

YEAR_SECONDS = 365 * 86400.0
STALE_SECONDS = 900.0
NEW_ENDPOINT = "198.51.100.7:4000"


def cache_of(arena: Arena) -> Path:
    return arena.rig.state.directory / "registry"


@pytest.mark.slow
def test_clock_a_year_behind(arena: Arena) -> None:
    """Peers stay, and what others say now counts now."""
    arena.rig.clock.now = NOW - YEAR_SECONDS

    async def scenario() -> None:
        async with running(arena.rig):
            assert arena.peers() == {"newton", "bohr"}
            arena.mesh.revoke("bohr")
            arena.publish_missing()
            arena.plant(arena.record("newton", endpoints=(NEW_ENDPOINT,)))
            await arena.rig.apply()
            assert arena.peers() == {"newton"}
            assert arena.endpoint("newton") == NEW_ENDPOINT
            assert await arena.rig.codes() == set()
            arena.rig.clock.now = NOW
            await arena.assert_honest_changes_arrive()

    asyncio.run(scenario())


@pytest.mark.slow
def test_clock_a_year_ahead(arena: Arena) -> None:
    arena.rig.clock.now = NOW + YEAR_SECONDS
    bohr = arena.daemon_of("bohr")

    async def scenario() -> None:
        async with running(arena.rig), running(bohr):
            arena.plant(arena.record("newton", endpoints=(NEW_ENDPOINT,)))
            await arena.rig.apply()
            assert arena.endpoint("newton") == NEW_ENDPOINT
            await bohr.apply()
            assert arena.peers(bohr) == {"tesla", "newton"}
            assert await bohr.codes() == set()
            arena.rig.clock.now = NOW
            await arena.assert_honest_changes_arrive()

    asyncio.run(scenario())


@pytest.mark.slow
def test_clock_of_2099_for_a_minute(arena: Arena) -> None:
    """What a host signs then, and what it signs once its clock is right, both reach the others, whatever
    their own clocks said when they took the first."""
    bohr = arena.daemon_of("bohr")
    away = NOW + 73 * YEAR_SECONDS

    async def scenario() -> None:
        async with running(arena.rig), running(bohr):
            for at, port in ((away, 4001), (NOW, 4002)):
                arena.rig.clock.now = bohr.clock.now = at
                endpoint = f"198.51.100.7:{port}"
                arena.rig.reload_with = settings_for(
                    arena.directory / "tesla", host={"endpoints": [endpoint]}
                )
                assert (await arena.rig.ask("reload")).exit_code == 0
                await arena.rig.apply()
                await bohr.apply()
                assert arena.endpoint("tesla", bohr) == endpoint

    asyncio.run(scenario())


def test_a_clock_of_2099_makes_no_store_fresh_for_good(tmp_path: Path) -> None:
    """What a store said then, and a start of that time, are of no time once the clock is right: whoever hears
    of no store any more is told so."""
    mesh, store = create_mesh(), MemoryStore()
    arena = Arena(mesh=mesh, store=store, directory=tmp_path)
    rig = arena.rig
    rig.clock.now = NOW + 73 * YEAR_SECONDS

    async def scenario() -> None:
        async with running(rig):
            await rig.ask("poll")
            rig.clock.now = NOW
            store.faults.unreachable = True
            await rig.ask("poll")
            assert "registry_stale" not in await rig.codes()
            rig.clock.now = NOW + 2 * STALE_SECONDS
            await rig.ask("poll")
            assert "registry_stale" in await rig.codes()

    asyncio.run(scenario())


@pytest.mark.parametrize("damage", ["a flipped bit", "cut short", "empty", "gone"])
def test_corrupt_cache_root_fails_closed(tmp_path: Path, damage: str) -> None:
    """Without its trust it does not start: a store that offers another beginning is not even asked."""
    arena = Arena(mesh=create_mesh(), store=MemoryStore(), directory=tmp_path)
    trust = cache_of(arena) / "trust"
    good = trust.read_bytes()
    bad = {
        "a flipped bit": good[:200] + bytes([good[200] ^ 4]) + good[201:],
        "cut short": good[: len(good) // 2],
        "empty": b"",
    }
    if damage in bad:
        trust.write_bytes(bad[damage])
    else:
        trust.unlink()
    with pytest.raises(TrustStateError, match="trust"):
        arena.daemon_of("tesla")
    assert trust.exists() is (damage != "gone") and (not trust.exists() or trust.read_bytes() == bad[damage])


@pytest.mark.slow
def test_corrupt_cache_objects_are_dropped_said_and_taken_again(
    arena: Arena, caplog: pytest.LogCaptureFixture
) -> None:
    """It starts with what still verifies, names the loss, and the store gives the rest again."""
    objects = cache_of(arena) / "objects"
    bad = bytearray(objects.read_bytes())
    position = bad.rfind(arena.mesh.hosts["newton"].key.encode()) + 60
    bad[position] ^= 1
    objects.write_bytes(bytes(bad))
    arena.rig = arena.daemon_of("tesla")

    async def scenario() -> None:
        async with running(arena.rig):
            await arena.rig.apply()
            assert arena.peers() == {"newton", "bohr"}
            assert await arena.rig.codes() == set()

    asyncio.run(scenario())
    opened = [
        vars(each)["event_fields"] for each in caplog.records if each.getMessage() == "condition_opened"
    ]
    assert [(each["code"], each["subject"]) for each in opened] == [("registry_object_refused", "cache")]
    RegistryCache(cache_of(arena)).load()
    again = arena.daemon_of("tesla")

    async def afterwards() -> None:
        async with running(again):
            assert await again.codes() == set()

    asyncio.run(afterwards())


@pytest.mark.slow
def test_corrupt_cache_recovers_only_with_the_root_it_trusts(arena: Arena) -> None:
    """All objects are lost, and the store shows a thief's mesh under this mesh's id: nothing is taken."""
    whole, impostor = arena.shown(), create_mesh_of_a_thief(arena)
    (cache_of(arena) / "objects").unlink()
    arena.put_back(impostor)
    arena.rig = arena.daemon_of("tesla")

    async def scenario() -> None:
        async with running(arena.rig):
            assert arena.rig.kernel().device is None
            assert {"not_granted", "registry_object_refused"} <= await arena.rig.codes()
            assert (await arena.rig.status()).registry.root_version == 1
            arena.put_back(whole)
            await arena.rig.apply()
            assert arena.peers() == {"newton", "bohr"}

    asyncio.run(scenario())


def create_mesh_of_a_thief(arena: Arena) -> dict[str, bytes]:
    """The same mesh id, the same names, a root chain of the thief's own."""
    thief, mesh_id = fm.key("thief"), arena.mesh.ledger.mesh_id
    root = arena.mesh.ledger.chain.root
    [admin] = [value for kid, value in root.keys.items() if kid == ADMIN.kid]
    key = build_root_key(thief.public, ("root", "admin"), "thief", [fm.network(text) for text in admin.pools])
    first = fm.sign_root(msgspec.structs.replace(root, keys={thief.kid: key}), thief)
    second = fm.sign_root(
        msgspec.structs.replace(
            root, keys={thief.kid: key}, version=2, prev=arena.mesh.ledger.chain.fingerprint
        ),
        thief,
    )
    grants = [
        fm.forge_statement(thief, grant_of(host, f"10.77.0.{number}"), mesh=mesh_id)
        for number, host in enumerate((arena.mesh.hosts["tesla"], stranger()), 1)
    ]
    return dict([*root_objects(first), *root_objects(second), *grants])


@pytest.mark.parametrize("damage", [b"", b"junk", b'{"\x80":1}', b'{"generation":-1.5}'])
def test_damaged_note_of_the_applied_plan(lying: Arena, damage: bytes) -> None:
    """Whoever damages it gains nothing: the host is in its mesh, and nobody goes without a signature."""
    (lying.rig.state.directory / "applied.json").write_bytes(damage)
    rig = lying.daemon_of("tesla")

    async def scenario() -> None:
        async with running(rig):
            device = rig.kernel().device
            assert device is not None
            assert {str(key) for key in device.peers} == {
                str(lying.mesh.hosts[name].wireguard.public()) for name in ("newton", "bohr")
            }

    asyncio.run(scenario())


def test_planted_cache_entry(arena: Arena) -> None:
    """Who can write to the disk once but holds no key plants nothing that counts."""
    mallory = stranger()
    forged = fm.forge_statement(
        fm.key("stranger"), grant_of(mallory, "10.77.0.99"), by=ADMIN.kid, mesh=arena.mesh.ledger.mesh_id
    )
    objects = cache_of(arena) / "objects"
    objects.write_bytes(objects.read_bytes() + render_segment([forged, (mallory.key, mallory.body())]))
    assert forged in parse_segment(objects.read_bytes()).entries
    arena.rig = arena.daemon_of("tesla")

    async def scenario() -> None:
        async with running(arena.rig):
            assert arena.peers() == {"newton", "bohr"}
            assert "registry_object_refused" in await arena.rig.codes()

    asyncio.run(scenario())
