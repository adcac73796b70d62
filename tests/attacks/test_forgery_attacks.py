"""Words that nobody with the right to say them said: tried on a whole daemon, over each kind of store.

Each test is a line of the list in docs/attacks.md. The daemon is the victim; what counts is its
kernel (peers, routes), what it says of itself, and that honest changes still arrive afterwards.
"""

from __future__ import annotations

import asyncio
import base64
import json

import fakemesh as fm
import msgspec
import pytest
from arena import ADMIN, OTHER, RECOVERY, Arena, create_mesh, grant_of, stranger
from daemon_rig import running
from meshes import NOW

from meshd.model.keys import PrivateKey
from meshd.model.network import parse_address
from meshd.registry.envelope import (
    HOST_RECORD_TYPE,
    ROOT_TYPE,
    STATEMENT_TYPE,
    payload_hash,
    render_envelope,
)
from meshd.registry.layout import host_key, log_key
from meshd.registry.root import root_objects
from meshd.registry.signer import LogSigner, build_root_key
from meshd.registry.signing import SigningKey
from meshd.registry.statement import Grant

Item = tuple[str, bytes]


def next_statement(arena: Arena, body: Grant, signer: SigningKey, kind: str = STATEMENT_TYPE) -> Item:
    """The next entry of the first administrator's log, whoever signs it."""
    head = arena.mesh.ledger.own_log(ADMIN.kid)[-1]
    return fm.forge_statement(
        signer,
        body,
        by=ADMIN.kid,
        seq=head.statement.seq + 1,
        prev=head.hash,
        mesh=arena.mesh.ledger.mesh_id,
        payload_type=kind,
    )


def assert_refused(arena: Arena, *attack: Item, name: str = "curie") -> None:
    """The attack changes nothing in the kernel, is named, and the mesh goes on."""

    async def scenario() -> None:
        async with running(arena.rig):
            before = arena.rig.kernel()
            arena.plant(*attack)
            assert (await arena.rig.apply()).outcome == "unchanged"
            assert arena.rig.kernel() == before
            assert await arena.rig.codes() == {"registry_object_refused"}
            assert (await arena.rig.status()).registry.root_version == 1
            await arena.assert_honest_changes_arrive(name)

    asyncio.run(scenario())


@pytest.mark.slow
def test_forged_grant(arena: Arena) -> None:
    mallory, thief = stranger(), fm.key("stranger")
    grant = grant_of(mallory, "10.77.0.99")
    own_log = fm.forge_statement(thief, grant, mesh=arena.mesh.ledger.mesh_id)
    key, body = next_statement(arena, grant, thief)
    in_his_name = (key, body.replace(thief.kid.encode(), ADMIN.kid.encode()))
    record = (mallory.key, mallory.body(mesh=arena.mesh.ledger.mesh_id))
    assert_refused(arena, (key, body), own_log, record)
    arena.rig = arena.daemon_of("tesla")
    assert_refused(arena, in_his_name, name="noether")


@pytest.mark.slow
def test_host_announcing_more_than_granted(arena: Arena) -> None:
    async def scenario() -> None:
        async with running(arena.rig):
            before = arena.routed()
            assert {"10.128.2.0/24", "10.128.3.0/24"} < before
            arena.plant(
                arena.record(
                    "newton",
                    networks=(
                        "0.0.0.0/0",
                        "10.77.0.3/32",
                        "10.128.2.0/24",
                        "10.128.3.0/25",
                        "10.128.9.0/24",
                    ),
                )
            )
            await arena.rig.apply()
            assert arena.routed() == before
            assert await arena.rig.codes() == {"network_not_granted"}
            await arena.assert_honest_changes_arrive()

    asyncio.run(scenario())


