"""What anybody on the way can read of WireGuard's four messages: its paper, sections 5.4.2 to 5.4.7.

``mac1`` proves that whoever made a handshake knows the public key of its receiver. It proves nothing else:
public keys are public.
"""

from __future__ import annotations

import hmac
from hashlib import blake2s
from typing import Final, NamedTuple

INITIATION: Final = 1
RESPONSE: Final = 2
COOKIE: Final = 3
DATA: Final = 4
INITIATION_BYTES: Final = 148
RESPONSE_BYTES: Final = 92
COOKIE_BYTES: Final = 64
MIN_DATA_BYTES: Final = 32
"""A keepalive: the header and the tag of nothing."""
MAC_BYTES: Final = 16
_LABEL_MAC1: Final = b"mac1----"
_SIZES: Final = {INITIATION: INITIATION_BYTES, RESPONSE: RESPONSE_BYTES, COOKIE: COOKIE_BYTES}

Index = bytes
"""Four bytes by which a receiver knows a session or a handshake; its own free choice."""


class Message(NamedTuple):
    """``sender``: of types 1 and 2. ``receiver``: of types 2, 3 and 4. Else empty."""

    kind: int
    sender: Index
    receiver: Index


def read_message(datagram: bytes) -> Message | None:
    """None: no message of WireGuard."""
    size = len(datagram)
    if size < MIN_DATA_BYTES or datagram[1:4] != b"\0\0\0":
        return None
    kind = datagram[0]
    if kind == DATA:
        return Message(kind, b"", datagram[4:8])
    if _SIZES.get(kind) != size:
        return None
    if kind == INITIATION:
        return Message(kind, datagram[4:8], b"")
    if kind == RESPONSE:
        return Message(kind, datagram[4:8], datagram[8:12])
    return Message(kind, b"", datagram[4:8])


def mac1_key(public_key: bytes) -> bytes:
    """By which ``mac1`` of handshakes for the owner of ``public_key`` is keyed."""
    return blake2s(_LABEL_MAC1 + public_key).digest()


def is_for(datagram: bytes, key: bytes) -> bool:
    """Whether a type 1 or 2 has the ``mac1`` for the receiver with this ``mac1_key``."""
    end = len(datagram) - 2 * MAC_BYTES
    expected = blake2s(datagram[:end], key=key, digest_size=MAC_BYTES).digest()
    return hmac.compare_digest(expected, datagram[end : end + MAC_BYTES])
