"""Takes what is new to the other hosts: whom to tell when, and what happens when one does not answer.

What still has to go to whom is ``flood``'s bookkeeping. Here is when: a host is told while its path is up and
it is not put off, by one task for each. A failure puts it off, a little longer each time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from meshd.blocking import in_thread
from meshd.errors import RegistryError, StoreError
from meshd.exchange.flood import ALL_UP_TO, PASS_ON_SECONDS, Flood, choose_targets, listing_pause
from meshd.exchange.host_sync import notified_by
from meshd.exchange.messages import Object, Offer, OfferAnswer
from meshd.exchange.partner import Partner
from meshd.exchange.partners import Partners
from meshd.exchange.stats import StatsRecorder
from meshd.registry.layout import host_key
from meshd.supervisor import Supervisor

MAX_SPREAD_OBJECTS: Final = 64
"""A host that catches up with more than this has no news for anybody."""
MAX_DELIVERIES: Final = 32
MEMBERSHIP_SECONDS: Final = 0.2
"""How soon a wait for deliveries notices that one of them is to a host that is none any more."""
RETRY_SECONDS: Final = 1.0
RETRY_GROWTH: Final = 4.0
MAX_RETRY_SECONDS: Final = 300.0
"""For a host that is there and takes no news; one that starts asks its witnesses in seconds by itself."""

DELIVERIES: Final = "deliveries"
OUTBOXES: Final = "outboxes"
"""The parts that a defect is reported as: while a host is told, and in what leads to that."""


class OfferClient(Protocol):
    """Hands objects to a host. Blocking; StoreError and RegistryError when it does not take them."""

    def offer(self, partner: Partner, offer: Offer) -> OfferAnswer: ...


class _PutOff(NamedTuple):
    until: float
    """Of the event loop's clock."""
    pause_seconds: float


class _News(NamedTuple):
    objects: tuple[Object, ...]
    targets: Sequence[str]
    notified: tuple[str, ...]


