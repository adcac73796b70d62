"""What the relay has learned of one end of its pairs: where it is, and which sessions it speaks in.

Whatever is learned is a guess: who forges a source address can teach it. So no guess takes the place of what
was told, a session stays with the place that its handshake came from, and there is room for few.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Final, TypeVar

import msgspec

from meshd.model.network import Endpoint
from meshd.relay.budget import Bucket
from meshd.relay.messages import Index, is_for, mac1_key
from meshd.relay.table import MAX_KEYS, RelayEnd

MAX_LEARNED: Final = 2
"""Places of one end beside the told ones: one for each key."""
MAX_WAITING: Final = 32
MAX_SESSIONS: Final = 64
HANDSHAKE_SECONDS: Final = 15.0
"""For the answer to an initiation: three times WireGuard's REKEY_TIMEOUT, after which it sends another."""
GIVES_WAY_SECONDS: Final = 10.0
"""A learned place that was silent for so long is given to whoever shows the same."""
LEARNED_SECONDS: Final = 180.0
"""A silent session of WireGuard is over then (REJECT_AFTER_TIME), and so are the mappings of most NATs."""

T = TypeVar("T")

SocketAddress = tuple[str, int]
"""Address and port as the socket gives them: compared some ten thousand times a second."""


class Rank(IntEnum):
    """What stands for a place. A weaker one never displaces a stronger one that is in use."""

    SEEN = 0  # a data message, while no session was known
    CLAIMED = 1  # a handshake with its receiver's mac1
    ANSWERED = 2  # a handshake that its receiver answered, or an index that such a one had
    TOLD = 3


class Place(msgspec.Struct, eq=False):
    """``heard_at``: the last datagram from it; minus infinity: none."""

    address: SocketAddress
    rank: Rank = Rank.TOLD
    heard_at: float = -math.inf


class Tally(msgspec.Struct, eq=False):
    """Of one pair, both directions."""

    datagrams: int = 0
    bytes: int = 0
    dropped: int = 0


class Link(msgspec.Struct, eq=False):
    """One end's way to a partner. Both directions have the tally in common."""

    partner: End
    tally: Tally
    is_leaving: bool = False


class Waiting(msgspec.Struct, eq=False):
    """An initiation that went to an end and waits for the answer. ``source``: where it came from."""

    source: SocketAddress
    at: float


