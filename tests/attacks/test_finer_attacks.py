"""Attacks that aim at one rule each: what the broad ones could miss if that rule alone were gone."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import fakemesh as fm
import msgspec
import pytest
from arena import ADMIN, OTHER, RECOVERY, create_mesh

from meshd.errors import RegistryError, TrustStateError
from meshd.registry.cache import RegistryCache
from meshd.registry.canonical import MAX_INTEGER, decode_base64, encode_base64
from meshd.registry.envelope import (
    MAX_ENVELOPE_BYTES,
    MAX_ROOT_BYTES,
    Envelope,
    parse_envelope,
    render_envelope,
)
from meshd.registry.layout import host_key, log_key, mesh_prefix
from meshd.registry.ledger import Ledger
from meshd.registry.record_index import MAX_IDENTITIES_PER_HOST
from meshd.registry.root import RootChain, parse_root_payload, root_objects
from meshd.registry.segment import parse_segment, render_segment
from meshd.registry.signer import LogSigner, build_root_key
from meshd.registry.statement import Grant
from meshd.registry.sync import THOROUGH_EVERY_POLLS, PollMemory, poll
from meshd.registry.unjudged import MAX_PENDING_BODIES, MAX_PENDING_OBJECTS
from meshd.store.memory import MemoryStore

NEWTON, TESLA = fm.key("newton"), fm.key("tesla")
JUNK = encode_base64(bytes(64)).encode()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(fm.make_chain(2))


def grant_body(name: str, address: str, *, hid: str = "", gen: int = 1) -> Grant:
    host = fm.key(name)
    return Grant(
        hid=hid or host.kid,
        name=name,
        gen=gen,
        identity=encode_base64(host.public),
        addresses=(address,),
        networks=(),
        region="",
        roles=(),
        tags=(),
        expires=0,
    )


def outcome(ledger: Ledger, item: fm.StoreObject) -> str:
    return ledger.offer(*item).outcome


def test_second_signature_on_a_statement(ledger: Ledger) -> None:
    """It would say nothing and give one statement two spellings, with which two hosts never agree."""
    key, body = fm.forge_statement(ADMIN, grant_body("tesla", "10.77.0.9"))
    cosigned = render_envelope(fm.key("stranger").cosign(parse_envelope(body)))
    assert outcome(ledger, (key, cosigned)) == "refused"
    assert outcome(ledger, (key, body)) == "new"


def test_host_id_of_another_key(ledger: Ledger) -> None:
    """An administrator by mistake, or by malice, names his own key as the first one of another host."""
    squatting = fm.forge_statement(ADMIN, grant_body("mallory", "10.77.0.9", hid=TESLA.kid))
    assert outcome(ledger, squatting) == "refused"


def test_retired_key_cannot_name_an_older_root(ledger: Ledger) -> None:
    """What it might grant is what the root says of that part of its log, whatever root a statement names."""
    inside = fm.grant(ledger, OTHER, "tesla")
    outside = fm.grant(ledger, OTHER, "newton")
    assert fm.names(ledger) == {"tesla", "newton"}
    cut = fm.retire(ledger.chain, OTHER.kid, (2, fm.hash_of(outside)))
    (former,) = cut.retired[OTHER.kid].former
    former = msgspec.structs.replace(former, overlay=("10.77.16.0/31", "fd12:3456:789a::/64"))
    narrow = msgspec.structs.replace(cut.retired[OTHER.kid], former=(former,))
    fm.offer_root(ledger, fm.sign_root(msgspec.structs.replace(cut, retired={OTHER.kid: narrow}), ADMIN))
    assert fm.names(ledger) == {"tesla"} and "grant_outside_pool" in fm.codes(ledger)
    assert ledger.body(inside[0]) is not None


def test_new_root_keys_must_sign_too() -> None:
    """A root that names keys which nobody holds would be the last one: it is not taken."""
    chain = fm.make_chain()
    lost = fm.key("lost")
    keys = {
        ADMIN.kid: msgspec.structs.replace(chain.root.keys[ADMIN.kid], roles=("admin",)),
        lost.kid: build_root_key(lost.public, ("root",), "lost", ()),
    }
    with pytest.raises(RegistryError, match="too few good signatures"):
        chain.advance(fm.sign_root(fm.next_root(chain, keys=keys), ADMIN, RECOVERY))


def test_first_root_that_nobody_signed() -> None:
    root = fm.make_chain().root
    for signers in ([fm.key("stranger")], [OTHER]):
        with pytest.raises(RegistryError, match="too few good signatures"):
            RootChain.start(fm.sign_root(root, *signers))


def test_overwritten_pieces_of_a_trusted_root(ledger: Ledger) -> None:
    payload, *signatures = root_objects(ledger.chain.current.envelope)
    (key, body) = signatures[0]
    damaged = encode_base64(bytes(64)).encode()
    assert outcome(ledger, (key, damaged)) == "refused"
    assert outcome(ledger, (payload[0], payload[1].replace(b"labnet", b"labnot"))) == "refused"
    assert {item.code for item in ledger.refusals()} == {"registry_object_refused"}
    assert (outcome(ledger, (key, body)), outcome(ledger, payload)) == ("known", "known")
    assert ledger.refusals() == ()


def test_statement_on_a_past_that_does_not_exist(ledger: Ledger) -> None:
    """With a stolen key: a number far ahead on an invented past, above what a later cut would name."""
    fm.grant(ledger, ADMIN, "tesla")
    for seq, prev in ((2, "0" * 64), (9, "1" * 64)):
        ledger.offer(*fm.forge_statement(ADMIN, grant_body("mallory", "10.77.0.99"), seq=seq, prev=prev))
        assert fm.names(ledger) == {"tesla"} and "registry_gap" in fm.codes(ledger)


def test_record_of_a_generation_that_its_key_does_not_have(ledger: Ledger) -> None:
    """The key of generation 1 is worthless after generation 2, whatever generation its record claims."""
    fm.grant(ledger, ADMIN, "tesla")
    fm.grant(ledger, ADMIN, "tesla", gen=2, identity=fm.key("second").public)
    assert outcome(ledger, fm.record("tesla", version=9, gen=2)) == "refused"
    assert ledger.membership(fm.NOW).hosts[TESLA.kid].record is None


def test_record_under_another_hosts_key(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla")
    fm.grant(ledger, ADMIN, "newton")
    assert outcome(ledger, (host_key(NEWTON.kid), fm.record("tesla")[1])) == "refused"
    assert ledger.record_bytes(NEWTON.kid) is None and ledger.record_bytes(TESLA.kid) is None


def test_enrollment_record_that_names_a_mesh(ledger: Ledger) -> None:
    """Version 0 is older than every record, in every mesh: it must not be a way past the mesh id."""
    fm.grant(ledger, ADMIN, "tesla")
    good = fm.record("tesla", version=0, mesh="")
    payload = msgspec.json.decode(parse_envelope(good[1]).payload)
    named = msgspec.json.encode({**payload, "mesh": "cd" * 16}, order="sorted")
    kind = parse_envelope(good[1]).payload_type
    assert outcome(ledger, (good[0], render_envelope(TESLA.sign(named, kind)))) == "refused"
    assert outcome(ledger, good) == "new"


def test_second_spelling_of_a_key() -> None:
    """The last digit of a 32-byte key in base64 has two bits to spare."""
    text = encode_base64(TESLA.public)
    twin = text[:-2] + chr(ord(text[-2]) + 1) + "="
    assert base64.b64decode(twin) == TESLA.public
    with pytest.raises(RegistryError, match="canonical base64"):
        decode_base64(twin, "key", size=32)


def test_endless_data_in_a_well_formed_envelope(ledger: Ledger) -> None:
    """Signed and right in everything but its size."""
    body = msgspec.structs.replace(
        grant_body("tesla", "10.77.0.9"), tags=tuple(f"tag{number:04d}" for number in range(300))
    )
    key, signed = fm.forge_statement(ADMIN, body)
    assert len(signed) > MAX_ENVELOPE_BYTES
    assert outcome(ledger, (key, signed)) == "refused"


def test_endless_root() -> None:
    root = fm.make_chain().root
    many = msgspec.structs.replace(
        root,
        ranges=msgspec.structs.replace(
            root.ranges,
            jail=root.ranges.jail
            + tuple(f"10.{second}.{third}.0/24" for second in range(1, 17) for third in range(256)),
        ),
    )
    payload = fm.sign_root(many, ADMIN).payload
    assert len(payload) > MAX_ROOT_BYTES
    with pytest.raises(RegistryError, match="bytes seen"):
        parse_root_payload(payload)


def test_endless_generations_of_one_host(ledger: Ledger) -> None:
    """A stolen administrator's key grants generation after generation: the oldest records go."""
    count = MAX_IDENTITIES_PER_HOST + 3
    for gen in range(1, count + 1):
        identity = TESLA if gen == 1 else fm.key(f"tesla{gen}")
        fm.grant(ledger, ADMIN, "tesla", gen=gen, identity=identity.public)
        ledger.offer(*fm.record("tesla", version=gen, gen=gen, signer=identity))
    first = fm.record("tesla", version=1)
    assert outcome(ledger, first) != "known"
    held = ledger.membership(fm.NOW).hosts[TESLA.kid].record
    assert held is not None and held.version == count


