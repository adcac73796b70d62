"""A store that shows the past, hides, mixes, floods, or stops: tried on a whole daemon.

Each test is a line of the list in docs/attacks.md. The attacker owns the store and holds no key.

Over 400 lines: all that one attacker can do, a few lines each.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import get_args

import fakemesh as fm
import pytest
from arena import ADMIN, HOSTS, OTHER, Arena, create_mesh, grant_of, stranger
from daemon_rig import running
from garage_node import GarageNode
from hostile_s3 import TIMEOUTS, Hostility, hostile_server
from meshes import NOW

from meshd.registry.layout import host_key, log_prefix, root_key
from meshd.registry.signer import LogSigner
from meshd.registry.sync import THOROUGH_EVERY_POLLS
from meshd.store.directory import DirectoryStore
from meshd.store.memory import MemoryStore
from meshd.store.s3 import S3Store

NEW_ENDPOINT = "198.51.100.7:4000"


async def polls(arena: Arena) -> None:
    """As many rounds as it takes to look at everything again."""
    for _ in range(THOROUGH_EVERY_POLLS + 1):
        await arena.rig.ask("poll")
    await arena.rig.apply()


def witness_of(arena: Arena) -> tuple[str, bytes]:
    """A later statement of another administrator, who had seen everything."""
    host = fm.key("noether")
    return LogSigner(arena.mesh.ledger, OTHER).grant(
        now=NOW, hid=host.kid, identity=host.public, name="noether"
    )


def test_rollback_of_a_record(arena: Arena) -> None:
    before = arena.shown()

    async def attack() -> None:
        async with running(arena.rig):
            arena.plant(arena.record("newton", endpoints=(NEW_ENDPOINT,)))
            await arena.rig.apply()
            assert arena.endpoint("newton") == NEW_ENDPOINT
            arena.put_back(before)
            await polls(arena)
            assert arena.endpoint("newton") == NEW_ENDPOINT
            assert await arena.rig.codes() == set()

    async def after_a_restart() -> None:
        arena.rig = arena.daemon_of("tesla")
        async with running(arena.rig):
            assert arena.endpoint("newton") == NEW_ENDPOINT

    asyncio.run(attack())
    asyncio.run(after_a_restart())


@pytest.mark.slow
def test_rollback_of_a_log(arena: Arena) -> None:
    before = arena.shown()

    async def attack() -> None:
        async with running(arena.rig):
            arena.mesh.revoke("newton")
            arena.publish_missing()
            await arena.rig.apply()
            assert arena.peers() == {"bohr"}
            arena.put_back(before)
            await polls(arena)
            assert arena.peers() == {"bohr"}

    async def after_a_restart() -> None:
        arena.rig = arena.daemon_of("tesla")
        async with running(arena.rig):
            assert arena.peers() == {"bohr"}

    asyncio.run(attack())
    asyncio.run(after_a_restart())


@pytest.mark.slow
def test_rollback_of_the_root(arena: Arena) -> None:
    """An administrator's key was cut; the store goes back to the root that still names it."""
    before, thief, mallory = arena.shown(), arena.copied_signer(OTHER), stranger()
    record = mallory.body(mesh=arena.mesh.ledger.mesh_id, version=int(NOW * 1000))

    async def scenario() -> None:
        async with running(arena.rig):
            arena.sign_root(fm.sign_root(fm.retire(arena.mesh.ledger.chain, OTHER.kid, (0, "")), ADMIN))
            await arena.rig.apply()
            arena.put_back(before)
            grant = thief.grant(now=NOW, hid=mallory.hid, identity=mallory.identity.public, name="mallory")
            arena.plant(grant, (mallory.key, record))
            await polls(arena)
            assert arena.peers() == {"newton", "bohr"}
            assert (await arena.rig.status()).registry.root_version == 2

    asyncio.run(scenario())


