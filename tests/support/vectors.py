"""The test vectors of docs/registry-format.md: fixed seeds in, exact bytes out.

    .venv/bin/python tests/support/vectors.py      writes tests/vectors/*.json

Every key is the Ed25519 key whose seed is the SHA-256 of a name. Another implementation of
the format has to reproduce what can be made, accept what is valid, come to the same membership
and refuse the rest.
"""

from __future__ import annotations

import json
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any, Final

import fakemesh as fm
import msgspec
from refusal_vectors import build_refusals
from scenario_vectors import build_scenarios
from signature_vectors import build_signatures

from meshd.model.keys import PrivateKey
from meshd.model.network import Endpoint
from meshd.model.rescue_key import rescue_private_key
from meshd.registry.allocation import allocate_address, derive_link_address
from meshd.registry.bundle import build_bundle, build_request, render_bundle
from meshd.registry.canonical import decode_base64, encode, encode_base64
from meshd.registry.envelope import (
    ENROLLMENT_TYPE,
    HOST_RECORD_TYPE,
    KEY_REQUEST_TYPE,
    ROOT_TYPE,
    STATEMENT_TYPE,
    pae,
    parse_envelope,
    payload_hash,
    render_envelope,
)
from meshd.registry.key_proof import edwards_form, prove_key
from meshd.registry.key_request import build_key_request
from meshd.registry.ledger import Ledger
from meshd.registry.record import build_record
from meshd.registry.signing import render_fingerprint, render_recovery_words

DIRECTORY: Final = Path(__file__).resolve().parents[1] / "vectors"
NAMES: Final = ("admin0", "admin1", "recovery", "tesla", "newton", "bohr", "stranger")
ADMIN, OTHER = fm.key("admin0"), fm.key("admin1")
TESLA, NEWTON, BOHR = fm.key("tesla"), fm.key("newton"), fm.key("bohr")


def build_vectors() -> dict[str, Any]:
    """File name -> document."""
    return {
        "keys.json": build_keys(),
        "canonical.json": build_canonical(),
        "signatures.json": build_signatures(),
        "envelopes.json": build_envelopes(),
        "addresses.json": build_addresses(),
        "scenarios.json": build_scenarios(),
        "refuse.json": build_refusals(),
        "enrollment.json": build_enrollment(),
        "key_request.json": build_key_requests(),
        "wireguard.json": build_key_proofs(),
    }


def build_keys() -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "seed_hex": key.seed().hex(),
            "public_hex": key.public.hex(),
            "public_base64": encode_base64(key.public),
            "kid": key.kid,
            "fingerprint": render_fingerprint(key.kid),
            "recovery_words": render_recovery_words(key),
            "rescue_public": str(rescue_private_key(key.seed()).public()),
        }
        for name, key in ((name, fm.key(name)) for name in NAMES)
    ]


def build_key_proofs() -> list[dict[str, str]]:
    """Both signs of the Ed25519 form occur among them."""
    proofs = []
    for name in NAMES:
        key, host = fm.wireguard_key(name), fm.key(name)
        proofs.append(
            {
                "private_hex": key.reveal().hex(),
                "public": str(key.public()),
                "ed25519_hex": edwards_form(key.public()).hex(),
                "hid": host.kid,
                "proof": encode_base64(prove_key(key, host.kid)),
            }
        )
    return proofs


