"""Statements: the entries of an admin's log, each one signed and immutable."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from meshd.errors import RegistryError
from meshd.model.host import Provenance
from meshd.model.network import IPAddress, IPNetwork
from meshd.model.service import parse_check
from meshd.registry.canonical import convert, decode, decode_base64, encode, learn
from meshd.registry.document import HASH_HEX_DIGITS, PUBLIC_KEY_BYTES
from meshd.registry.document import MAX_SEQ as MAX_SEQ
from meshd.registry.envelope import (
    KID_HEX_DIGITS,
    STATEMENT_TYPE,
    Envelope,
    expect_type,
    is_hex,
    key_id,
    payload_hash,
)
from meshd.registry.ranges import (
    Span,
    address_span,
    find_self_overlap,
    network_span,
    parse_signed_address,
    parse_signed_network,
    render_span,
)

MAX_GEN: Final = 10**6
MAX_ADDRESSES: Final = 8
MAX_NETWORKS: Final = 64
MAX_WHY_CHARACTERS: Final = 200

HOST_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
PRINTABLE: Final = re.compile(r"[ -~]{0,200}")
"""What an administrator's words for a service may hold: they end in the files of other programs."""
PRINTABLE_WORDS: Final = "at most 200 printable ASCII characters"
MAX_ENDPOINTS_WANTED: Final = 1000
LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=:/+-]{0,62}")


class Grant(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="grant"
):
    """A host is a member. ``identity``: base64 Ed25519 key of generation ``gen``, the first being 1.

    ``addresses`` lie in the overlay ranges, the first is the one people use; ``networks`` in
    the jail ranges. ``expires``: unix seconds, 0 never.
    """

    hid: str
    name: str
    gen: int
    identity: str
    addresses: tuple[str, ...]
    networks: tuple[str, ...]
    region: str
    roles: tuple[str, ...]
    tags: tuple[str, ...]
    expires: int


class Revoke(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="revoke"
):
    """The end of a hid, for good."""

    hid: str
    why: str


class Endorse(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="endorse"
):
    """A second admin agrees with the statement of this hash."""

    hash: str


class Rotate(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="rotate"
):
    """Hosts with a WireGuard key from before ``not_before`` (unix seconds) make a new one.

    No ``hids``: all hosts.
    """

    hids: tuple[str, ...]
    not_before: int


class Service(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="service"
):
    """A service of the mesh. ``scope``: host, region or mesh. ``state``: active or retired."""

    name: str
    kind: str
    port: int
    scope: str
    min_endpoints: int
    check: str
    state: str


class Place(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="place"
):
    """Where a service lives. ``state``: active, draining or retired."""

    hid: str
    service: str
    jail: str
    address: str
    tags: dict[str, str]
    state: str


class RawBody(msgspec.Struct, frozen=True, kw_only=True):
    """A body of a kind that this version does not know: kept, passed on and shown."""

    kind: str
    fields: Mapping[str, Any]


KnownBody = Grant | Revoke | Endorse | Rotate | Service | Place
Body = KnownBody | RawBody