def test_fewer_than_threshold_root_keys(arena: Arena) -> None:
    """Two root keys must sign: one of them, or one and strangers, change nothing."""
    chain = arena.mesh.ledger.chain
    two = fm.next_root(chain, thresholds=msgspec.structs.replace(chain.root.thresholds, root=2))
    arena.sign_root(fm.sign_root(two, ADMIN, RECOVERY))
    chain, thief = arena.mesh.ledger.chain, fm.key("stranger")
    keys = {**chain.root.keys, thief.kid: build_root_key(thief.public, ("root", "admin"), "thief", ())}
    coup = fm.next_root(chain, keys=keys)

    async def scenario() -> None:
        async with running(arena.rig):
            before = arena.rig.kernel()
            for signers in ([ADMIN], [thief, ADMIN], [thief], [OTHER, thief, ADMIN]):
                arena.plant(*root_objects(fm.sign_root(coup, *signers)))
                assert (await arena.rig.apply()).outcome == "unchanged"
                assert (await arena.rig.status()).registry.root_version == 2
            assert arena.rig.kernel() == before
            arena.plant(*root_objects(fm.sign_root(coup, RECOVERY)))
            await arena.rig.apply()
            assert (await arena.rig.status()).registry.root_version == 3

    asyncio.run(scenario())


@pytest.mark.slow
def test_copied_admin_key(arena: Arena) -> None:
    """Two machines sign with one key: both branches count, nobody's host is lost, and it is said."""
    copy, fourth, key = arena.copied_signer(ADMIN), fm.key("noether"), PrivateKey.generate()
    record = fm.record("noether", mesh=arena.mesh.ledger.mesh_id, private_key=key)

    async def scenario() -> None:
        async with running(arena.rig):
            arena.mesh.add("curie")
            arena.publish_missing()
            await arena.rig.apply()
            arena.plant(
                copy.grant(
                    now=NOW,
                    hid=fourth.kid,
                    identity=fourth.public,
                    name="noether",
                    addresses=[parse_address("10.77.0.200")],
                ),
                record,
            )
            await arena.rig.apply()
            assert "registry_fork" in await arena.rig.codes()
            assert arena.peers() == {"newton", "bohr", "curie", str(key.public())}
            assert (await arena.rig.status()).registry.forks == 1

    asyncio.run(scenario())


@pytest.mark.slow
def test_stolen_admin_key_then_cut(arena: Arena) -> None:
    """A thief with an administrator's key adds a host and revokes one; the cut undoes both."""
    bohr = arena.mesh.hosts["bohr"].hid
    good = arena.say(LogSigner(arena.mesh.ledger, OTHER).revoke(bohr, "sold", now=NOW))
    thief, mallory = arena.copied_signer(OTHER), stranger()
    revoke = thief.revoke(arena.mesh.hosts["newton"].hid, "evil", now=NOW)
    grant = thief.grant(now=NOW, hid=mallory.hid, identity=mallory.identity.public, name="mallory")
    record = mallory.body(mesh=arena.mesh.ledger.mesh_id, version=int(NOW * 1000))

    async def scenario() -> None:
        async with running(arena.rig):
            assert arena.peers() == {"newton"}
            arena.plant(revoke, grant, (mallory.key, record))
            await arena.rig.apply()
            assert arena.peers() == {str(mallory.wireguard.public())}
            cut = fm.retire(arena.mesh.ledger.chain, OTHER.kid, (1, fm.hash_of(good)))
            arena.sign_root(fm.sign_root(cut, ADMIN))
            await arena.rig.apply()
            assert arena.peers() == {"newton"}
            arena.plant(thief.revoke(mallory.hid, "again", now=NOW))
            assert (await arena.rig.apply()).outcome == "unchanged"
            await arena.assert_honest_changes_arrive()

    asyncio.run(scenario())


