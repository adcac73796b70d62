"""WireGuard keys as three types, so that none can stand in another's place.

Secrets never render: ``str``, ``repr`` and formatting show a placeholder, pickling is
refused, and comparison takes constant time. ``reveal`` is the one way out, and its call
sites are the list of places that handle secrets.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final, Self

KEY_BYTES: Final = 32
HIDDEN: Final = "(hidden)"


def _decode(text: str, what: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != KEY_BYTES or base64.b64encode(raw).decode() != text:
        raise ValueError(f"{what}: expected 44 characters of base64 for 32 bytes")
    return raw


class PublicKey(bytes):
    """A Curve25519 public key, printed as wg(8) prints it. Bytes by nature, so that the peers of a
    thousand hosts are hashed and compared at the speed of bytes."""

    __slots__ = ()

    def __new__(cls, raw: bytes) -> Self:
        if len(raw) != KEY_BYTES:
            raise ValueError(f"public key: {len(raw)} bytes seen, {KEY_BYTES} expected")
        return super().__new__(cls, raw)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the 44 characters of base64 that wg(8) uses; ValueError names the fault."""
        return cls(_decode(text, f"public key {text[:60]!r}"))

    def __str__(self) -> str:
        return base64.b64encode(self).decode()

    def __repr__(self) -> str:
        return f"PublicKey({self})"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


class _Secret:
    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_BYTES:
            raise ValueError(f"{type(self).__name__}: {len(raw)} bytes seen, {KEY_BYTES} expected")
        self._raw = bytes(raw)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse 44 characters of base64; the error never repeats them."""
        return cls(_decode(text.strip(), cls.__name__))

    @classmethod
    def generate(cls) -> Self:
        from nacl.utils import random  # loaded by who has secrets; the relay has none

        return cls(random(KEY_BYTES))

    def reveal(self) -> bytes:
        """The secret bytes, for the one call that hands them to the kernel or to a 0600 file."""
        return self._raw

    def reveal_text(self) -> str:
        return base64.b64encode(self._raw).decode()

    def __str__(self) -> str:
        return HIDDEN

    def __repr__(self) -> str:
        return f"{type(self).__name__}{HIDDEN}"

    def __format__(self, spec: str) -> str:
        return format(HIDDEN, spec)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and hmac.compare_digest(self._raw, other._raw)

    def __hash__(self) -> int:
        raise TypeError(f"{type(self).__name__} is secret and not hashable")

    def __reduce__(self) -> str:
        raise TypeError(f"{type(self).__name__} is secret and cannot be pickled")


class PrivateKey(_Secret):
    """A Curve25519 private key (clamped by its users, as RFC 7748 section 5 says)."""

    __slots__ = ("_public",)

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self._public: PublicKey | None = None

    def public(self) -> PublicKey:
        """Worked out once: every turn and every look at a store asks for it."""
        if self._public is None:
            from nacl.bindings import crypto_scalarmult_base

            self._public = PublicKey(crypto_scalarmult_base(self._raw))
        return self._public


class PresharedKey(_Secret):
    """A symmetric key mixed into the handshake of one pair of peers."""

    __slots__ = ()
