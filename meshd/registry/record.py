"""Host records: what a host says of itself, signed by its identity key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from meshd.errors import RegistryError
from meshd.model.host import ENROLLMENT_VERSION, HostKeys
from meshd.model.keys import PrivateKey, PublicKey
from meshd.model.network import AnyEndpoint, IPNetwork, network_key
from meshd.registry.canonical import MAX_INTEGER, decode_as, decode_base64, encode, encode_base64, learn
from meshd.registry.envelope import (
    HOST_RECORD_TYPE,
    KID_HEX_DIGITS,
    MAX_ENVELOPE_BYTES,
    SIGNATURE_BYTES,
    Envelope,
    expect_type,
    is_hex,
    parse_envelope,
    payload_hash,
    render_envelope,
)
from meshd.registry.key_proof import is_key_proof, prove_key
from meshd.registry.ranges import parse_signed_endpoint, parse_signed_network
from meshd.registry.signing import SigningKey
from meshd.registry.statement import MAX_GEN, MAX_NETWORKS

MAX_ENDPOINTS: Final = 8
MAX_SOFTWARE_CHARACTERS: Final = 80


class HostRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payload. ``wireguard``, ``next``: base64 keys, ``next`` empty outside a rotation. ``proof``,
    ``next_proof``: by each key that it is this host's (meshd.registry.key_proof), in base64; the second
    one is empty without another next key.

    ``version``: one more than the last; 0 for an enrollment record, the only one with an empty
    ``mesh``. ``at``: unix seconds by the host's own clock, for people; nothing depends on it.
    ``networks``: CIDRs that the host announces. ``seen``: the newest (seq, hash) of each admin log
    that it holds.
    """

    mesh: str
    hid: str
    gen: int
    version: int
    at: int
    wireguard: str
    proof: str
    next: str
    next_proof: str
    listen_port: int
    endpoints: tuple[str, ...]
    networks: tuple[str, ...]
    nat: bool
    software: str
    seen: dict[str, tuple[int, str]]


learn(HostRecord)


class CheckedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record that is right in itself, with its texts as values; whose it is, the ledger decides.

    ``claims``: the WireGuard keys that it names as its host's, one or two.
    """

    record: HostRecord
    keys: HostKeys
    claims: tuple[PublicKey, ...]
    hash: str

    @property
    def order(self) -> tuple[int, str]:
        """Of two records of one key the higher counts; the hash settles a version used twice."""
        return self.record.version, self.hash

    def proves(self, key: PublicKey) -> bool:
        """Whether the holder of ``key``, which the record names, said that it is this host."""
        record = self.record
        proof = record.proof if key == self.keys.public_key else record.next_proof
        return is_key_proof(decode_base64(proof, "proof"), key, record.hid)


def next_version(last: int) -> int:
    """The version after ``last``. A count, and no clock: one that is wrong for a moment costs nothing.

    RegistryError when there is none: who has this identity's key took the last number on purpose.
    """
    if last >= MAX_INTEGER:
        raise RegistryError(
            f"host record: version {last} is the last one there is, and signed by this host's identity key: "
            "it was stolen; ask for a new identity: meshd enroll --new-identity"
        )
    return last + 1


def build_record(
    *,
    mesh: str,
    hid: str,
    gen: int,
    version: int,
    private_key: PrivateKey,
    listen_port: int,
    endpoints: Iterable[AnyEndpoint] = (),
    networks: Iterable[IPNetwork] = (),
    behind_nat: bool = False,
    software: str = "",
    next_private_key: PrivateKey | None = None,
    seen: Mapping[str, tuple[int, str]] | None = None,
    at: float = 0.0,
) -> HostRecord:
    """A record from values; endpoints keep their order, which is the order of preference. The private
    keys only prove that they are there. ``at``: unix seconds."""
    other = next_private_key if next_private_key != private_key else None
    return HostRecord(
        mesh=mesh,
        hid=hid,
        gen=gen,
        version=version,
        at=max(int(at), 0),
        wireguard=str(private_key.public()),
        proof=encode_base64(prove_key(private_key, hid)),
        next=str(next_private_key.public()) if next_private_key is not None else "",
        next_proof=encode_base64(prove_key(other, hid)) if other is not None else "",
        listen_port=listen_port,
        endpoints=tuple(str(endpoint) for endpoint in endpoints),
        networks=tuple(str(network) for network in sorted(set(networks), key=network_key)),
        nat=behind_nat,
        software=software,
        seen=dict(seen or {}),
    )


def sign_record(record: HostRecord, key: SigningKey) -> bytes:
    """The record as the bytes to publish. RegistryError when readers would refuse them."""
    _check(record, "host record")
    body = render_envelope(key.sign(encode(record), HOST_RECORD_TYPE))
    if len(body) > MAX_ENVELOPE_BYTES:
        raise RegistryError(
            f"host record: {len(body)} bytes seen, at most {MAX_ENVELOPE_BYTES} expected: "
            "name fewer networks or endpoints"
        )
    return body


def parse_record(body: bytes, mesh: str) -> tuple[CheckedRecord, Envelope]:
    """Bytes to a record of this mesh, or an enrollment record. Its signature is not checked here."""
    envelope = parse_envelope(body)
    expect_type(envelope, HOST_RECORD_TYPE)
    record = decode_as(envelope.payload, HostRecord, "host record")
    what = f"record of host {record.hid[:8]}"
    if record.version != ENROLLMENT_VERSION and record.mesh != mesh:
        raise RegistryError(f"{what}: mesh {record.mesh[:40]!r} seen, {mesh} expected")
    keys = _check(record, what)
    own, following = keys.public_key, keys.next_public_key
    claims = (own,) if following in (None, own) else (own, following)
    checked = CheckedRecord(record=record, keys=keys, claims=claims, hash=payload_hash(envelope.payload))
    return checked, envelope


def _check(record: HostRecord, what: str) -> HostKeys:
    def expect(ok: bool, name: str, seen: object, expected: str) -> None:
        if not ok:
            raise RegistryError(f"{what}: {name}: {str(seen)[:80]!r} seen, {expected} expected")

    expect(is_hex(record.hid, KID_HEX_DIGITS), "hid", record.hid, "32 hex digits")
    expect(1 <= record.gen <= MAX_GEN, "gen", record.gen, f"1 to {MAX_GEN}")
    expect(
        record.mesh == "" if record.version == ENROLLMENT_VERSION else is_hex(record.mesh, KID_HEX_DIGITS),
        "mesh",
        record.mesh,
        "the mesh id, nothing in version 0",
    )
    _check_proofs(record, what)
    expect(0 < record.listen_port < 65536, "listen_port", record.listen_port, "1 to 65535")
    for name, values, limit in (
        ("endpoints", record.endpoints, MAX_ENDPOINTS),
        ("networks", record.networks, MAX_NETWORKS),
    ):
        expect(len(values) <= limit, name, len(values), f"at most {limit}")
    expect(
        len(record.software) <= MAX_SOFTWARE_CHARACTERS,
        "software",
        record.software,
        f"at most {MAX_SOFTWARE_CHARACTERS} characters",
    )
    try:
        return HostKeys(
            version=record.version,
            signed_at=record.at,
            public_key=PublicKey.parse(record.wireguard),
            next_public_key=PublicKey.parse(record.next) if record.next else None,
            listen_port=record.listen_port,
            endpoints=tuple(parse_signed_endpoint(text) for text in record.endpoints),
            announced=frozenset(parse_signed_network(text) for text in record.networks),
            behind_nat=record.nat,
            software=record.software,
        )
    except ValueError as error:
        raise RegistryError(f"{what}: {error}") from None


def _check_proofs(record: HostRecord, what: str) -> None:
    """Their form alone: whether they hold is judged where two hosts name one key."""
    decode_base64(record.proof, f"{what}: proof", size=SIGNATURE_BYTES)
    if record.next not in ("", record.wireguard):
        decode_base64(record.next_proof, f"{what}: next_proof", size=SIGNATURE_BYTES)
    elif record.next_proof:
        raise RegistryError(f"{what}: next_proof: {record.next_proof[:60]!r} seen, nothing expected")
