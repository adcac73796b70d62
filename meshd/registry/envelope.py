"""DSSE envelopes: payload bytes, a payload type, and signatures over both.

The signature covers the DSSE pre-authentication encoding, so bytes signed as one kind
never verify as another. The signed bytes are the transported bytes: nothing is encoded
again before it is verified. A statement's identity is the hash of its payload; an envelope
has one byte form, so that two machines never hold the same thing in two spellings.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec.structs import replace
from nacl.bindings import crypto_sign_BYTES

from meshd.errors import RegistryError
from meshd.registry.canonical import convert, decode_json, encode_base64, learn
from meshd.registry.ed25519 import is_good_signature

ROOT_TYPE: Final = "application/vnd.wg-meshd.root.v1+json"
STATEMENT_TYPE: Final = "application/vnd.wg-meshd.statement.v1+json"
HOST_RECORD_TYPE: Final = "application/vnd.wg-meshd.host-record.v1+json"
ENROLLMENT_TYPE: Final = "application/vnd.wg-meshd.enrollment.v1+json"
KEY_REQUEST_TYPE: Final = "application/vnd.wg-meshd.key-request.v1+json"

MAX_ENVELOPE_BYTES: Final = 3000
"""Garage keeps objects under 3,072 bytes in its metadata table: one quorum read."""
MAX_ROOT_BYTES: Final = 65536
MAX_ROOT_ENVELOPE_BYTES: Final = 98304
MAX_SIGNATURES: Final = 8
SIGNATURE_BYTES: Final = crypto_sign_BYTES
KID_HEX_DIGITS: Final = 32
MIN_FINGERPRINT_DIGITS: Final = 20
"""80 bits: what is shown to people is somewhat more."""

_HEX: Final = re.compile("[0-9a-f]*")
_ENCODER: Final = msgspec.json.Encoder(order="sorted")


class Signature(msgspec.Struct, frozen=True):
    """``kid`` only says which key to try; it proves nothing."""

    kid: str
    sig: bytes


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...]

    def signature_by(self, kid: str) -> bytes | None:
        for signature in self.signatures:
            if signature.kid == kid:
                return signature.sig
        return None

    def with_signatures(self, more: Iterable[Signature]) -> Envelope:
        """The same payload with further signatures, each key once, in order of the kid."""
        by_kid = {signature.kid: signature for signature in (*self.signatures, *more)}
        return replace(self, signatures=tuple(by_kid[kid] for kid in sorted(by_kid)))


class _WireSignature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keyid: str
    sig: str


class _WireEnvelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    payload: str
    payloadType: str
    signatures: tuple[_WireSignature, ...]


learn(_WireEnvelope)


def parse_envelope(body: bytes, max_bytes: int = MAX_ENVELOPE_BYTES) -> Envelope:
    """Bytes as they came from anywhere -> Envelope, unverified. RegistryError for all but one form."""
    if len(body) > max_bytes:
        raise RegistryError(f"envelope: {len(body)} bytes seen, at most {max_bytes} expected")
    wire = convert(decode_json(body, "envelope"), _WireEnvelope, "envelope")
    if not 1 <= len(wire.signatures) <= MAX_SIGNATURES:
        count = len(wire.signatures)
        raise RegistryError(f"envelope: {count} signatures seen, 1 to {MAX_SIGNATURES} expected")
    if len({signature.keyid for signature in wire.signatures}) != len(wire.signatures):
        raise RegistryError("envelope: two signatures of one key")
    if not all(is_hex(signature.keyid, KID_HEX_DIGITS) for signature in wire.signatures):
        raise RegistryError(f"envelope: a key id of {KID_HEX_DIGITS} lower-case hex digits expected")
    envelope = Envelope(
        payload=_decode_base64(wire.payload),
        payload_type=wire.payloadType,
        signatures=tuple(
            Signature(signature.keyid, _decode_base64(signature.sig)) for signature in wire.signatures
        ),
    )
    if any(len(signature.sig) != SIGNATURE_BYTES for signature in envelope.signatures):
        raise RegistryError(f"envelope: signatures of {SIGNATURE_BYTES} bytes expected")
    if render_envelope(envelope) != body:
        raise RegistryError("envelope: not in its canonical form")
    return envelope


def render_envelope(envelope: Envelope) -> bytes:
    return _ENCODER.encode(
        {
            "payload": encode_base64(envelope.payload),
            "payloadType": envelope.payload_type,
            "signatures": [
                {"keyid": signature.kid, "sig": encode_base64(signature.sig)}
                for signature in envelope.signatures
            ],
        }
    )


def expect_type(envelope: Envelope, payload_type: str) -> None:
    """RegistryError unless the envelope says it holds this kind of payload."""
    if envelope.payload_type != payload_type:
        raise RegistryError(f"envelope: type {envelope.payload_type[:80]!r} seen, {payload_type!r} expected")


def pae(payload_type: str, payload: bytes) -> bytes:
    """The DSSE v1 pre-authentication encoding: what is signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def payload_hash(payload: bytes) -> str:
    """SHA-256 in hex: the identity of what the payload says."""
    return hashlib.sha256(payload).hexdigest()


def key_id(public: bytes) -> str:
    """``kid`` of an admin or root key, ``hid`` of a host's first identity key."""
    return hashlib.sha256(public).hexdigest()[:KID_HEX_DIGITS]


def is_hex(text: str, digits: int) -> bool:
    return len(text) == digits and _HEX.fullmatch(text) is not None


def is_signature(signature: bytes, payload_type: str, payload: bytes, public_key: bytes) -> bool:
    """True when this key made this signature over this payload (Ed25519, RFC 8032)."""
    return is_good_signature(signature, pae(payload_type, payload), public_key)


def verify_signature(envelope: Envelope, public_key: bytes) -> bool:
    """True when the envelope carries a good signature of this very key."""
    signature = envelope.signature_by(key_id(public_key))
    return signature is not None and is_signature(
        signature, envelope.payload_type, envelope.payload, public_key
    )


def _decode_base64(text: str) -> bytes:
    """Any base64: that it is the canonical one follows from the comparison of the whole envelope."""
    try:
        return binascii.a2b_base64(text)
    except (binascii.Error, ValueError):
        raise RegistryError("envelope: base64 expected") from None


def fingerprint_fault(text: str) -> str:
    """Why ``text`` can be no fingerprint of anything; empty where it can. A part of one proves too little:
    whoever may try keys makes one with the first few digits of another."""
    digits = _digits(text)
    if not digits or digits.strip("0123456789abcdef"):
        return "hex digits expected, with - between them as they are shown"
    if len(digits) < MIN_FINGERPRINT_DIGITS:
        return f"{len(digits)} hex digits seen, {MIN_FINGERPRINT_DIGITS} at least expected: type all of it"
    return ""


def _digits(text: str) -> str:
    return "".join(text.split()).replace("-", "").replace(":", "").lower()


def matches_fingerprint(text: str, hash_hex: str) -> bool:
    """True when ``text``, as a person may type it, is this hash or at least its first 80 bits."""
    digits = _digits(text)
    return len(digits) >= MIN_FINGERPRINT_DIGITS and hmac.compare_digest(
        hash_hex[: len(digits)].encode(), digits.encode("utf-8", "replace")
    )
