"""Who speaks: a MAC on each request and on its answer, under a key that the two ends alone can compute. Pure.

A source address says which host a connection comes from, and nothing about which process there. An
unprivileged one may call from the same address, and one may listen in meshd's place while that is away. So
both ends prove that they have a key. The answering host's is that of its identity. The asker's is that of its
identity, too, or one made for the occasion, by which it is nobody. These are the Curve25519 forms of the
identities, and what costs something is computed once a pair.

This does not keep anybody from repeating a request. Nobody sees one but the two hosts, with WireGuard
around it, and none asks for anything that a repetition would make worse: what a host said of its own
placements could be made to look newer, by these two alone. Likewise what they ask for a pair's sake.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Final

import msgspec
from nacl.bindings import crypto_scalarmult

from meshd.errors import RegistryError
from meshd.model.keys import PrivateKey, PublicKey
from meshd.model.rescue_key import rescue_private_key, rescue_public_key
from meshd.registry.signing import SigningKey

REQUEST_HEADER: Final = "Meshd-Request"
ANSWER_HEADER: Final = "Meshd-Answer"

_MAC_BYTES: Final = 32
_NONCE_BYTES: Final = 16
_REQUEST_BYTES: Final = 2 * _MAC_BYTES + _NONCE_BYTES + _MAC_BYTES
_PERSON: Final = b"meshd exchange"
MAX_REMEMBERED: Final = 4096
TOKEN_BYTES: Final = 16


class AuthenticationError(RegistryError):
    """Not from whom it should be."""


class Call(msgspec.Struct, frozen=True):
    """One request, as both ends see it. ``mac``: of the request, which the answer's covers."""

    asker: PublicKey
    key: bytes
    mac: bytes

    def seal(self, answer: bytes) -> str:
        """The header of an answer to this request."""
        return _text(_mac(self.key, b"answer", self.mac, _digest(answer)))

    def check(self, header: str | None, answer: bytes) -> None:
        """AuthenticationError unless the host that was asked gave this answer to this request."""
        if header is None or not hmac.compare_digest(
            _raw(header, _MAC_BYTES), _raw(self.seal(answer), _MAC_BYTES)
        ):
            raise AuthenticationError("answered by somebody who does not have that host's identity key")


class Authenticator:
    """One end's own key, and what was computed with it. Any thread may use it.

    ``identity`` None: a key for the occasion; others answer, and know that it is nobody of theirs.
    """

    def __init__(self, mesh_id: str, identity: SigningKey | None) -> None:
        self._mesh = mesh_id.encode()
        self._own = PrivateKey.generate() if identity is None else rescue_private_key(identity.seed())
        self.public = self._own.public()
        self._keys: dict[tuple[PublicKey, bool], bytes] = {}

    def request(self, identity_key: bytes, verb: str, body: bytes) -> tuple[str, Call]:
        """The header of a request to the host of that identity, and what its answer is checked by."""
        answerer = rescue_public_key(identity_key)
        if answerer is None:
            raise AuthenticationError("that host's identity key has no Curve25519 form")
        key = self._key(answerer, asks=True, keep=True)
        nonce, digest = secrets.token_bytes(_NONCE_BYTES), _digest(body)
        mac = _request_mac(key, verb, nonce, digest)
        return _text(self.public + nonce + digest + mac), Call(self.public, key, mac)

    def open(self, header: str | None, verb: str, member: bytes) -> tuple[Call, bytes]:
        """A request's header, before a byte of its body is read -> the call, and the digest of that body.

        ``member``: the identity key of the host at the address that it came from. AuthenticationError for one
        that was not made for this host.
        """
        if header is None:
            raise AuthenticationError(f"{REQUEST_HEADER}: missing")
        raw = _raw(header, _REQUEST_BYTES)
        asker, nonce = PublicKey(raw[:32]), raw[32:48]
        digest, mac = raw[48:80], raw[80:]
        key = self._key(asker, asks=False, keep=asker == rescue_public_key(member))
        if not hmac.compare_digest(mac, _request_mac(key, verb, nonce, digest)):
            raise AuthenticationError(f"{REQUEST_HEADER}: not made for this host's identity")
        return Call(asker, key, mac), digest

    def token(self, identity_key: bytes, purpose: str, *, asks: bool) -> bytes | None:
        """Bytes that this host and that one alone can compute; None: its identity key has no Curve25519 form.

        ``asks``: this host is the one that shows them; each of the two has its own.
        """
        other = rescue_public_key(identity_key)
        if other is None:
            return None
        key = self._key(other, asks=asks, keep=True)
        return _mac(key, b"token", purpose.encode())[:TOKEN_BYTES]

    def _key(self, other: PublicKey, *, asks: bool, keep: bool) -> bytes:
        """Of this end and ``other``, for one direction. Whoever is nobody makes another one each time."""
        known = self._keys.get((other, asks))
        if known is not None:
            return known
        asker, answerer = (self.public, other) if asks else (other, self.public)
        try:
            shared = crypto_scalarmult(self._own.reveal(), other)
        except RuntimeError:  # a point of small order: there is no secret
            raise AuthenticationError("a key of small order") from None
        key = hashlib.blake2b(shared + asker + answerer + self._mesh, digest_size=32, person=_PERSON).digest()
        if keep:
            if len(self._keys) >= MAX_REMEMBERED:
                self._keys.clear()
            self._keys[other, asks] = key
        return key


def is_body(body: bytes, digest: bytes) -> bool:
    """Whether this is the body that the request's header was made for."""
    return hmac.compare_digest(_digest(body), digest)


def _request_mac(key: bytes, verb: str, nonce: bytes, digest: bytes) -> bytes:
    return _mac(key, b"request", verb.encode(), nonce, digest)


def _mac(key: bytes, *parts: bytes) -> bytes:
    return hashlib.blake2b(b"\0".join(parts), digest_size=_MAC_BYTES, key=key).digest()


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_MAC_BYTES).digest()


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _raw(header: str, size: int) -> bytes:
    try:
        raw = base64.b64decode(header, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != size:
        raise AuthenticationError(f"base64 of {size} bytes expected in the header")
    return raw
