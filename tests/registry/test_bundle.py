"""What travels by hand: the request of a new host and the bundle it joins with."""

from __future__ import annotations

import base64
import json
from typing import Any

import fakemesh as fm
import msgspec
import pytest
from msgspec.structs import replace

from meshd.errors import RegistryError
from meshd.model.keys import PrivateKey
from meshd.registry.bundle import (
    JoinBundle,
    S3Credentials,
    build_bundle,
    build_request,
    open_bundle,
    parse_bundle,
    parse_request,
    render_bundle,
)
from meshd.registry.canonical import encode, encode_base64
from meshd.registry.envelope import parse_envelope, render_envelope
from meshd.registry.key_proof import prove_key
from meshd.registry.layout import host_key
from meshd.registry.ledger import Ledger
from meshd.registry.record import build_record
from meshd.registry.signer import LogSigner
from meshd.registry.signing import render_fingerprint

ADMIN = fm.key("admin0")
NEWTON = fm.key("newton")


def make_request(name: str = "newton", *, hid: str = NEWTON.kid, version: int = 0) -> str:
    record = build_record(
        mesh="" if version == 0 else fm.MESH,
        hid=hid,
        gen=1,
        version=version,
        private_key=PrivateKey(bytes(range(32))),
        listen_port=51820,
    )
    return build_request(name, NEWTON, record)


def join(ledger: Ledger) -> JoinBundle:
    request = parse_request(make_request())
    ledger.offer(host_key(request.hid), request.record_body)
    LogSigner(ledger, ADMIN).grant(now=fm.NOW, hid=request.hid, identity=request.identity, name=request.name)
    return build_bundle(ledger, request.hid, s3=S3Credentials(access_key="GK1", secret_key="s3cr3t"))


def test_a_host_enrolls_and_joins() -> None:
    ledger = Ledger(fm.make_chain())
    fm.grant(ledger, ADMIN, "tesla")
    fm.fill(ledger, [fm.record("tesla")])
    bundle = join(ledger)
    shown = render_fingerprint(ledger.chain.fingerprint)
    opened, read = open_bundle(f"\n {render_bundle(bundle)}\n", shown)
    assert read == bundle
    assert opened.membership(fm.NOW) == ledger.membership(fm.NOW)
    assert list(opened.objects()) == list(ledger.objects())
    record = opened.membership(fm.NOW).hosts[NEWTON.kid].record
    assert record is not None and record.version == 0


def test_a_request_proves_that_the_host_has_its_wireguard_key() -> None:
    """Nobody is granted a place with the key of another host, read off the registry."""
    key = fm.wireguard_key("tesla")
    record = build_record(
        mesh="", hid=NEWTON.kid, gen=1, version=0, private_key=PrivateKey.generate(), listen_port=51820
    )
    copied = encode_base64(prove_key(key, fm.key("tesla").kid))
    for proof in (record.proof, copied):
        lie = msgspec.structs.replace(record, wireguard=str(key.public()), proof=proof)
        with pytest.raises(RegistryError, match="no proof"):
            parse_request(build_request("newton", NEWTON, lie))


def test_credentials_of_a_bundle_do_not_render() -> None:
    bundle = join(Ledger(fm.make_chain()))
    assert "s3cr3t" not in repr(bundle) and "s3cr3t" not in str(bundle.s3)
    assert "s3cr3t" in render_bundle(bundle)


def test_bundle_of_another_mesh_is_found_by_its_fingerprint() -> None:
    bundle = join(Ledger(fm.make_chain(mesh="cd" * 16)))
    with pytest.raises(RegistryError, match="fingerprint"):
        open_bundle(render_bundle(bundle), fm.make_chain().fingerprint)


def test_changed_bundles_are_refused() -> None:
    ledger = Ledger(fm.make_chain())
    first = fm.grant(ledger, ADMIN, "tesla")
    bundle = join(ledger)
    replaced = msgspec.structs.replace
    without_last = tuple(item for item in bundle.objects if not item[0].endswith(f"{fm.hash_of(first)}.json"))
    forged = tuple((key, body.replace("A", "B", 1)) for key, body in bundle.objects)
    for changed, message in (
        (replaced(bundle, mesh="cd" * 16), "mesh"),
        (replaced(bundle, fingerprint="0" * 64), "root"),
        (replaced(bundle, roots=()), "no root"),
        (replaced(bundle, objects=without_last), "incomplete"),
        (replaced(bundle, objects=()), "incomplete"),
        (replaced(bundle, objects=forged), "log/"),
        (replaced(bundle, hid="0" * 32), "no grant"),
    ):
        with pytest.raises(RegistryError, match=message):
            open_bundle(render_bundle(changed))


