"""What travels by hand: a host's enrollment request, and the join bundle it gets back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from meshd.errors import RegistryError
from meshd.model.host import ENROLLMENT_VERSION
from meshd.model.keys import HIDDEN
from meshd.registry.canonical import convert, decode_as, decode_base64, decode_json, encode, encode_base64
from meshd.registry.document import PUBLIC_KEY_BYTES
from meshd.registry.envelope import (
    ENROLLMENT_TYPE,
    MAX_ROOT_ENVELOPE_BYTES,
    expect_type,
    key_id,
    parse_envelope,
    render_envelope,
    verify_signature,
)
from meshd.registry.layout import ROOT_PREFIX, log_key, log_prefix
from meshd.registry.record import CheckedRecord, HostRecord, parse_record, sign_record
from meshd.registry.signing import SigningKey
from meshd.registry.statement import HOST_NAME

if TYPE_CHECKING:  # a request is made and read without
    from meshd.registry.ledger import Ledger

REQUEST_FORMAT: Final = "wg-meshd-enrollment/1"
BUNDLE_FORMAT: Final = "wg-meshd-bundle/1"
MAX_REQUEST_BYTES: Final = 8192
_BUNDLE_FILE: Final = "a join bundle"
_BUNDLE_START: Final = f'{{"format":"{BUNDLE_FORMAT}"'.encode()
MAX_BUNDLE_BYTES: Final = 64 * 1024 * 1024


class _Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: Literal["wg-meshd-enrollment/1"]
    name: str
    identity: str
    record: str


class EnrollmentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A verified request. ``record_body`` is published as it is, once the host is granted.

    ``gen``: 1 for a new host, whose hid is then its identity's; more for the next identity of a host
    that keeps its hid.
    """

    name: str
    hid: str
    gen: int
    identity: bytes
    record: CheckedRecord
    record_body: bytes

    @property
    def kid(self) -> str:
        """What is compared by people: the id of the identity that asks."""
        return key_id(self.identity)


def build_request(name: str, identity: SigningKey, record: HostRecord) -> str:
    """The self-signed request of a host; ``record`` is of version 0 and names no mesh."""
    _check_enrollment(name, record, identity.public)
    request = _Request(
        format=REQUEST_FORMAT,
        name=name,
        identity=encode_base64(identity.public),
        record=encode_base64(sign_record(record, identity)),
    )
    return render_envelope(identity.sign(encode(request), ENROLLMENT_TYPE)).decode()


def parse_request(text: str) -> EnrollmentRequest:
    """Check a request and both its signatures; white space around it does not matter.

    It proves that whoever made it holds the identity key, not that this is the right host:
    compare ``kid`` with what the host shows.
    """
    raw = encode_text(text, "enrollment request")
    try:
        envelope = parse_envelope(raw, MAX_REQUEST_BYTES)
        expect_type(envelope, ENROLLMENT_TYPE)
    except RegistryError as error:
        if raw.startswith(_BUNDLE_START):
            expected = "the file from meshd enroll expected"
            raise RegistryError(f"enrollment request: {_BUNDLE_FILE} seen, {expected}") from None
        raise RegistryError(f"enrollment request: {error}") from None
    request = decode_as(envelope.payload, _Request, "enrollment request")
    identity = decode_base64(request.identity, "enrollment request: identity", size=PUBLIC_KEY_BYTES)
    body = decode_base64(request.record, "enrollment request: record")
    checked, record_envelope = parse_record(body, "")
    _check_enrollment(request.name, checked.record, identity)
    signed = (each for each in (envelope, record_envelope) if len(each.signatures) == 1)
    if sum(verify_signature(each, identity) for each in signed) != 2:
        raise RegistryError("enrollment request: not signed by the identity key that it names")
    if not all(checked.proves(key) for key in checked.claims):
        raise RegistryError("enrollment request: no proof that this host has the WireGuard key that it names")
    return EnrollmentRequest(
        name=request.name,
        hid=checked.record.hid,
        gen=checked.record.gen,
        identity=identity,
        record=checked,
        record_body=body,
    )