@pytest.mark.slow
def test_endless_statements_of_keys_that_no_root_names(ledger: Ledger) -> None:
    """They wait in bounded memory; the oldest is forgotten, and taken when it is shown again."""
    new_admin = fm.key("grace")
    first = fm.forge_statement(new_admin, grant_body("tesla", "10.77.0.9"))
    assert outcome(ledger, first) == "pending"
    stranger = fm.key("stranger")
    for number in range(MAX_PENDING_OBJECTS):
        junk = fm.forge_statement(stranger, grant_body("mallory", "10.77.0.9"), root=number + 1)
        assert outcome(ledger, junk) == "pending"
    pools = [fm.network("10.77.0.8/30")]
    keys = {
        kid: msgspec.structs.replace(value, pools=()) if kid == ADMIN.kid else value
        for kid, value in ledger.chain.root.keys.items()
    }
    keys[new_admin.kid] = build_root_key(new_admin.public, ("admin",), "grace", pools)
    fm.offer_root(ledger, fm.sign_root(fm.next_root(ledger.chain, keys=keys), ADMIN))
    assert ledger.body(first[0]) is None
    assert outcome(ledger, first) == "new"


def test_endless_records_before_their_grant(ledger: Ledger) -> None:
    honest = fm.record("tesla", version=2)
    assert outcome(ledger, honest) == "pending"
    for number in range(MAX_PENDING_BODIES):
        assert outcome(ledger, fm.record("tesla", version=3 + number, signer=NEWTON)) == "pending"
    fm.grant(ledger, ADMIN, "tesla")
    assert ledger.record_bytes(TESLA.kid) is None
    assert outcome(ledger, honest) == "new"