class Statement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payload. ``seen``: the newest (seq, hash) of every other log that its author held.

    ``prev``: hash of the statement before, empty in seq 1. ``root``: version of the newest
    root its author held. ``at``: unix seconds by its author's clock; nothing depends on it.
    """

    mesh: str
    by: str
    seq: int
    prev: str
    seen: dict[str, tuple[int, str]]
    root: int
    at: int
    body: Any


learn(Statement, Grant, Revoke, Endorse, Rotate, Service, Place)


class GrantRanges(msgspec.Struct, frozen=True, kw_only=True):
    """A grant's texts as values, and as spans: those of the addresses, then those of the networks."""

    identity: bytes
    addresses: tuple[IPAddress, ...]
    networks: frozenset[IPNetwork]
    address_spans: tuple[Span, ...]
    network_spans: tuple[Span, ...]

    @property
    def spans(self) -> tuple[Span, ...]:
        return self.address_spans + self.network_spans


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A checked statement and its identity. ``ranges`` is there for grants alone."""

    hash: str
    statement: Statement
    body: Body
    ranges: GrantRanges | None = None

    @property
    def provenance(self) -> Provenance:
        statement = self.statement
        return Provenance(kid=statement.by, seq=statement.seq, statement=self.hash, signed_at=statement.at)


def encode_statement(statement: Statement, body: Body) -> bytes:
    """The canonical payload of a statement with this body."""
    plain = {"type": body.kind, **body.fields} if isinstance(body, RawBody) else msgspec.to_builtins(body)
    return encode({**msgspec.to_builtins(statement), "body": plain})


def parse_statement(envelope: Envelope, mesh: str) -> LogEntry:
    """A statement that is right in itself, of this mesh. Its signature is checked by the ledger."""
    expect_type(envelope, STATEMENT_TYPE)
    statement = convert(decode(envelope.payload), Statement, "statement")
    what = f"statement {statement.seq} of {statement.by[:8]}"
    if statement.mesh != mesh:
        raise RegistryError(f"{what}: mesh {statement.mesh[:40]!r} seen, {mesh} expected")
    _check_header(statement, what)
    body = _parse_body(statement.body, what)
    ranges = _check_body(body, what)
    return LogEntry(hash=payload_hash(envelope.payload), statement=statement, body=body, ranges=ranges)


def parse_grant_ranges(grant: Grant, what: str) -> GrantRanges:
    """The grant's key, addresses and networks; RegistryError when malformed or overlapping."""
    identity = decode_base64(grant.identity, f"{what}: identity", size=PUBLIC_KEY_BYTES)
    _expect(
        len(grant.addresses) in range(1, MAX_ADDRESSES + 1),
        what,
        "addresses",
        len(grant.addresses),
        f"1 to {MAX_ADDRESSES}",
    )
    _expect(
        len(grant.networks) <= MAX_NETWORKS, what, "networks", len(grant.networks), f"at most {MAX_NETWORKS}"
    )
    try:
        addresses = tuple(parse_signed_address(text) for text in grant.addresses)
        networks = tuple(parse_signed_network(text) for text in grant.networks)
    except ValueError as error:
        raise RegistryError(f"{what}: {error}") from None
    ranges = GrantRanges(
        identity=identity,
        addresses=addresses,
        networks=frozenset(networks),
        address_spans=tuple(address_span(address) for address in addresses),
        network_spans=tuple(network_span(network) for network in networks),
    )
    overlap = find_self_overlap(ranges.spans)
    if overlap is not None:
        text = " and ".join(map(render_span, overlap))
        raise RegistryError(f"{what}: ranges: {text} seen, no overlap expected")
    return ranges


def check_body(body: Body) -> GrantRanges | None:
    """What parse_statement asks of a body, for signers: RegistryError says what is wrong."""
    return _check_body(body, "statement")


def _parse_body(value: object, what: str) -> Body:
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(kind, str) or not LABEL.fullmatch(kind):
        raise RegistryError(f"{what}: a body with its type expected")
    known = _KINDS.get(kind)
    if known is None:
        return RawBody(kind=kind, fields={key: item for key, item in value.items() if key != "type"})
    return convert(value, known, f"{what}: {kind}")


def _check_header(statement: Statement, what: str) -> None:
    _expect(is_hex(statement.by, KID_HEX_DIGITS), what, "by", statement.by, "32 hex digits")
    _expect(1 <= statement.seq <= MAX_SEQ, what, "seq", statement.seq, f"1 to {MAX_SEQ}")
    _expect(
        statement.prev == "" if statement.seq == 1 else is_hex(statement.prev, HASH_HEX_DIGITS),
        what,
        "prev",
        statement.prev,
        "the previous statement's hash, nothing in statement 1",
    )
    _expect(statement.root >= 1, what, "root", statement.root, "1 or more")
    for kid, (seq, hash_hex) in statement.seen.items():
        ok = is_hex(kid, KID_HEX_DIGITS) and 1 <= seq <= MAX_SEQ and is_hex(hash_hex, HASH_HEX_DIGITS)
        _expect(ok and kid != statement.by, what, "seen", kid, "another log's key id to [seq, hash]")


