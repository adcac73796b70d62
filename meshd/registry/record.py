"""Host records: what a host says of itself, signed by its identity key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from meshd.errors import RegistryError
from meshd.model.host import ENROLLMENT_VERSION, HostKeys
from meshd.model.keys import PublicKey
from meshd.model.network import AnyEndpoint, IPNetwork, network_key
from meshd.registry.canonical import decode_as, encode, learn
from meshd.registry.envelope import (
    HOST_RECORD_TYPE,
    KID_HEX_DIGITS,
    MAX_ENVELOPE_BYTES,
    Envelope,
    expect_type,
    is_hex,
    parse_envelope,
    payload_hash,
    render_envelope,
)
from meshd.registry.ranges import parse_signed_endpoint, parse_signed_network
from meshd.registry.signing import SigningKey
from meshd.registry.statement import MAX_GEN, MAX_NETWORKS

FUTURE_TOLERANCE_SECONDS: Final = 86400.0
MAX_ENDPOINTS: Final = 8
MAX_SOFTWARE_CHARACTERS: Final = 80


class HostRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payload. ``wireguard``, ``next``: base64 keys, ``next`` empty outside a rotation.

    ``version``: unix milliseconds, or one more than the last; 0 for an enrollment record,
    the only one with an empty ``mesh``. ``networks``: CIDRs that the host announces.
    ``seen``: the newest (seq, hash) of each admin log that it holds.
    """

    mesh: str
    hid: str
    gen: int
    version: int
    wireguard: str
    next: str
    listen_port: int
    endpoints: tuple[str, ...]
    networks: tuple[str, ...]
    nat: bool
    software: str
    seen: dict[str, tuple[int, str]]


learn(HostRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRecord:
    """A record that is right in itself, with its texts as values; whose it is, the ledger decides."""

    record: HostRecord
    keys: HostKeys
    hash: str

    @property
    def order(self) -> tuple[int, str]:
        """Of two records of one key the higher counts; the hash settles a version used twice."""
        return self.record.version, self.hash


def next_version(last: int, now: float) -> int:
    """The version after ``last`` at ``now`` (unix seconds): max(last + 1, unix milliseconds).

    RegistryError when ``last`` is over a day ahead of the clock: others would refuse the record.
    """
    version = max(last + 1, int(now * 1000))
    if is_future(version, now):
        raise RegistryError(
            f"host record: version {version} is over a day ahead of this host's clock ({int(now)}): "
            "check the clock"
        )
    return version


def is_future(version: int, now: float) -> bool:
    """True when no honest clock near ``now`` would have given this version."""
    return version > (now + FUTURE_TOLERANCE_SECONDS) * 1000


def build_record(
    *,
    mesh: str,
    hid: str,
    gen: int,
    version: int,
    public_key: PublicKey,
    listen_port: int,
    endpoints: Iterable[AnyEndpoint] = (),
    networks: Iterable[IPNetwork] = (),
    behind_nat: bool = False,
    software: str = "",
    next_public_key: PublicKey | None = None,
    seen: Mapping[str, tuple[int, str]] | None = None,
) -> HostRecord:
    """A record from values; endpoints keep their order, which is the order of preference."""
    return HostRecord(
        mesh=mesh,
        hid=hid,
        gen=gen,
        version=version,
        wireguard=str(public_key),
        next=str(next_public_key) if next_public_key is not None else "",
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
    return CheckedRecord(record=record, keys=keys, hash=payload_hash(envelope.payload)), envelope


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
