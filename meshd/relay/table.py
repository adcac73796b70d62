"""Whom the relay serves, and what it counts, as values. Who is served is decided elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

import msgspec

from meshd.model.keys import PublicKey
from meshd.model.network import Endpoint

PORT_OFFSET: Final = 2
"""Onto WireGuard's port: the next one is that of a key rotation."""
MAX_KEYS: Final = 2
"""Of one end: the one in force, and the next one while it rotates."""
MAX_PARTNERS: Final = 4
"""Of one end. A datagram that names no known session goes to each of them."""
MAX_PAIRS: Final = 256
MAX_ECHOES: Final = 1024
TOKEN_BYTES: Final = 16


class RelayEnd(msgspec.Struct, frozen=True):
    """One host of a pair, as the relaying host sees it.

    ``keys``: its WireGuard keys in force. ``endpoint``: where its datagrams come from, as far as known.
    ``second``: the same of the second key, where that one's interface has another port.
    """

    keys: tuple[PublicKey, ...]
    endpoint: Endpoint
    second: Endpoint | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(set(self.keys)) == len(self.keys) <= MAX_KEYS:
            raise ValueError(f"relayed end {self.endpoint}: {len(self.keys)} keys seen, 1 or 2 expected")
        if self.second is not None and len(self.keys) == 1:
            raise ValueError(f"relayed end {self.endpoint}: second endpoint {self.second} without a key")

    @property
    def places(self) -> tuple[tuple[PublicKey, Endpoint], ...]:
        """Each key with where its datagrams come from."""
        second = self.second or self.endpoint
        return tuple(zip(self.keys, (self.endpoint, second), strict=False))


class RelayPair(msgspec.Struct, frozen=True):
    """Two hosts whose datagrams are passed on to each other.

    ``is_leaving``: they go another way, and what is under way here is passed on in bunches.
    """

    a: RelayEnd
    b: RelayEnd
    is_leaving: bool = False

    @property
    def keys(self) -> tuple[PublicKey, PublicKey]:
        """The name of this pair in the counts."""
        return self.a.keys[0], self.b.keys[0]


class RelayTable(msgspec.Struct, frozen=True, kw_only=True):
    """All that the relay knows. A new one takes the place of the last one.

    Two ends may be at one place: WireGuard takes a member to be where its packets say that they come from,
    and a member may forge that. The other one's pairs go on.

    ``echoes``: who shows one of these tokens is answered. ``bytes_per_second``: of all pairs together.

    Raises:
        ValueError: it asks for more than there is room for, or says two things of one host.
    """

    pairs: tuple[RelayPair, ...] = ()
    echoes: tuple[bytes, ...] = ()
    bytes_per_second: int = 0

    def __post_init__(self) -> None:
        if len(self.pairs) > MAX_PAIRS:
            raise ValueError(f"relay: {len(self.pairs)} pairs seen, at most {MAX_PAIRS} expected")
        if len(self.echoes) > MAX_ECHOES or any(len(token) != TOKEN_BYTES for token in self.echoes):
            raise ValueError(f"relay: at most {MAX_ECHOES} tokens of {TOKEN_BYTES} bytes expected")
        if self.bytes_per_second < 0:
            raise ValueError(f"relay: {self.bytes_per_second} bytes per second seen, 0 or more expected")
        self._expect_one_meaning()

    @property
    def ends(self) -> tuple[RelayEnd, ...]:
        """Each once, in the order of the pairs."""
        return tuple(dict.fromkeys(self._ends()))

    def _ends(self) -> Iterator[RelayEnd]:
        for pair in self.pairs:
            yield pair.a
            yield pair.b

    def _expect_one_meaning(self) -> None:
        owners: dict[PublicKey, RelayEnd] = {}
        for end in self.ends:
            for key in end.keys:
                if owners.setdefault(key, end) != end:
                    raise ValueError(f"relay: key {key} seen for two hosts, one expected")
        for pair in self.pairs:
            if pair.a == pair.b:
                raise ValueError(f"relay: a pair of {pair.a.endpoint} with itself")
        if len({frozenset((pair.a, pair.b)) for pair in self.pairs}) < len(self.pairs):
            raise ValueError("relay: a pair seen twice, once expected")
        for end, partners in Counter(self._ends()).items():
            if partners > MAX_PARTNERS:
                raise ValueError(
                    f"relay: {partners} pairs of {end.endpoint} seen, at most {MAX_PARTNERS} expected"
                )


class PairCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Of both directions, since the pair is in the table. ``dropped``: datagrams beyond the budget."""

    keys: tuple[PublicKey, PublicKey]
    datagrams: int = 0
    bytes: int = 0
    dropped: int = 0


class RelayCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Since the process began.

    ``strangers``: datagrams from nobody that is known here. ``unmatched``: from a known place, and no message
    of WireGuard for a partner. ``over_budget``: beyond what may be spent. ``unsent``: the system refused to
    send. ``echoes``: answered. ``learned``: where ends were found beside the endpoint that was told.
    """

    pairs: tuple[PairCounts, ...] = ()
    strangers: int = 0
    unmatched: int = 0
    over_budget: int = 0
    unsent: int = 0
    echoes: int = 0
    learned: tuple[tuple[PublicKey, Endpoint], ...] = ()
