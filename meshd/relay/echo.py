"""Does this way carry UDP? A datagram with a token that the relay was given comes back as long as it was.

The other end of a relayed pair asks the direct path so, to know when it carries packets again. Question and
answer have different first bytes, none of them WireGuard's, so that no answer is ever answered.
"""

from __future__ import annotations

from typing import Final

from meshd.relay.budget import Bucket
from meshd.relay.table import TOKEN_BYTES

REQUEST: Final = 0xE0
REPLY: Final = 0xE1
NONCE_BYTES: Final = 8
ECHO_BYTES: Final = 1 + TOKEN_BYTES + NONCE_BYTES
PER_SECOND: Final = 10.0
"""Of one token: who saw one on its way can have no more sent to anybody."""
BURST: Final = 20.0


def render_request(token: bytes, nonce: bytes) -> bytes:
    """``token``: from the host that is asked. ``nonce``: of the asker's choice, to tell answers apart."""
    if len(token) != TOKEN_BYTES or len(nonce) != NONCE_BYTES:
        raise ValueError(
            f"echo: {len(token)} and {len(nonce)} bytes seen, {TOKEN_BYTES} and {NONCE_BYTES} expected"
        )
    return bytes((REQUEST,)) + token + nonce


def parse_reply(datagram: bytes) -> tuple[bytes, bytes] | None:
    """(token, nonce) of an answer. None: it is none."""
    if len(datagram) != ECHO_BYTES or datagram[0] != REPLY:
        return None
    return datagram[1 : 1 + TOKEN_BYTES], datagram[1 + TOKEN_BYTES :]


class Echoes:
    """Answers those who know a token, each so often."""

    def __init__(self) -> None:
        self._buckets: dict[bytes, Bucket] = {}

    def use(self, tokens: tuple[bytes, ...]) -> None:
        """These and no others from now on."""
        known = self._buckets
        self._buckets = {token: known.get(token) or Bucket(PER_SECOND, BURST) for token in tokens}

    def answer(self, datagram: bytes, now: float) -> bytes | None:
        """The answer, as long as the question; None: there is none."""
        if len(datagram) != ECHO_BYTES or datagram[0] != REQUEST:
            return None
        bucket = self._buckets.get(datagram[1 : 1 + TOKEN_BYTES])
        if bucket is None or not bucket.take(1.0, now):
            return None
        return bytes((REPLY,)) + datagram[1:]