class End(msgspec.Struct, eq=False):
    """``waiting``: by the index of their initiator. ``sessions``: where what this end sends goes, by the
    index on it."""

    said: RelayEnd
    told: list[Place] = msgspec.field(default_factory=list)
    learned: list[Place] = msgspec.field(default_factory=list)
    links: list[Link] = msgspec.field(default_factory=list)
    waiting: dict[Index, Waiting] = msgspec.field(default_factory=dict)
    sessions: dict[Index, tuple[Link, Place]] = msgspec.field(default_factory=dict)
    share: Bucket = msgspec.field(default_factory=lambda: Bucket(0.0, 0.0))
    macs: list[bytes] = msgspec.field(default_factory=list)
    hosts: frozenset[str] = frozenset()
    """The addresses of the told places, without their ports."""

    def __post_init__(self) -> None:
        self.use(self.said)

    def use(self, said: RelayEnd) -> None:
        """Be where this says. Sessions of a place that moves move with it."""
        before = dict(zip(self.said.keys, self.told, strict=False))
        self.said, self.told = said, []
        self.macs = [mac1_key(key) for key in said.keys]
        known = {place.address: place for place in before.values()}
        wanted = {address_of(endpoint) for _, endpoint in said.places}
        for key, endpoint in said.places:
            address = address_of(endpoint)
            place = known.get(address) or before.get(key)
            if place is None or (place.address != address and place.address in wanted):
                place = Place(address)
            elif place.address != address:
                del known[place.address]
                place.address, place.heard_at = address, -math.inf
            known[address] = place
            self.told.append(place)
        self.hosts = frozenset(place.address[0] for place in self.told)
        self._forget_what_is_told_now()

    def _forget_what_is_told_now(self) -> None:
        told = {place.address: place for place in self.told}
        for place in list(self.learned):
            if place.address in told or place.address[0] not in self.hosts:
                self.learned.remove(place)
                self.rebind(place, told.get(place.address))
        held = {id(place) for place in (*self.told, *self.learned)}
        for link in self.links:
            for index, (back, place) in list(link.partner.sessions.items()):
                if back.partner is self and id(place) not in held:
                    del link.partner.sessions[index]

    def place_at(self, address: SocketAddress) -> Place | None:
        """Its own place with that address."""
        return next((place for place in (*self.told, *self.learned) if place.address == address), None)

    def key_of(self, datagram: bytes) -> int | None:
        """Which of its keys a handshake is for, by its mac1."""
        return next((number for number, mac in enumerate(self.macs) if is_for(datagram, mac)), None)

    def places(self, key: int | None = None) -> list[Place]:
        """Where it may be: by all that is known, or as the owner of one of its keys."""
        told = self.told if key is None else self.told[key : key + 1]
        return [*dict.fromkeys(told), *self.learned]

    def interface_at(self, source: SocketAddress) -> int | None:
        """Which of its two interfaces that is the told place of; None: neither, or of both."""
        found = [number for number, place in enumerate(self.told) if place.address == source]
        return found[0] if len(self.told) == MAX_KEYS and len(found) == 1 else None

    def link_to(self, partner: End | None) -> Link | None:
        return next((link for link in self.links if link.partner is partner), None)

    def learn(self, address: SocketAddress, rank: Rank, now: float) -> Place | None:
        """A new place; None: all are taken by others with as much to show."""
        if len(self.learned) >= MAX_LEARNED:
            weakest = min(self.learned, key=lambda place: (place.rank, place.heard_at))
            silent = now - weakest.heard_at >= GIVES_WAY_SECONDS
            if weakest.rank > rank or (weakest.rank == rank and not silent):
                return None
            self.learned.remove(weakest)
            self.rebind(weakest, None)
        place = Place(address, rank, now)
        self.learned.append(place)
        return place

    def forget_silent(self, now: float) -> bool:
        """Whether there was a learned place that nobody uses any more."""
        over = [place for place in self.learned if now - place.heard_at >= LEARNED_SECONDS]
        for place in over:
            self.learned.remove(place)
            self.rebind(place, None)
        return bool(over)

    def rebind(self, old: Place, new: Place | None) -> None:
        """Sessions that lead to a place of this end lead to another one, or are forgotten."""
        for link in self.links:
            sessions = link.partner.sessions
            for index, (back, place) in list(sessions.items()):
                if place is old:
                    sessions.pop(index)
                    if new is not None:
                        sessions[index] = back, new

    def expect(self, index: Index, source: SocketAddress, now: float) -> None:
        """An initiation goes to this end. The first one with an index counts: a copy teaches nothing."""
        waits = self.waiting.get(index)
        if waits is not None and now - waits.at <= HANDSHAKE_SECONDS:
            return
        _remember(self.waiting, index, Waiting(source, now), MAX_WAITING)

    def awaited(self, index: Index, now: float) -> Waiting | None:
        """The initiation that an answer with this index is for."""
        waits = self.waiting.get(index)
        return waits if waits is not None and now - waits.at <= HANDSHAKE_SECONDS else None

    def open_session(self, index: Index, link: Link, place: Place, now: float) -> None:
        """What this end sends with that index goes there.

        A session whose place is in use is led nowhere else: who saw its index pass could forge a handshake.
        """
        known = self.sessions.get(index)
        if known is not None and known[1] is not place and now - known[1].heard_at < GIVES_WAY_SECONDS:
            return
        _remember(self.sessions, index, (link, place), MAX_SESSIONS)


def address_of(endpoint: Endpoint) -> SocketAddress:
    return str(endpoint.address), endpoint.port


def _remember(held: dict[Index, T], index: Index, what: T, limit: int) -> None:
    """As the newest one; the oldest goes where there is no room."""
    held.pop(index, None)
    if len(held) >= limit:
        del held[next(iter(held))]
    held[index] = what
