"""The key under which hosts find each other again: the Curve25519 form of their identity."""

from __future__ import annotations

from functools import lru_cache

from nacl.bindings import (
    crypto_sign_ed25519_pk_to_curve25519,
    crypto_sign_ed25519_sk_to_curve25519,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import CryptoError

from meshd.model.keys import PrivateKey, PublicKey


@lru_cache(maxsize=4096)
def rescue_public_key(identity: bytes) -> PublicKey | None:
    """The Curve25519 form of an Ed25519 identity key (RFC 7748 section 4.1, the birational map), under
    which hosts find each other again when their WireGuard keys are out of step. None: it has none, as it
    is no point of the large subgroup."""
    try:
        return PublicKey(crypto_sign_ed25519_pk_to_curve25519(identity))
    except (CryptoError, ValueError, TypeError):
        return None


def rescue_private_key(seed: bytes) -> PrivateKey:
    """The same of the secret half. One key for signatures and for Diffie-Hellman is sound for this pair of
    algorithms (Thormarker, On using the same key pair for Ed25519 and an X25519 based KEM, 2021)."""
    _, secret = crypto_sign_seed_keypair(seed)
    return PrivateKey(crypto_sign_ed25519_sk_to_curve25519(secret))