def junk_roots(chain: RootChain, count: int) -> list[fm.StoreObject]:
    """Root payloads that nobody signed, each right in itself."""
    return [
        root_objects(fm.sign_root(fm.next_root(chain, max_hosts=number + 1), ADMIN))[0]
        for number in range(count)
    ]


def test_endless_roots_that_wait(ledger: Ledger) -> None:
    payload, signature = root_objects(fm.sign_root(fm.next_root(ledger.chain, max_hosts=900), ADMIN))
    assert outcome(ledger, payload) == "pending"
    fm.fill(ledger, junk_roots(ledger.chain, 40))
    assert outcome(ledger, signature) == "pending" and ledger.chain.version == 1
    assert outcome(ledger, payload) == "new" and ledger.chain.version == 2


def test_endless_signatures_of_a_root(ledger: Ledger) -> None:
    """Before the payload is there none can be judged: few are kept, first of all those of keys in force."""
    new = fm.key("grace")
    keys = {**ledger.chain.root.keys, new.kid: build_root_key(new.public, ("root",), "grace", ())}
    two = msgspec.structs.replace(ledger.chain.root.thresholds, root=2)
    root = fm.next_root(ledger.chain, keys=keys, thresholds=two)
    payload, *signatures = root_objects(fm.sign_root(root, ADMIN, new))
    by = {each[0].split(".")[1]: each for each in signatures}
    for each in (by[ADMIN.kid], by[new.kid]):
        assert outcome(ledger, each) == "pending"
    for number in range(200):
        key = payload[0].replace("json", f"{number:032x}.sig")
        assert outcome(ledger, (key, JUNK)) == "pending"
    assert outcome(ledger, payload) == "pending"
    (proposal,) = ledger.proposals()
    assert [each.kid for each in proposal.signatures] == [ADMIN.kid]
    assert outcome(ledger, by[new.kid]) == "new" and ledger.chain.version == 2


def test_flooded_signatures_do_not_hold_a_root_back() -> None:
    """A member with write access buries the two signatures of the root that cuts a thief off."""
    mesh, store = create_mesh(), MemoryStore()
    chain = mesh.ledger.chain
    two = fm.next_root(chain, thresholds=msgspec.structs.replace(chain.root.thresholds, root=2))
    fm.offer_root(mesh.ledger, fm.sign_root(two, ADMIN, RECOVERY))
    chain = mesh.ledger.chain
    prefix = mesh_prefix(mesh.ledger.mesh_id)
    payload, *signatures = root_objects(fm.sign_root(fm.retire(chain, OTHER.kid, (0, "")), ADMIN, RECOVERY))
    first = min(ADMIN.kid, RECOVERY.kid)
    junk_kids = (f"{int(first, 16) + number + 1:032x}" for number in range(300))
    junk = [(signatures[0][0].replace(ADMIN.kid, kid).replace(RECOVERY.kid, kid), JUNK) for kid in junk_kids]
    for key, body in (payload, *signatures, *junk, *junk_roots(chain, 40)):
        store.plant(prefix + key, body)
    ledger = Ledger(chain)
    assert poll(store, ledger, now=fm.NOW, memory=PollMemory()).complete
    assert ledger.chain.version == 3