def build_canonical() -> dict[str, Any]:
    values: list[Any] = [
        {},
        [],
        0,
        2**53 - 1,
        "",
        "plain",
        "Grüße, 世界",
        'quote " backslash \\',
        None,
        True,
        False,
        {"b": 2, "a": 1, "aa": {"z": [], "y": {}}},
        [1, [2, [3]]],
        {"port": 51820, "text": "a/b"},
    ]
    refuse = {
        "keys not sorted": b'{"b":1,"a":2}',
        "a key twice": b'{"a":1,"a":1}',
        "white space": b'{"a": 1}',
        "trailing white space": b'{"a":1} ',
        "a second value": b'{"a":1}{}',
        "a float": b'{"a":1.0}',
        "an exponent": b'{"a":1e3}',
        "a negative integer": b'{"a":-1}',
        "2 to the 53rd": b'{"a":9007199254740992}',
        "a leading zero": b'{"a":01}',
        "a needless escape": b'{"a":"\\u0041"}',
        "an escaped slash": b'{"a":"\\/"}',
        "a control character": b'{"a":"\\n"}',
        "a delete character": b'{"a":"\x7f"}',
        "a key outside ASCII": '{"é":1}'.encode(),
        "a direction-changing character": '{"a":"\u202e"}'.encode(),
        **{
            f"{name}, which nobody sees": f'{{"a":"{char}"}}'.encode()
            for name, char in {
                "Arabic letter mark": "\u061c",
                "soft hyphen": "\u00ad",
                "word joiner": "\u2060",
                "language tag": "\U000e0001",
                "Hangul filler": "\u3164",
                "variation selector": "\ufe0f",
                "no-break space": "\u00a0",
                "private use": "\ue000",
                "noncharacter": "\U0001fffe",
            }.items()
        },
        "a zero-width character": '{"a":"\u200b"}'.encode(),
        "not UTF-8": b'{"a":"\xff"}',
        "nothing": b"",
        "a byte order mark": b"\xef\xbb\xbf{}",
        "nested 17 deep": b"[" * 17 + b"1" + b"]" * 17,
        "NaN": b"NaN",
    }
    return {
        "accept": [{"value": value, "bytes_hex": encode(value).hex()} for value in values],
        "refuse": [{"why": why, "bytes_hex": body.hex()} for why, body in refuse.items()],
    }


def build_envelopes() -> list[dict[str, str]]:
    payload = encode({"hello": "world"})
    vectors = []
    for name, kind in (("tesla", HOST_RECORD_TYPE), ("admin0", STATEMENT_TYPE), ("recovery", ROOT_TYPE)):
        key = fm.key(name)
        envelope = key.sign(payload, kind)
        vectors.append(
            {
                "signer": name,
                "payload_type": kind,
                "payload": payload.decode(),
                "payload_hash": payload_hash(payload),
                "pae_hex": pae(kind, payload).hex(),
                "signature_hex": envelope.signatures[0].sig.hex(),
                "envelope": render_envelope(envelope).decode(),
            }
        )
    return vectors


def build_addresses() -> dict[str, Any]:
    ranges = ("fd12:3456:789a::/48", "fd12:3456:789a::/64", "2001:db8::/96")
    used = ("10.77.0.1", "10.77.0.2", "10.77.0.4")
    pools = ("10.77.8.0/30", "10.77.0.0/29")
    lowest = allocate_address(
        [fm.network(text) for text in pools],
        {fm.network(text).network_address for text in (f"{address}/32" for address in used)},
    )
    return {
        "derived": [
            {"range": text, "hid": hid, "address": str(derive_link_address(IPv6Network(text), hid))}
            for text in ranges
            for hid in (TESLA.kid, NEWTON.kid, "0" * 31 + "1", "f" * 32)
        ],
        "lowest_free": {"pools": pools, "used": used, "address": str(lowest)},
    }