def test_freeze_store_stops(lying: Arena) -> None:
    async def scenario() -> None:
        async with running(lying.rig):
            before = lying.rig.kernel()
            for fault in ("unreachable", "hang"):
                setattr(lying.memory.faults, fault, True)
                lying.rig.clock.now += 100_000
                assert (await lying.rig.apply()).outcome == "unchanged"
                assert lying.rig.kernel() == before
                assert await lying.rig.codes() == {"store_down", "registry_stale"}
                setattr(lying.memory.faults, fault, False)
            await lying.assert_honest_changes_arrive()
            assert await lying.rig.codes() == set()

    asyncio.run(scenario())


def test_freeze_folder_vanishes(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    arena = Arena(mesh=create_mesh(), store=DirectoryStore(folder), directory=tmp_path)

    async def scenario() -> None:
        async with running(arena.rig):
            before = arena.rig.kernel()
            folder.rename(tmp_path / "elsewhere")
            assert (await arena.rig.apply()).outcome == "unchanged"
            assert arena.rig.kernel() == before
            assert await arena.rig.codes() == {"store_down"}
            (tmp_path / "elsewhere").rename(folder)
            await arena.assert_honest_changes_arrive()

    asyncio.run(scenario())


@pytest.mark.garage
def test_freeze_garage_hangs(attacked_garage: GarageNode, tmp_path: Path) -> None:
    """A Garage that is stopped in the middle of everything: connections open, no answer comes."""
    store = S3Store(attacked_garage.location(), attacked_garage.credentials, timeouts=TIMEOUTS)
    arena = Arena(mesh=create_mesh(), store=store, directory=tmp_path)
    process = attacked_garage._process
    assert process is not None

    async def scenario() -> None:
        async with running(arena.rig):
            before = arena.rig.kernel()
            process.send_signal(signal.SIGSTOP)
            try:
                assert (await arena.rig.apply()).outcome == "unchanged"
                assert arena.rig.kernel() == before
                assert await arena.rig.codes() == {"store_down"}
            finally:
                process.send_signal(signal.SIGCONT)
            await arena.assert_honest_changes_arrive()

    asyncio.run(scenario())
    store.close()


def test_withheld_revoke(arena: Arena) -> None:
    """It cannot be guessed, but whatever was signed after it betrays it, and it counts once it shows."""
    mesh = arena.mesh
    hidden = mesh.signer.revoke(mesh.hosts["newton"].hid, "stolen", now=NOW)
    witness = witness_of(arena)

    async def scenario() -> None:
        async with running(arena.rig):
            arena.plant(witness)
            await arena.rig.apply()
            assert arena.peers() == {"newton", "bohr"}
            assert await arena.rig.codes() == {"registry_gap"}
            arena.plant(hidden)
            await arena.rig.apply()
            assert arena.peers() == {"bohr"}
            assert await arena.rig.codes() == set()

    asyncio.run(scenario())


@pytest.mark.slow
def test_withheld_statement_below_a_revoke(arena: Arena) -> None:
    """What is held back of a log does not hold the revoke after it back."""
    mesh = arena.mesh
    fourth = fm.key("noether")
    hidden = mesh.signer.grant(now=NOW, hid=fourth.kid, identity=fourth.public, name="noether")
    revoke = mesh.signer.revoke(mesh.hosts["newton"].hid, "stolen", now=NOW)
    assert hidden[0] < revoke[0]

    async def scenario() -> None:
        async with running(arena.rig):
            arena.plant(revoke)
            await arena.rig.apply()
            assert arena.peers() == {"bohr"}
            assert await arena.rig.codes() == {"registry_gap"}

    asyncio.run(scenario())


def test_withheld_revoke_is_looked_for_elsewhere(lying: Arena) -> None:
    """The first store answers whole and lies; the second one is asked because something is missing."""
    mesh, honest = lying.mesh, MemoryStore(name="honest")
    mesh.publish(honest)
    lying.rig = lying.daemon_of("bohr", lying.store, honest, fresh=True)

    async def scenario() -> None:
        async with running(lying.rig):
            await lying.rig.apply()  # past the round in which every store is asked anyway
            hidden = mesh.signer.revoke(mesh.hosts["newton"].hid, "stolen", now=NOW)
            witness = witness_of(lying)
            mesh.objects.update([hidden, witness])
            mesh.publish(honest)
            lying.plant(witness)
            await lying.rig.apply()
            assert lying.peers() == {"tesla"}
            assert await lying.rig.codes() == set()

    asyncio.run(scenario())


@pytest.mark.slow
def test_mix_and_match(arena: Arena) -> None:
    """Real objects of one time and place under the names of others."""
    mesh = arena.mesh
    newton, bohr = mesh.hosts["newton"], mesh.hosts["bohr"]
    logs = sorted(key for key in mesh.objects if key.startswith("log/"))
    old_log = mesh.objects[logs[0]]
    mesh.revoke("bohr")
    new_log = next(key for key in mesh.objects if key.startswith("log/") and key not in logs)
    root = next(key for key in mesh.objects if key.endswith(".json") and key.startswith("root/"))
    swapped = [
        (newton.key, bohr.body(version=int(NOW * 1000))),
        (bohr.key, newton.body(version=int(NOW * 1000))),
        (new_log, old_log),
        (new_log.replace(ADMIN.kid, OTHER.kid), mesh.objects[new_log]),
        (root_key(2, mesh.ledger.chain.fingerprint), mesh.objects[root]),
    ]

    async def scenario() -> None:
        async with running(arena.rig):
            before = arena.rig.kernel()
            arena.plant(*swapped)
            await polls(arena)
            assert arena.rig.kernel() == before
            assert await arena.rig.codes() == {"registry_object_refused"}
            arena.publish_missing()
            await arena.rig.apply()
            assert arena.peers() == {"newton"}

    asyncio.run(scenario())


@pytest.mark.slow
def test_fast_forward_of_a_version(arena: Arena) -> None:
    """The last version of a record is the last word for the identity whose key signed it: the host says
    so, and asks for another one."""
    fast = fm.forge_statement(OTHER, grant_of(stranger(), "10.77.16.9"), mesh=arena.mesh.ledger.mesh_id)

    async def scenario() -> None:
        async with running(arena.rig):
            arena.plant(arena.record("tesla", version=2**53 - 1, endpoints=("192.0.2.66:1",)))
            arena.say(fast)
            await arena.rig.apply()
            assert await arena.rig.codes() == {"record_refused"}
            (said,) = (await arena.rig.status()).conditions
            assert "enroll --new-identity" in said.text
            arena.mesh.revoke("bohr")
            arena.publish_missing()
            await arena.rig.apply()
            assert arena.peers() == {"newton"}

    asyncio.run(scenario())


@pytest.mark.slow
def test_endless_data_objects(arena: Arena) -> None:
    """Every object as large as any store takes: refused, the honest ones counted."""
    body = b"{" + b" " * 65_000 + b"}"

    async def scenario() -> None:
        async with running(arena.rig):
            before = arena.rig.kernel()
            arena.plant(*((key, body) for key in arena.mesh.objects))
            await polls(arena)
            assert arena.rig.kernel() == before
            assert "registry_object_refused" in await arena.rig.codes()
            arena.publish_missing()
            await arena.assert_honest_changes_arrive()

    asyncio.run(scenario())


@pytest.mark.slow
def test_endless_data_keys(arena: Arena) -> None:
    """More keys than the mesh could ever have, of each sort; what is shown to people stays bounded."""
    count = 3000 if isinstance(arena.store, MemoryStore) else 150
    admin, hid = log_prefix(OTHER.kid), "{:032x}"
    arena.plant(
        *((host_key(hid.format(number)), b"junk") for number in range(count)),
        *((f"{admin}{number + 1:010d}-{'f' * 64}.json", b"junk") for number in range(count)),
        *((root_key(2, f"{number:064x}"), b"junk") for number in range(count)),
    )

    async def scenario() -> None:
        async with running(arena.rig):
            assert arena.peers() == {"newton", "bohr"}
            conditions = (await arena.rig.status()).conditions
            assert 0 < len(conditions) <= 300
            await arena.assert_honest_changes_arrive()

    asyncio.run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("hostility", get_args(Hostility))
def test_endless_data_pages_bodies_and_slow_bytes(lying: Arena, hostility: Hostility) -> None:
    """The first store never comes to an end: it costs its time-out, and the second one is followed."""
    with hostile_server(hostility) as server:
        endless = server.open()
        lying.rig = lying.daemon_of("bohr", endless, lying.store)

        async def scenario() -> None:
            async with running(lying.rig):
                assert lying.peers() == {"tesla", "newton"}
                await lying.assert_honest_changes_arrive()
                assert await lying.rig.codes() == {"store_down"}

        asyncio.run(scenario())
        endless.close()


@pytest.mark.slow
def test_deletion_by_a_member_with_write_access(arena: Arena) -> None:
    async def scenario() -> None:
        async with running(arena.rig):
            before = arena.rig.kernel()
            own = arena.shown()[arena.mesh.hosts["tesla"].key]
            arena.take_away(*arena.shown())
            await polls(arena)
            assert arena.rig.kernel() == before
            assert arena.shown() == {arena.mesh.hosts["tesla"].key: own}
            arena.publish_missing()
            await arena.assert_honest_changes_arrive()

    asyncio.run(scenario())


@pytest.mark.slow
def test_overwriting_by_a_member_with_write_access(arena: Arena) -> None:
    async def scenario() -> None:
        async with running(arena.rig):
            before = arena.rig.kernel()
            own_key = arena.mesh.hosts["tesla"].key
            own = arena.shown()[own_key]
            arena.plant(*((key, b"{}") for key in arena.shown()))
            await polls(arena)
            assert arena.rig.kernel() == before
            assert arena.shown()[own_key] == own
            assert await arena.rig.codes() == {"registry_object_refused"}
            arena.publish_missing()
            await arena.assert_honest_changes_arrive()
            assert await arena.rig.codes() == set()

    asyncio.run(scenario())


@pytest.mark.slow
def test_split_view_between_hosts(lying: Arena) -> None:
    """Two hosts are shown two registries; both say where they stand, and one honest look makes them equal."""
    mesh, other_view = lying.mesh, lying.memory.reader()
    bohr = lying.daemon_of("bohr", other_view)

    async def scenario() -> None:
        async with running(lying.rig), running(bohr):
            mesh.revoke("newton")
            lying.publish_missing()
            revoke = next(key for key in mesh.objects if key.startswith("log/") and "0004-" in key)
            other_view.faults.hidden = {lying.path(revoke)}
            await lying.rig.apply()
            await bohr.apply()
            assert lying.peers() == {"bohr"} and lying.peers(bohr) == {"tesla", "newton"}
            assert (await lying.rig.status()).registry.generation > (await bohr.status()).registry.generation
            lying.say(witness_of(lying))
            await bohr.apply()
            assert await bohr.codes() == {"registry_gap"}
            other_view.faults.hidden = set()
            for rig in (lying.rig, bohr):
                await rig.apply()
            assert lying.peers(bohr) == {"tesla"}
            assert (await lying.rig.status()).registry.generation == (await bohr.status()).registry.generation

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_newborn_believes_no_store(arena: Arena) -> None:
    """Shown an emptied store it keeps what its bundle said; shown the whole one it learns the rest."""
    whole = arena.shown()
    arena.take_away(*whole)
    arena.rig = arena.daemon_of("bohr", fresh=True)

    async def scenario() -> None:
        async with running(arena.rig):
            assert arena.peers() == set()
            assert "not_granted" not in await arena.rig.codes()
            arena.put_back(whole)
            await arena.rig.apply()
            assert arena.peers() == set(HOSTS) - {"bohr"}

    asyncio.run(scenario())