def test_signatures_that_were_pushed_out_are_fetched_again() -> None:
    """The flood comes first, alone; the payload that would have told junk from good is shown later."""
    mesh, store = create_mesh(), MemoryStore()
    prefix = mesh_prefix(mesh.ledger.mesh_id)
    payload, signature = root_objects(fm.sign_root(fm.next_root(mesh.ledger.chain), ADMIN))
    store.put(prefix + signature[0], signature[1])
    for number in range(300):
        kid = f"{'f' * 24}{number:08x}"
        store.plant(prefix + signature[0].replace(ADMIN.kid, kid), JUNK)
    ledger, memory = Ledger(mesh.ledger.chain), PollMemory()
    poll(store, ledger, now=fm.NOW, memory=memory)
    store.put(prefix + payload[0], payload[1])
    for _ in range(THOROUGH_EVERY_POLLS + 1):
        poll(store, ledger, now=fm.NOW, memory=memory)
    assert ledger.chain.version == 2


def test_bytes_planted_in_the_trust_file(tmp_path: Path, ledger: Ledger) -> None:
    RegistryCache(tmp_path / "registry").create(ledger)
    trust = tmp_path / "registry" / "trust"
    trust.write_bytes(trust.read_bytes() + b"somebody was here")
    with pytest.raises(TrustStateError, match="damaged"):
        RegistryCache(tmp_path / "registry").load()


def test_shortened_root_chain_in_the_cache(tmp_path: Path, ledger: Ledger) -> None:
    """The newest root taken out of the file, checksums and all: the anchor beside it tells."""
    fm.offer_root(ledger, fm.sign_root(fm.next_root(ledger.chain, max_hosts=9), ADMIN))
    RegistryCache(tmp_path / "registry").create(ledger)
    trust = tmp_path / "registry" / "trust"
    entries = [entry for entry in parse_segment(trust.read_bytes()).entries if "root/000002" not in entry[0]]
    trust.write_bytes(render_segment(entries))
    (tmp_path / "registry" / "objects").unlink()
    with pytest.raises(TrustStateError, match=r"root 1 .* seen, .* root 2"):
        RegistryCache(tmp_path / "registry").load()


def test_flipped_bits_in_the_cache_are_counted(tmp_path: Path, ledger: Ledger) -> None:
    """Damage that no signature would find, in a name, is found by the checksum and said."""
    fm.grant(ledger, ADMIN, "tesla")
    ledger.offer(*fm.record("tesla"))
    RegistryCache(tmp_path / "registry").create(ledger)
    objects = tmp_path / "registry" / "objects"
    good = objects.read_bytes()
    objects.write_bytes(good.replace(b"host/", b"hosT/", 1))
    cache = RegistryCache(tmp_path / "registry")
    cache.load()
    assert cache.report.damaged_bytes > 0 and "damaged" in " ".join(cache.report.reasons)


def test_signature_that_names_another_key(ledger: Ledger) -> None:
    """The key id beside a signature proves nothing: it only says which key to try."""
    key, body = fm.forge_statement(fm.key("stranger"), grant_body("mallory", "10.77.0.9"), by=ADMIN.kid)
    envelope = parse_envelope(body)
    renamed = Envelope(
        payload=envelope.payload,
        payload_type=envelope.payload_type,
        signatures=(type(envelope.signatures[0])(ADMIN.kid, envelope.signatures[0].sig),),
    )
    assert outcome(ledger, (key, render_envelope(renamed))) == "refused"
    assert json.loads(render_envelope(renamed))["signatures"][0]["keyid"] == ADMIN.kid
    assert key == log_key(ADMIN.kid, 1, fm.hash_of((key, body)))


def test_rotation_of_the_end_of_time(ledger: Ledger) -> None:
    """Taken at its word it would ask for a new key for ever, or hide every request that is meant."""
    fm.grant(ledger, ADMIN, "tesla")
    thief, honest = LogSigner(ledger, OTHER), LogSigner(ledger, ADMIN)
    thief.rotate([], MAX_INTEGER, now=fm.NOW)
    assert ledger.membership(fm.NOW).hosts[TESLA.kid].rotate_not_before == 0
    for later in (0, 60):
        honest.rotate([TESLA.kid], int(fm.NOW) + later, now=fm.NOW)
        assert ledger.membership(fm.NOW + later).hosts[TESLA.kid].rotate_not_before == fm.NOW + later
    assert ledger.membership(fm.NOW + 10**9).hosts[TESLA.kid].rotate_not_before == fm.NOW + 60
