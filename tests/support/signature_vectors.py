"""Ed25519 signatures that verifiers disagree about, made by hand from a known scalar."""

from __future__ import annotations

import hashlib
from typing import Final

import fakemesh as fm
from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_scalarmult_ed25519_base_noclamp,
)

ORDER: Final = 2**252 + 27742317777372353535851937790883648493
ORDER_8: Final = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
NEUTRAL: Final = bytes([1]) + bytes(31)
NEUTRAL_AGAIN: Final = (2**255 - 18).to_bytes(32, "little")
"""Its second encoding: y is not below the prime."""
MESSAGE: Final = b"with cofactor"


def build_signatures() -> dict[str, list[dict[str, str]]]:
    key = fm.key("admin0")
    scalar, public = _scalar(key.seed()), key.public
    mixed_key = crypto_core_ed25519_add(public, ORDER_8)
    mixed_point = crypto_core_ed25519_add(_times_base(_nonce(0)), ORDER_8)
    good = _sign(scalar, public, _times_base(_nonce(0)), _nonce(0))
    number = int.from_bytes(good[32:], "little")
    refuse = {
        "S is not below the order": (public, good[:32] + (number + ORDER).to_bytes(32, "little")),
        "R has a component of order 8": (public, _sign(scalar, public, mixed_point, _nonce(0))),
        "the key has a component of order 8, and the equation holds without the cofactor": (
            mixed_key,
            _sign_with_mixed_key(scalar, mixed_key),
        ),
        "R and the key are the neutral element": (NEUTRAL, NEUTRAL + bytes(32)),
        "the key is another encoding of the neutral element": (NEUTRAL_AGAIN, NEUTRAL + bytes(32)),
        "the key is no point": (bytes([2]) + bytes(31), good),
    }
    return {
        "accept": [_vector("made by hand", public, good)],
        "refuse": [_vector(why, *case) for why, case in refuse.items()],
    }


def _vector(why: str, public: bytes, signature: bytes) -> dict[str, str]:
    return {
        "why": why,
        "public_hex": public.hex(),
        "message_hex": MESSAGE.hex(),
        "signature_hex": signature.hex(),
    }


def _sign_with_mixed_key(scalar: int, public: bytes) -> bytes:
    """With the first nonce whose challenge is a multiple of 8, which takes the key's component away."""
    for count in range(1000):
        point = _times_base(_nonce(count))
        if _challenge(point, public) % 8 == 0:
            return _sign(scalar, public, point, _nonce(count))
    raise AssertionError("one nonce in eight does")


def _sign(scalar: int, public: bytes, point: bytes, nonce: int) -> bytes:
    number = (nonce + _challenge(point, public) * scalar) % ORDER
    return point + number.to_bytes(32, "little")


def _challenge(point: bytes, public: bytes) -> int:
    return int.from_bytes(hashlib.sha512(point + public + MESSAGE).digest(), "little") % ORDER


def _nonce(count: int) -> int:
    return int.from_bytes(hashlib.sha512(b"nonce %d" % count).digest(), "little") % ORDER


def _times_base(scalar: int) -> bytes:
    return bytes(crypto_scalarmult_ed25519_base_noclamp(scalar.to_bytes(32, "little")))


def _scalar(seed: bytes) -> int:
    """RFC 8032, section 5.1.5."""
    half = bytearray(hashlib.sha512(seed).digest()[:32])
    half[0] &= 248
    half[31] = half[31] & 127 | 64
    return int.from_bytes(half, "little") % ORDER
