"""Ed25519 signing keys of roots, admins and hosts. The secret never renders."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final, Self

from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_seed_keypair
from nacl.utils import random as random_bytes

from meshd.errors import RegistryError
from meshd.model.keys import HIDDEN
from meshd.registry.envelope import Envelope, Signature, pae
from meshd.registry.envelope import key_id as key_id

SEED_BYTES: Final = 32
_CHECKSUM_BYTES: Final = 3
_WORD: Final = 4
_FINGERPRINT_DIGITS: Final = 24


class SigningKey:
    """An Ed25519 key pair. ``seed`` is the one way out, for the 0600 file or the paper."""

    __slots__ = ("_secret", "_seed", "kid", "public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise RegistryError(f"signing key: {len(seed)} bytes seen, {SEED_BYTES} expected")
        self._seed = bytes(seed)
        self.public, self._secret = crypto_sign_seed_keypair(self._seed)
        self.kid = key_id(self.public)

    @classmethod
    def generate(cls) -> Self:
        return cls(random_bytes(SEED_BYTES))

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """RegistryError unless there are 32 bytes; the message never repeats them."""
        return cls(seed)

    def seed(self) -> bytes:
        """The secret, for a file of mode 0600 or the paper form."""
        return self._seed

    def sign(self, payload: bytes, payload_type: str) -> Envelope:
        return Envelope(
            payload=payload, payload_type=payload_type, signatures=(self._signature(payload, payload_type),)
        )

    def cosign(self, envelope: Envelope) -> Envelope:
        """The envelope with this key's signature added: how a root gets several."""
        return envelope.with_signatures((self._signature(envelope.payload, envelope.payload_type),))

    def _signature(self, payload: bytes, payload_type: str) -> Signature:
        signed = crypto_sign(pae(payload_type, payload), self._secret)
        return Signature(self.kid, signed[:crypto_sign_BYTES])

    def __str__(self) -> str:
        return HIDDEN

    def __repr__(self) -> str:
        return f"SigningKey{HIDDEN}"

    def __format__(self, spec: str) -> str:
        return format(HIDDEN, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SigningKey) and hmac.compare_digest(self._seed, other._seed)

    def __hash__(self) -> int:
        raise TypeError("SigningKey is secret and not hashable")

    def __reduce__(self) -> str:
        raise TypeError("SigningKey is secret and cannot be pickled")


def render_recovery_words(key: SigningKey) -> str:
    """The paper form: 14 groups of four base32 letters, the last bits a checksum."""
    text = base64.b32encode(key.seed() + _checksum(key.seed())).decode()
    return " ".join(text[start : start + _WORD] for start in range(0, len(text), _WORD))


def parse_recovery_words(text: str) -> SigningKey:
    """Read the paper form back; case, spaces and hyphens do not matter. RegistryError on a misspelling."""
    letters = "".join(text.split()).replace("-", "")
    try:
        raw = base64.b32decode(letters, casefold=True, map01="L")
    except (binascii.Error, ValueError):
        raise RegistryError("recovery key: 14 groups of four letters A-Z and digits 2-7 expected") from None
    seed, checksum = raw[:SEED_BYTES], raw[SEED_BYTES:]
    if len(seed) != SEED_BYTES or not hmac.compare_digest(checksum, _checksum(seed)):
        raise RegistryError("recovery key: the checksum does not match, a letter is wrong or missing")
    return SigningKey.from_seed(seed)


def render_fingerprint(hash_hex: str) -> str:
    """The first 96 bits in groups that two people can read to each other."""
    digits = hash_hex[:_FINGERPRINT_DIGITS]
    return "-".join(digits[start : start + _WORD] for start in range(0, len(digits), _WORD))


def _checksum(seed: bytes) -> bytes:
    return hashlib.sha256(b"wg-meshd recovery key" + seed).digest()[:_CHECKSUM_BYTES]