def build_enrollment() -> dict[str, Any]:
    record = build_record(
        mesh="",
        hid=NEWTON.kid,
        gen=1,
        version=0,
        private_key=PrivateKey(bytes(range(32))),
        listen_port=51820,
        endpoints=[Endpoint.parse("192.0.2.7:51820")],
        networks=[fm.network("10.128.2.0/24")],
        software="meshd/1",
    )
    request = build_request("newton", NEWTON, record)
    ledger = Ledger(fm.make_chain(2))
    fm.grant(ledger, ADMIN, "tesla")
    fm.grant(ledger, ADMIN, "newton", networks=["10.128.2.0/24"])
    fm.fill(ledger, [fm.record("tesla")])
    bundle = build_bundle(ledger, NEWTON.kid)
    more = {**bundle.heads, OTHER.kid: (1, "0" * 64)}
    return {
        "now": int(fm.NOW),
        "request": request,
        "name": "newton",
        "hid": NEWTON.kid,
        "refuse_requests": _bad_requests(request),
        "bundle": render_bundle(bundle),
        "bundle_hosts": sorted(fm.names(ledger)),
        "refuse_bundles": {
            "no heads": render_bundle(msgspec.structs.replace(bundle, heads={})),
            "the head of a log that is not in it": render_bundle(msgspec.structs.replace(bundle, heads=more)),
            "a statement less": render_bundle(msgspec.structs.replace(bundle, objects=bundle.objects[1:])),
            "for a host without a grant": render_bundle(msgspec.structs.replace(bundle, hid=BOHR.kid)),
            "the fingerprint of another root": render_bundle(
                msgspec.structs.replace(bundle, fingerprint="0" * 64)
            ),
        },
    }


def _bad_requests(request: str) -> dict[str, str]:
    stranger = fm.key("stranger")
    envelope = parse_envelope(request.encode(), 8192)
    fields = msgspec.json.decode(envelope.payload)
    record = parse_envelope(decode_base64(fields["record"], "record"))
    said = msgspec.json.decode(record.payload)

    def asked(**changes: Any) -> str:
        """Signed again by the host, with another record of its own."""
        inner = NEWTON.sign(encode({**said, **changes}), HOST_RECORD_TYPE)
        return around(render_envelope(inner))

    def around(inner: bytes) -> str:
        payload = encode({**fields, "record": encode_base64(inner)})
        return render_envelope(NEWTON.sign(payload, ENROLLMENT_TYPE)).decode()

    return {
        "signed by another key": render_envelope(stranger.sign(envelope.payload, ENROLLMENT_TYPE)).decode(),
        "a byte more": request + "x",
        "two signatures": render_envelope(stranger.cosign(envelope)).decode(),
        "two signatures of the record": around(render_envelope(stranger.cosign(record))),
        "a record of another host": asked(hid=TESLA.kid),
        "a record of version 1": asked(version=1, mesh=fm.make_chain(2).mesh_id),
        "the proof of another WireGuard key": asked(
            proof=encode_base64(prove_key(fm.wireguard_key("tesla"), NEWTON.kid))
        ),
        "the proof for another host": asked(
            proof=encode_base64(prove_key(PrivateKey(bytes(range(32))), TESLA.kid))
        ),
        "signed as a record": render_envelope(NEWTON.sign(envelope.payload, HOST_RECORD_TYPE)).decode(),
    }


def build_key_requests() -> dict[str, Any]:
    request = build_key_request("bohr", "admin", BOHR)
    envelope = parse_envelope(request.encode())
    fields = msgspec.json.decode(envelope.payload)

    def asked(**changes: Any) -> str:
        return render_envelope(BOHR.sign(encode({**fields, **changes}), KEY_REQUEST_TYPE)).decode()

    return {
        "request": request,
        "name": "bohr",
        "role": "admin",
        "kid": BOHR.kid,
        "refuse": {
            "the key of another": asked(key=encode_base64(NEWTON.public)),
            "two signatures": render_envelope(NEWTON.cosign(envelope)).decode(),
            "an unknown role": asked(role="host"),
            "a name with a space": asked(name="niels bohr"),
            "a field more": asked(extra=1),
            "over 4,096 bytes": request + " " * 4096 + "x",
        },
    }


def render(document: Any) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> None:
    DIRECTORY.mkdir(exist_ok=True)
    for name, document in build_vectors().items():
        (DIRECTORY / name).write_text(render(document), encoding="utf-8")
        print(name)


if __name__ == "__main__":
    main()