class Deliveries:
    """Lives on the event loop. ``spread`` takes what is new, ``path_up`` starts what waited for a path."""

    def __init__(
        self,
        hid: str,
        partners: Partners,
        client: OfferClient,
        *,
        sync_with: Callable[[str], Awaitable[None]],
        stats: StatsRecorder,
        tasks: Supervisor,
        rng: random.Random,
    ) -> None:
        """
        Args:
            hid: this host's.
            sync_with: compares all that both hold: for a host that dropped something, or cannot judge it.
        """
        self._hid = hid
        self._partners = partners
        self._client = client
        self._sync_with = sync_with
        self._stats = stats
        self._tasks = tasks
        self._rng = rng
        self._flood = Flood()
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._put_off: dict[str, _PutOff] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._to_pass_on: list[_News] = []
        self._knows_members = False
        self._own_before: list[Object] = []

    # --- what is known of who has what

    @property
    def queued(self) -> int:
        """Objects that still have to go to some host, counted for each."""
        return self._flood.queued

    def use_members(self, hids: Collection[str]) -> None:
        """Nothing waits for anybody else. What this host published before it knew them goes to them now."""
        self._flood.keep_only(hids)
        self._knows_members = True
        if self._own_before:
            own, self._own_before = self._own_before, []
            self.spread(own)

    def note_held(self, hid: str, objects: Iterable[Object]) -> None:
        """That host has these."""
        self._flood.note_held(hid, objects)

    def note_notified(self, objects: Iterable[Object], notified: tuple[str, ...]) -> None:
        """Another host tells these to ``notified``, itself included."""
        self._flood.note_notified(objects, notified)

    def count_holders(self, objects: Sequence[Object]) -> int:
        """Hosts that are known to have all of these."""
        return self._flood.count_holders(objects)

    # --- whom to tell

    def publish(self, objects: Sequence[Object]) -> None:
        """What is new here: this host's own record at once, what a store showed soon."""
        if len(objects) > MAX_SPREAD_OBJECTS:
            return
        own = [item for item in objects if item[0] == host_key(self._hid)]
        listed = [item for item in objects if item[0] != host_key(self._hid)]
        if own and self._knows_members:
            self.spread(own)
        elif own:
            self._own_before = own
        if listed:
            self._call_later(listing_pause(len(self._partners.hosts), self._rng), self._spread_listed, listed)

    def spread(
        self, objects: Sequence[Object], *, source: str | None = None, notified: tuple[str, ...] = ()
    ) -> None:
        """Tell the others.

        Args:
            source: who told us; None: ourselves, our operator or a store.
            notified: whom that one tells as well.
        """
        others = self._partners.others
        targets, later = choose_targets(others, notified, source, self._rng, self._told_later())
        reached = self._partners.reachable()
        telling = tuple(hid for hid in targets if hid in reached)
        notified = notified_by(self._hid, (*telling, *notified))
        if later:
            self._pass_on(_News(tuple(objects), later, notified))
        self._tell(objects, targets, notified)

    def hear_of_owner(self, objects: Sequence[Object], owner: str) -> None:
        """Its own record, from a host itself, which tells all others that it reaches as this one was told.

        Each telling all others would cost the square of the mesh for every host that joins or starts. So a
        few are told once more, later; one of them that did not have it tells all.
        """
        others = [hid for hid in self._partners.others if hid != owner]
        if len(others) > ALL_UP_TO:
            self.spread(objects, source=owner)
            return
        _, later = choose_targets(others, others, owner, self._rng, self._told_later())
        self._pass_on(_News(tuple(objects), later, notified_by(self._hid, (owner,))))

    def _told_later(self) -> set[str]:
        return {hid for news in self._to_pass_on for hid in news.targets}

    def _spread_listed(self, objects: Sequence[Object]) -> None:
        """What a store showed, to those whom nobody tells who saw it there as well, and to a few more."""
        for notified, group in self._flood.by_notified(objects).items():
            self.spread(group, notified=notified)

    def _pass_on(self, news: _News) -> None:
        """Later, and together with all that is to be passed on by then."""
        if not self._to_pass_on:
            self._call_later(self._rng.uniform(*PASS_ON_SECONDS), self._pass_all_on)
        self._to_pass_on.append(news)

    def _pass_all_on(self) -> None:
        waiting, self._to_pass_on = self._to_pass_on, []
        for news in waiting:
            self._enqueue(*news)
        self.pump()

    def _tell(self, objects: Sequence[Object], targets: Sequence[str], notified: tuple[str, ...]) -> None:
        self._enqueue(objects, targets, notified)
        self.pump()

    def _enqueue(self, objects: Sequence[Object], targets: Sequence[str], notified: tuple[str, ...]) -> None:
        self._flood.enqueue(objects, [hid for hid in targets if hid in self._partners.hosts], notified)
        for hid in self._put_off.keys() & set(targets):
            # News is worth a try at once also where the last one failed.
            self._put_off[hid] = self._put_off[hid]._replace(until=0.0)

    def _call_later(self, seconds: float, function: Callable[..., None], *args: object) -> None:
        asyncio.get_running_loop().call_later(seconds, self._tasks.call, OUTBOXES, function, *args)

    # --- when

    def path_up(self, hid: str) -> None:
        """A host answers again: it gets what waited for it."""
        self._put_off.pop(hid, None)
        self.pump()

    def pump(self) -> None:
        """Start every delivery that can be started now, and come back when the next one can."""
        ready = self._flood.ready_hids()
        if not ready:
            return
        loop = asyncio.get_running_loop()
        now, reached = loop.time(), self._partners.reachable()
        due_at = []
        for hid in ready:
            if hid not in reached:
                continue  # its path coming up starts it
            put_off = self._put_off.get(hid)
            if put_off is not None and put_off.until > now:
                due_at.append(put_off.until)
            elif hid not in self._under_way and len(self._under_way) < MAX_DELIVERIES:
                self._under_way[hid] = self._tasks.spawn(DELIVERIES, self._deliver(hid))
        if due_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(min(due_at), self._tasks.call, OUTBOXES, self.pump)

    async def until_told(self) -> None:
        """Until nothing is under way to any host of the mesh."""
        while telling := [
            task for hid, task in self._under_way.items() if hid in self._partners.hosts and not task.done()
        ]:
            await asyncio.wait(telling, timeout=MEMBERSHIP_SECONDS)

    def close(self) -> None:
        """Nothing more is begun; a call under way ends by itself."""
        if self._timer is not None:
            self._timer.cancel()

    async def _deliver(self, hid: str) -> None:
        try:
            await self._deliver_all(hid)
        except BaseException:  # also a defect, which the supervisor reports: it is tried again, later
            self._fail(hid)
            raise
        finally:
            del self._under_way[hid]
            asyncio.get_running_loop().call_soon(self._tasks.call, OUTBOXES, self.pump)

    async def _deliver_all(self, hid: str) -> None:
        while (partner := self._partners.find(hid)) is not None:
            objects, notified = self._flood.next_batch(hid)
            if not objects:
                return
            offer = Offer(objects=objects, notified=notified)
            try:
                answer = await in_thread(self._client.offer, partner, offer)
            except (StoreError, RegistryError):
                self._stats.pushes["failed"] += len(objects)
                self._fail(hid)
                return
            self._put_off.pop(hid, None)
            for outcome in answer.outcomes:
                self._stats.pushes[outcome] += 1
            overflowed = self._flood.delivered(hid)
            if overflowed or "unknown" in answer.outcomes:
                await self._sync_with(hid)

    def _fail(self, hid: str) -> None:
        """What was under way waits again, a little longer than the last time."""
        self._flood.requeue(hid)
        before = self._put_off.get(hid)
        pause = (
            RETRY_SECONDS if before is None else min(RETRY_GROWTH * before.pause_seconds, MAX_RETRY_SECONDS)
        )
        self._put_off[hid] = _PutOff(asyncio.get_running_loop().time() + pause, pause)