def _check_body(body: Body, what: str) -> GrantRanges | None:
    if isinstance(body, Grant):
        _check_grant(body, what)
        return parse_grant_ranges(body, what)
    if isinstance(body, Revoke | Place):
        _expect(is_hex(body.hid, KID_HEX_DIGITS), what, "hid", body.hid, "32 hex digits")
    if isinstance(body, Revoke):
        _expect(
            len(body.why) <= MAX_WHY_CHARACTERS,
            what,
            "why",
            body.why,
            f"at most {MAX_WHY_CHARACTERS} characters",
        )
    elif isinstance(body, Endorse):
        _expect(is_hex(body.hash, HASH_HEX_DIGITS), what, "hash", body.hash, "64 hex digits")
    elif isinstance(body, Rotate):
        _expect(all(is_hex(hid, KID_HEX_DIGITS) for hid in body.hids), what, "hids", body.hids, "host ids")
    elif isinstance(body, Service):
        _check_service(body, what)
    elif isinstance(body, Place):
        _check_place(body, what)
    return None


def _check_grant(grant: Grant, what: str) -> None:
    _expect(is_hex(grant.hid, KID_HEX_DIGITS), what, "hid", grant.hid, "32 hex digits")
    _expect(
        HOST_NAME.fullmatch(grant.name) is not None,
        what,
        "name",
        grant.name,
        "a lower-case DNS label of at most 63 characters",
    )
    _expect(1 <= grant.gen <= MAX_GEN, what, "gen", grant.gen, f"1 to {MAX_GEN}")
    if grant.gen == 1:
        first = decode_base64(grant.identity, f"{what}: identity", size=PUBLIC_KEY_BYTES)
        _expect(key_id(first) == grant.hid, what, "hid", grant.hid, f"{key_id(first)}, the first key's id")
    labels = (*grant.roles, *grant.tags, *((grant.region,) if grant.region else ()))
    _check_labels(labels, what)
    for name, values in (("roles", grant.roles), ("tags", grant.tags)):
        _expect(len(set(values)) == len(values), what, name, values, "each once")


def _check_service(service: Service, what: str) -> None:
    _expect(HOST_NAME.fullmatch(service.name) is not None, what, "name", service.name, "a DNS label")
    _check_labels((service.kind,), what)
    _expect(1 <= service.port <= 65535, what, "port", service.port, "1 to 65535")
    _expect(service.scope in ("host", "region", "mesh"), what, "scope", service.scope, "host, region or mesh")
    _expect(service.state in ("active", "retired"), what, "state", service.state, "active or retired")
    wanted = service.min_endpoints
    _expect(
        0 <= wanted <= MAX_ENDPOINTS_WANTED, what, "min_endpoints", wanted, f"0 to {MAX_ENDPOINTS_WANTED}"
    )
    _expect(PRINTABLE.fullmatch(service.check) is not None, what, "check", service.check, PRINTABLE_WORDS)
    try:
        parse_check(service.check)
    except ValueError as error:
        raise RegistryError(f"{what}: {error}") from None


def _check_place(place: Place, what: str) -> None:
    _expect(HOST_NAME.fullmatch(place.service) is not None, what, "service", place.service, "a DNS label")
    _expect(
        place.state in ("active", "draining", "retired"),
        what,
        "state",
        place.state,
        "active, draining or retired",
    )
    _check_labels((*place.tags.keys(), *((place.jail,) if place.jail else ())), what)
    for value in place.tags.values():
        _expect(PRINTABLE.fullmatch(value) is not None, what, "tag", value, PRINTABLE_WORDS)
    try:
        parse_signed_address(place.address)
    except ValueError as error:
        raise RegistryError(f"{what}: {error}") from None


def _check_labels(labels: Iterable[str], what: str) -> None:
    for label in labels:
        _expect(LABEL.fullmatch(label) is not None, what, "label", label, "letters, digits, . _ = : / + -")


def _expect(ok: bool, what: str, name: str, seen: object, expected: str) -> None:
    if not ok:
        raise RegistryError(f"{what}: {name}: {str(seen)[:80]!r} seen, {expected} expected")


_KINDS: Final[dict[str, type[KnownBody]]] = {
    "grant": Grant,
    "revoke": Revoke,
    "endorse": Endorse,
    "rotate": Rotate,
    "service": Service,
    "place": Place,
}