@pytest.mark.slow
def test_stolen_host_key(arena: Arena) -> None:
    """It speaks for its host until a grant of the next generation, and never for another host."""
    newton, evil = arena.mesh.hosts["newton"], PrivateKey.generate()
    fresh = fm.key("newton's second identity")

    async def scenario() -> None:
        async with running(arena.rig):
            _, for_another = arena.record("newton", endpoints=("192.0.2.66:1",))
            arena.plant((arena.mesh.hosts["bohr"].key, for_another))
            await arena.rig.apply()
            assert arena.peers() == {"newton", "bohr"}
            assert "registry_object_refused" in await arena.rig.codes()
            arena.plant(arena.record("newton", wireguard=str(evil.public())))
            await arena.rig.apply()
            assert arena.peers() == {str(evil.public()), "bohr"}
            arena.say(
                arena.mesh.signer.grant(now=NOW, hid=newton.hid, identity=fresh.public, name="newton", gen=2)
            )
            await arena.rig.apply()
            assert arena.peers() == {"bohr"}
            for gen in (1, 2):
                version = int(NOW * 1000) + 9
                arena.plant(arena.record("newton", wireguard=str(evil.public()), gen=gen, version=version))
                await arena.rig.apply()
                assert arena.peers() == {"bohr"}
            honest = fm.record(
                "newton",
                mesh=arena.mesh.ledger.mesh_id,
                hid=newton.hid,
                gen=2,
                signer=fresh,
                version=int(NOW * 1000),
                private_key=newton.wireguard,
            )
            arena.plant(honest)
            await arena.rig.apply()
            assert arena.peers() == {"newton", "bohr"}

    asyncio.run(scenario())


def test_cross_kind_replay(arena: Arena) -> None:
    """What was signed as one kind is no other kind, under its own label or a false one."""
    grant = grant_of(stranger(), "10.77.0.99")
    as_record = next_statement(arena, grant, ADMIN, HOST_RECORD_TYPE)
    key, body = next_statement(arena, grant, ADMIN, ROOT_TYPE)
    relabelled = body.replace(ROOT_TYPE.encode(), STATEMENT_TYPE.encode())
    newton = arena.mesh.hosts["newton"]
    payload = base64.b64decode(json.loads(arena.record("newton")[1])["payload"])
    record_as_statement = render_envelope(newton.identity.sign(payload, STATEMENT_TYPE))
    assert_refused(arena, as_record, (key, relabelled), (newton.key, record_as_statement))


@pytest.mark.slow
def test_cross_mesh_replay(arena: Arena) -> None:
    """One administrator of two meshes: what is true in one says nothing in the other."""
    elsewhere = create_mesh()
    elsewhere.add("mallory")
    replayed = [item for item in elsewhere.objects.items() if not item[0].startswith("host/")]
    newton = arena.mesh.hosts["newton"]
    record = newton.body(version=int(NOW * 1000), mesh=elsewhere.ledger.mesh_id)
    assert_refused(arena, *replayed, (newton.key, record))


def test_duplicate_json_keys(arena: Arena) -> None:
    """Two readers of one text must not read two things: a payload or an envelope that could is refused."""
    grant = grant_of(stranger(), "10.77.0.99")
    _, body = next_statement(arena, grant, ADMIN)
    payload = base64.b64decode(json.loads(body)["payload"])
    doubled = payload.replace(b'"type":"grant"', b'"type":"grant","type":"grant"')
    seq = arena.mesh.ledger.own_log(ADMIN.kid)[-1].statement.seq + 1
    signed = render_envelope(ADMIN.sign(doubled, STATEMENT_TYPE))
    key, record = arena.record("newton", endpoints=("192.0.2.66:1",))
    twice = record.replace(b'{"payload":', b'{"payload":"","payload":', 1)
    assert_refused(arena, (log_key(ADMIN.kid, seq, payload_hash(doubled)), signed), (key, twice))


def test_enrollment_record_of_somebody_else(arena: Arena) -> None:
    """The one record that names no mesh, replayed at a host that has a newer one."""
    newton = arena.mesh.hosts["newton"]
    enrollment = fm.record(
        "newton",
        mesh="",
        hid=newton.hid,
        version=0,
        signer=newton.identity,
        private_key=PrivateKey.generate(),
    )

    async def scenario() -> None:
        async with running(arena.rig):
            arena.plant(enrollment, (host_key(arena.mesh.hosts["bohr"].hid), enrollment[1]))
            assert (await arena.rig.apply()).outcome == "unchanged"
            assert arena.peers() == {"newton", "bohr"}

    asyncio.run(scenario())
