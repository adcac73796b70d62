"""The proof that a host has the WireGuard key that it names: a signature by that very key. Pure.

WireGuard's keys are for Diffie-Hellman, but Curve25519 is the curve of Ed25519 in other coordinates, so a
private key of the one signs as a key of the other. This is XEdDSA
(https://signal.org/docs/specifications/xeddsa/), and any key will do, also one that wg(8) made. Whoever
checks a proof turns the public key into its Ed25519 form and verifies an ordinary signature.
"""

from __future__ import annotations

import hashlib
from typing import Final

from nacl.bindings import (
    crypto_core_ed25519_scalar_add,
    crypto_core_ed25519_scalar_mul,
    crypto_core_ed25519_scalar_negate,
    crypto_core_ed25519_scalar_reduce,
    crypto_scalarmult_ed25519_base_noclamp,
)

from meshd.model.keys import KEY_BYTES, PrivateKey, PublicKey
from meshd.registry.envelope import is_signature, pae

KEY_PROOF_TYPE: Final = "application/vnd.wg-meshd.wireguard-key.v1"

_PRIME: Final = 2**255 - 19
_NONCE_PREFIX: Final = b"\xfe" + b"\xff" * 31
"""hash1 of XEdDSA: no encoding of a field element begins so."""


def prove_key(key: PrivateKey, hid: str) -> bytes:
    """The 64 bytes that say: who has this key is host ``hid``. The same ones each time.

    The nonce is derived from key and message alone, as that of Ed25519 is: a record that says the same
    has the same bytes, and no bad source of random numbers gives the key away.
    """
    scalar, public = _signing_pair(key)
    message = pae(KEY_PROOF_TYPE, _payload(hid, key.public()))
    nonce = _reduce(_NONCE_PREFIX + scalar + message)
    point = crypto_scalarmult_ed25519_base_noclamp(nonce)
    challenge = _reduce(point + public + message)
    answer = crypto_core_ed25519_scalar_add(crypto_core_ed25519_scalar_mul(challenge, scalar), nonce)
    return bytes(point + answer)


def is_key_proof(proof: bytes, key: PublicKey, hid: str) -> bool:
    """True when the holder of ``key`` said that it is host ``hid``."""
    try:
        point = edwards_form(key)
    except ValueError:
        return False
    return is_signature(proof, KEY_PROOF_TYPE, _payload(hid, key), point)


def _payload(hid: str, key: PublicKey) -> bytes:
    return f"{hid} {key}".encode()


def _signing_pair(key: PrivateKey) -> tuple[bytes, bytes]:
    """The scalar whose public point has the sign bit 0, and that point."""
    clamped = bytearray(key.reveal())
    clamped[0] &= 248
    clamped[31] = clamped[31] & 127 | 64
    scalar = crypto_core_ed25519_scalar_reduce(bytes(clamped) + bytes(32))
    point = bytearray(crypto_scalarmult_ed25519_base_noclamp(scalar))
    if point[31] & 128:
        scalar = crypto_core_ed25519_scalar_negate(scalar)
        point[31] &= 127
    return scalar, bytes(point)


def edwards_form(key: PublicKey) -> bytes:
    """The Ed25519 key with sign bit 0 (RFC 7748, section 4.1: y = (u - 1) / (u + 1)).

    ValueError for a number that is not below the prime, a second spelling of another key, and for -1.
    """
    u = int.from_bytes(key, "little")
    if u >= _PRIME - 1:
        raise ValueError(f"public key {key}: not a reduced number with an Ed25519 form")
    y = (u - 1) * pow(u + 1, -1, _PRIME) % _PRIME
    return y.to_bytes(KEY_BYTES, "little")


def _reduce(data: bytes) -> bytes:
    return crypto_core_ed25519_scalar_reduce(hashlib.sha512(data).digest())