class S3Credentials(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The host's own key to the store. It never renders."""

    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"S3Credentials{HIDDEN}"


class JoinBundle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a new host needs. ``roots``: envelopes, oldest first. ``objects``: keys and bodies.

    ``heads``: the newest (seq, hash) of each log when the bundle was made. ``fingerprint``: of
    the newest root. The text of a bundle is as secret as the credentials in it.
    """

    format: Literal["wg-meshd-bundle/1"]
    mesh: str
    hid: str
    fingerprint: str
    roots: tuple[str, ...]
    heads: dict[str, tuple[int, str]]
    objects: tuple[tuple[str, str], ...]
    stores: tuple[str, ...]
    s3: S3Credentials | None = None


def build_bundle(ledger: Ledger, hid: str, *, s3: S3Credentials | None = None) -> JoinBundle:
    """The bundle for one granted host; RegistryError when it has no grant."""
    _check_member(ledger, hid)
    return JoinBundle(
        format=BUNDLE_FORMAT,
        mesh=ledger.mesh_id,
        hid=hid,
        fingerprint=ledger.chain.fingerprint,
        roots=tuple(render_envelope(envelope).decode() for envelope in ledger.chain.envelopes),
        heads=dict(ledger.heads()),
        objects=handed_over(ledger),
        stores=ledger.chain.root.stores,
        s3=s3,
    )


def handed_over(ledger: Ledger) -> tuple[tuple[str, str], ...]:
    """All statements and records, but what counts for nothing of a log that a root has ended: a thief may
    have signed more of that than a file may hold."""
    reduction = ledger.reduction()
    counted = {
        log_key(kid, entry.statement.seq, entry.hash)
        for kid, log in reduction.logs.items()
        for entry in (*log.chain, *log.early_revokes)
    }
    ended = tuple(log_prefix(kid) for kid in ledger.chain.root.retired)
    return tuple(
        (key, body.decode())
        for key, body in ledger.objects()
        if not key.startswith(ROOT_PREFIX) and (not key.startswith(ended) or key in counted)
    )


def render_bundle(bundle: JoinBundle) -> str:
    return msgspec.json.encode(bundle).decode()


def parse_bundle(text: str) -> JoinBundle:
    """The form of a bundle; open_bundle verifies what it says."""
    body = encode_text(text, "join bundle")
    if len(body) > MAX_BUNDLE_BYTES:
        raise RegistryError(f"join bundle: {len(body)} bytes seen, at most {MAX_BUNDLE_BYTES} expected")
    value = decode_json(body, "join bundle")
    if (seen := _other_file(value)) not in ("", _BUNDLE_FILE):
        raise RegistryError(f"join bundle: {seen} seen, the file from wgctl add-host expected")
    return convert(value, JoinBundle, "join bundle")


def _other_file(value: object) -> str:
    """What a file that was mistaken for another one says it is; empty where it says nothing.
    Only for the words of a refusal: nothing is trusted for it."""
    if not isinstance(value, dict):
        return ""
    if value.get("format") == BUNDLE_FORMAT:
        return _BUNDLE_FILE
    if "format" in value:
        return f"another format, {str(value['format'])[:40]!r},"
    if "payload" not in value:
        return ""
    return "an enrollment request" if value.get("payloadType") == ENROLLMENT_TYPE else "a signed document"


def open_bundle(text: str, expected_fingerprint: str | None = None) -> tuple[Ledger, JoinBundle]:
    """Verify a bundle into a ledger.

    ``expected_fingerprint``: what the operator read off the admin's screen, whole or its
    first 80 bits. RegistryError when any root or statement does not verify, a head is
    missing, or the host has no grant. Host records that do not verify are left out: each
    host puts its own into the stores again.
    """
    from meshd.registry.ledger import Ledger
    from meshd.registry.root import chain_from_envelopes

    bundle = parse_bundle(text)
    envelopes = [parse_envelope(root.encode(), MAX_ROOT_ENVELOPE_BYTES) for root in bundle.roots]
    chain = chain_from_envelopes(envelopes, expected_fingerprint)
    if (bundle.mesh, bundle.fingerprint) != (chain.mesh_id, chain.fingerprint):
        raise RegistryError(
            f"join bundle: mesh {bundle.mesh[:40]!r}, root {bundle.fingerprint[:24]!r} seen, "
            f"{chain.mesh_id}, {chain.fingerprint[:24]} expected"
        )
    ledger = Ledger(chain)
    for key, body in sorted(bundle.objects, key=lambda item: item[0].startswith("host/")):
        admission = ledger.offer(key, body.encode())
        if admission.outcome in ("refused", "pending") and not key.startswith("host/"):
            raise RegistryError(f"join bundle: {key[:120]}: {admission.reason}")
    check_heads(ledger, bundle.heads, "join bundle")
    _check_member(ledger, bundle.hid)
    return ledger, bundle


def check_heads(ledger: Ledger, expected: Mapping[str, tuple[int, str]], what: str) -> None:
    """RegistryError unless the ledger's logs end where the maker of a bundle says they do."""
    heads = ledger.heads()
    for kid in sorted(expected.keys() | heads.keys()):
        if heads.get(kid) != expected.get(kid):
            held, said = (each[kid][0] if kid in each else 0 for each in (heads, expected))
            raise RegistryError(
                f"{what}: log of {kid[:40]}: {held} statements seen, {said} expected: "
                "the bundle is incomplete, ask for a new one"
            )


def _check_member(ledger: Ledger, hid: str) -> None:
    reduction = ledger.reduction()
    if hid in reduction.revoked:
        raise RegistryError(f"host {hid[:40]}: revoked by {reduction.revoked[hid].provenance}")
    if hid not in reduction.effective:
        raise RegistryError(f"host {hid[:40]}: no grant in mesh {ledger.chain.root.mesh_name}")


def _check_enrollment(name: str, record: HostRecord, identity: bytes) -> None:
    if HOST_NAME.fullmatch(name) is None:
        raise RegistryError(f"enrollment request: name {name[:80]!r} seen, a lower-case DNS label expected")
    if record.version != ENROLLMENT_VERSION:
        raise RegistryError(f"enrollment request: record version {record.version} seen, 0 expected")
    if record.gen == 1 and record.hid != key_id(identity):
        raise RegistryError(f"enrollment request: host {record.hid[:40]} seen, {key_id(identity)} expected")


def encode_text(text: str, what: str) -> bytes:
    """What somebody handed over, without the white space around it."""
    try:
        return text.strip().encode()
    except UnicodeEncodeError:
        raise RegistryError(f"{what}: not text that UTF-8 can hold") from None
