"""Public keys from private ones (RFC 7748), so that the imitated interface has the right one."""

from __future__ import annotations

import binascii

PRIME = 2**255 - 19
A24 = 121665


def decoded(text: str) -> bytes | None:
    """A key as wg(8) takes it: 44 characters of base64 for 32 bytes."""
    try:
        key = binascii.a2b_base64(text.encode(), strict_mode=True)
    except (binascii.Error, UnicodeError):
        return None
    return key if len(key) == 32 and len(text) == 44 else None


def encoded(key: bytes) -> str:
    return binascii.b2a_base64(key, newline=False).decode()


def public_key(private: str) -> str:
    scalar = decoded(private)
    if scalar is None:
        raise ValueError("not a key")
    return encoded(ladder(scalar, 9))


def clamped(scalar: bytes) -> bytes:
    return bytes([scalar[0] & 248]) + scalar[1:31] + bytes([scalar[31] & 127 | 64])


def ladder(scalar: bytes, u: int) -> bytes:
    """The Montgomery ladder of RFC 7748, section 5; constant time is no matter here."""
    k = int.from_bytes(clamped(scalar), "little")
    x2, z2, x3, z3, swap = 1, 0, u, 1, 0
    for position in range(254, -1, -1):
        bit = k >> position & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % PRIME, b * b % PRIME, d * a % PRIME, c * b % PRIME
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % PRIME, u * (da - cb) ** 2 % PRIME
        x2, z2 = aa * bb % PRIME, e * (aa + A24 * e) % PRIME
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, PRIME - 2, PRIME) % PRIME).to_bytes(32, "little")
