"""Which Ed25519 signatures are good: the same ones for every reader, whatever its libsodium. Pure.

RFC 8032 lets a verifier multiply its equation by the cofactor 8 or not, and libsodium has done both. The
two differ only about points with a component of small order, which no honest signer makes. A signer who
makes them on purpose would be believed by some hosts of a mesh and not by others; so such points are refused.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from nacl.bindings import crypto_core_ed25519_is_valid_point, crypto_sign_open
from nacl.exceptions import CryptoError

KNOWN_KEYS: Final = 16_384
"""Keys whose order is remembered: to find it costs more than half as much as to verify a signature."""


def is_good_signature(signature: bytes, message: bytes, public_key: bytes) -> bool:
    """True when the key, a point of prime order, made these 64 bytes for the message."""
    if not (_opens(signature, message, public_key) and is_of_prime_order(public_key)):
        return False
    # Without the cofactor the equation itself leaves no other point.
    return not _WITH_COFACTOR or crypto_core_ed25519_is_valid_point(signature[:32])


@lru_cache(maxsize=KNOWN_KEYS)
def is_of_prime_order(point: bytes) -> bool:
    """True for the canonical 32 bytes of a point of the group that the base point generates."""
    return crypto_core_ed25519_is_valid_point(point)


def _opens(signature: bytes, message: bytes, public_key: bytes) -> bool:
    try:
        crypto_sign_open(signature + message, public_key)
    except (CryptoError, ValueError):
        return False
    return True


_WITH_COFACTOR: Final = _opens(
    bytes.fromhex(
        "d37798c9e363b63a5ce7eeed248c5b6104ecd472959c4e67451a313e04a8aecf"
        "1b2613efeba33f57f3f2c409e24aa71a1d23b573bc6a1589ca890d5455d25902"
    ),
    b"with cofactor",
    bytes.fromhex("804e2a48d4d8d66b432c5f95746b6a283c375e8f6dda67067ea57d5e49fce294"),
)
"""Whether this libsodium takes a signature whose point R has a component of order 8."""