def test_heads_of_a_bundle_name_every_log() -> None:
    """Without them a bundle could keep anything from a newborn."""
    bundle = join(Ledger(fm.make_chain()))
    with pytest.raises(RegistryError, match="1 statements seen, 0 expected"):
        open_bundle(render_bundle(msgspec.structs.replace(bundle, heads={})))


def test_a_request_has_one_signature_without_and_one_within() -> None:
    request = make_request()
    twice = fm.key("x").cosign(parse_envelope(request.encode(), 8192))
    with pytest.raises(RegistryError, match="not signed by the identity key"):
        parse_request(render_envelope(twice).decode())


def test_no_bundle_for_strangers_and_revoked_hosts() -> None:
    ledger = Ledger(fm.make_chain())
    bundle = join(ledger)
    with pytest.raises(RegistryError, match="no grant"):
        build_bundle(ledger, "0" * 32)
    LogSigner(ledger, ADMIN).revoke(NEWTON.kid, "no", now=fm.NOW)
    with pytest.raises(RegistryError, match="revoked"):
        build_bundle(ledger, NEWTON.kid)
    assert parse_bundle(render_bundle(bundle)) == bundle


def test_a_newborn_with_a_wrong_clock_joins_all_the_same() -> None:
    ledger = Ledger(fm.make_chain())
    fm.grant(ledger, ADMIN, "tesla")
    fm.fill(ledger, [fm.record("tesla", version=int(fm.NOW * 1000))])
    text = render_bundle(join(ledger))
    opened, _ = open_bundle(text)
    assert fm.names(opened, 0.0) == {"tesla", "newton"}
    assert opened.membership(fm.NOW) == ledger.membership(fm.NOW)


def test_requests_prove_their_key_and_nothing_else_is_one() -> None:
    request = parse_request(f"  {make_request()}\n")
    assert (request.name, request.hid, request.identity) == ("newton", NEWTON.kid, NEWTON.public)
    for index in range(40, 400, 23):
        text = make_request()
        other = "A" if text[index] != "A" else "B"
        with pytest.raises(RegistryError):
            parse_request(text[:index] + other + text[index + 1 :])
    envelope = parse_envelope(make_request().encode(), 8192)
    renamed = replace(envelope, payload=envelope.payload.replace(b"newton", b"mallor"))
    fields = json.loads(envelope.payload)
    record = parse_envelope(base64.b64decode(fields["record"]))
    forged = fm.key("x").sign(record.payload, record.payload_type).signatures[0].sig
    signature = replace(record.signatures[0], sig=forged)
    body = render_envelope(replace(record, signatures=(signature,)))
    inner = {**fields, "record": base64.b64encode(body).decode()}
    for changed in (renamed, NEWTON.sign(encode(inner), envelope.payload_type)):
        with pytest.raises(RegistryError, match="not signed"):
            parse_request(render_envelope(changed).decode())
    cases: list[dict[str, Any]] = [{"name": "New Ton"}, {"hid": fm.key("tesla").kid}, {"version": 1}]
    for arguments in cases:
        with pytest.raises(RegistryError):
            make_request(**arguments)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ('{"format":"wgctl-draft/1"}', "another format, 'wgctl-draft/1',"),
        (
            '{"payload":"","payloadType":"application/vnd.wg-meshd.enrollment.v1+json"}',
            "an enrollment request",
        ),
        ('{"payload":"","payloadType":"application/vnd.wg-meshd.root.v1+json"}', "a signed document"),
    ],
)
def test_another_file_in_a_bundles_place_is_named(text: str, seen: str) -> None:
    with pytest.raises(
        RegistryError, match=f"join bundle: {seen} seen, the file from wgctl add-host expected"
    ):
        parse_bundle(text)


def test_a_bundle_in_a_requests_place_is_named() -> None:
    expected = "enrollment request: a join bundle seen, the file from meshd enroll expected"
    with pytest.raises(RegistryError, match=expected):
        parse_request('{"format":"wg-meshd-bundle/1","mesh":""}')
