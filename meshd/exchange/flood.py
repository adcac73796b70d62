"""Which object still has to go to which host: each once to each, never back. Pure.

Whoever learns something new tells the others. In a small mesh that is everybody at once, and who
is told passes it on only to a few, for the case that the teller could not reach them; in a large
one everybody tells some, chosen at random. What is missed that way is found by the witnesses.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from meshd.exchange.messages import MAX_ALREADY_NOTIFIED, MAX_OFFER_BYTES, MAX_OFFER_OBJECTS, Object

ALL_UP_TO: Final = 32
"""Hosts that are all told by whoever has the news."""
FAN_OUT: Final = 8
PASS_ON: Final = 2
"""Hosts told once more, although the sender said that it tells them."""
PASS_ON_SECONDS: Final = (1.0, 2.0)
"""After so long, drawn at random: when those who were reached are done with it. A host that joins is several
pieces of news within that time, which go on together."""
MAX_REMEMBERED: Final = 1024
MAX_QUEUED: Final = 256
LISTING_PAUSE_SECONDS_PER_HOST: Final = 0.05
MAX_LISTING_PAUSE_SECONDS: Final = 1.0
"""How long a host may keep to itself what a store lists, drawn at random. All see it at about the
same time, and each telling all costs the square of the mesh for every object: whoever draws least tells
the others, and they hear of it before it is their turn. Half of the time lost is less than a poll."""


def choose_targets(
    hosts: Sequence[str],
    notified: Collection[str],
    source: str | None,
    rng: random.Random,
    before: Collection[str] = (),
) -> tuple[list[str], list[str]]:
    """Whom to tell of something that ``source`` (None: ourselves or a store) told us and ``notified``.

    ``hosts`` in order of hid, so that a seed tells one story.
    Those to be told at once, and those to be told a little later, unless they have it by then. ``before``:
    who is told something else then, and so costs no offer more.
    """
    others, aware = [hid for hid in hosts if hid != source], frozenset(notified)
    unaware = [hid for hid in others if hid not in aware]
    if len(others) > ALL_UP_TO:
        return rng.sample(unaware, min(FAN_OUT, len(unaware))), []
    again = [hid for hid in others if hid in aware]
    kept = [hid for hid in again if hid in before][:PASS_ON]
    rest = [hid for hid in again if hid not in kept]
    return unaware, [*kept, *rng.sample(rest, min(PASS_ON - len(kept), len(rest)))]


def listing_pause(hosts: int, rng: random.Random) -> float:
    """Seconds to wait before telling ``hosts`` others what a store lists."""
    return rng.uniform(0.0, min(LISTING_PAUSE_SECONDS_PER_HOST * hosts, MAX_LISTING_PAUSE_SECONDS))


def merge_notified(notified: Iterable[str], more: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*more, *notified)))[:MAX_ALREADY_NOTIFIED]


class _Outbox:
    """What waits for one host, the newest body a key. ``notified`` goes with it."""

    __slots__ = ("notified", "objects", "overflowed")

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.notified: tuple[str, ...] = ()
        self.overflowed = False


class Flood:
    """The bookkeeping of one host, in bounded memory. Called from one thread."""

    def __init__(self) -> None:
        self._holders: dict[bytes, set[str]] = {}
        self._notified: dict[bytes, tuple[str, ...]] = {}
        self._outboxes: dict[str, _Outbox] = {}
        self._under_way: dict[str, tuple[Object, ...]] = {}

    @property
    def queued(self) -> int:
        """Objects that still have to go to some host, counted for each."""
        return sum(len(outbox.objects) for outbox in self._outboxes.values())

    def note_held(self, hid: str, objects: Iterable[Object]) -> None:
        """That host has these: it sent them, or it said so."""
        for _, body in objects:
            name = _name(body)
            holders = self._holders.pop(name, set())
            holders.add(hid)
            self._holders[name] = holders
        while len(self._holders) > MAX_REMEMBERED:
            del self._holders[next(iter(self._holders))]

    def note_notified(self, objects: Iterable[Object], notified: tuple[str, ...]) -> None:
        """Another host tells these to ``notified``, the host itself included."""
        for _, body in objects:
            name = _name(body)
            self._notified[name] = merge_notified(self._notified.pop(name, ()), notified)
        while len(self._notified) > MAX_REMEMBERED:
            del self._notified[next(iter(self._notified))]

    def by_notified(self, objects: Iterable[Object]) -> dict[tuple[str, ...], list[Object]]:
        """The objects by those whom other hosts are known to tell."""
        groups: dict[tuple[str, ...], list[Object]] = {}
        for item in objects:
            groups.setdefault(self._notified.get(_name(item[1]), ()), []).append(item)
        return groups

    def enqueue(
        self, objects: Sequence[Object], targets: Iterable[str], notified: tuple[str, ...] = ()
    ) -> None:
        """Let these wait for ``targets``, except for those that have them."""
        holders = [(item, self._holders.get(_name(item[1]), ())) for item in objects]
        for hid in targets:
            under_way = self._under_way.get(hid, ())
            wanted = [item for item, holding in holders if hid not in holding and item not in under_way]
            if not wanted:
                continue
            outbox = self._outboxes.setdefault(hid, _Outbox())
            outbox.objects.update(wanted)
            outbox.notified = merge_notified(outbox.notified, notified)
            while len(outbox.objects) > MAX_QUEUED:
                del outbox.objects[next(iter(outbox.objects))]
                outbox.overflowed = True

    def next_batch(self, hid: str) -> tuple[tuple[Object, ...], tuple[str, ...]]:
        """The next offer to a host and whom it need not tell; nothing while one is under way."""
        outbox = self._outboxes.get(hid)
        if outbox is None or hid in self._under_way:
            return (), ()
        batch: list[Object] = []
        size = 0
        for key, body in outbox.objects.items():
            if batch and (len(batch) == MAX_OFFER_OBJECTS or size + len(body) > MAX_OFFER_BYTES):
                break
            batch.append((key, body))
            size += len(body)
        for key, _ in batch:
            del outbox.objects[key]
        if not outbox.objects and not outbox.overflowed:
            del self._outboxes[hid]
        self._under_way[hid] = tuple(batch)
        return tuple(batch), outbox.notified

    def delivered(self, hid: str) -> bool:
        """The offer under way was answered -> True when more was dropped than waits: compare all."""
        self.note_held(hid, self._under_way.pop(hid, ()))
        outbox = self._outboxes.get(hid)
        if outbox is None or outbox.objects or not outbox.overflowed:
            return False
        del self._outboxes[hid]
        return True

    def requeue(self, hid: str) -> None:
        """The offer under way came to nothing: it waits again, unless newer bodies do or the host is gone."""
        again = self._under_way.pop(hid, None)
        if again is None:
            return
        outbox = self._outboxes.setdefault(hid, _Outbox())
        outbox.objects = {**dict(again), **outbox.objects}

    def is_under_way(self, hid: str) -> bool:
        """True while that host has not answered an offer."""
        return hid in self._under_way

    def ready_hids(self) -> list[str]:
        """Hosts that something waits for and no offer is under way to."""
        return [hid for hid in self._outboxes if hid not in self._under_way]

    def count_holders(self, objects: Sequence[Object]) -> int:
        """Hosts that are known to have all of these."""
        holders = [self._holders.get(_name(body), set()) for _, body in objects]
        return len(set.intersection(*holders)) if holders else 0

    def keep_only(self, hids: Collection[str]) -> None:
        """Forget what waits for hosts that are gone, and what is under way to them."""
        for hid in (self._outboxes.keys() | self._under_way.keys()) - set(hids):
            self._outboxes.pop(hid, None)
            self._under_way.pop(hid, None)


def _name(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:16]
