"""The daemon's side of the registry: follow the stores, keep the cache, publish our record.

Blocking; called from the daemon's threads, one at a time by a lock that is free while a store is
waited for. Whatever fails is a condition: the view only ever grows, and a store that is gone takes
nothing away.

What is known of one store is in ``followed``, what this host says of itself in ``own_record``.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from meshd.control.followed import FollowedStore
from meshd.errors import MeshError
from meshd.exchange.shared_ledger import SharedLedger
from meshd.exchange.witness import StoreView
from meshd.host.own_record import OwnDescription, OwnRecord
from meshd.model.condition import Condition, Severity
from meshd.model.host import Membership
from meshd.observe.status import StoreStatus
from meshd.registry.cache import RegistryCache
from meshd.registry.layout import host_key
from meshd.registry.ledger import Ledger
from meshd.registry.reducer import REGISTRY_GAP
from meshd.registry.signing import SigningKey
from meshd.registry.sync import PollOutcome, poll, poll_interval_seconds
from meshd.settings import RegistrySettings
from meshd.store.base import ObjectStore

LAGGING_POLL_SECONDS: Final = 30.0
SURVEY_EVERY_ROUNDS: Final = 10
"""Each so many rounds every store is asked, so that the status of each is known and the first that
works again is used again; in between a dead one costs nothing."""


class FollowReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one round, or what follows from news, came to."""

    number: int
    """Reports are made by several threads; of two the one with the higher number is newer."""
    membership: Membership
    fresh: tuple[tuple[str, bytes], ...]
    """Objects that came with it, from stores or from this host itself."""
    reached: bool
    """A store has just answered."""
    described: OwnDescription | None
    """What the own record was compared with; None: it was not."""
    conditions: tuple[Condition, ...]
    stores: tuple[StoreStatus, ...]
    verified_at: float | None
    """When a store last showed all its roots and statements, unix seconds."""


class RegistryFollower:
    """Holds the ledger and its lock. ``shared_ledger`` is the ledger for everybody else."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        cache: RegistryCache,
        identity: SigningKey,
        hid: str,
        stores: Sequence[ObjectStore],
        clock: Callable[[], float],
        stale_after_seconds: float,
        find_identity: Callable[[bytes], SigningKey | None] = lambda _: None,
    ) -> None:
        self._ledger = ledger
        self._cache = cache
        self._own = OwnRecord(
            ledger=ledger, hid=hid, identity=identity, find_identity=find_identity, clock=clock
        )
        self._hid = hid
        self._followed = [FollowedStore(store) for store in stores]
        self._in_use = self._followed[0] if stores else None
        self._rounds = 0
        self._clock = clock
        self._started_at = clock()
        self._stale_after_seconds = stale_after_seconds
        self._lost = cache_conditions(cache)
        self._saved_state = None if self._lost else ledger.state
        self._fresh: list[tuple[str, bytes]] = []
        self._unsaved: list[Condition] = []
        self._reports = 0
        self._wanted: OwnDescription | None = None
        self._lock = threading.Lock()
        self.shared_ledger = SharedLedger(
            ledger=ledger,
            lock=self._lock,
            hid=hid,
            identity=lambda: self._own.identity,
            clock=clock,
            views=self._views,
            processor=time.thread_time,
        )

    @property
    def identity(self) -> SigningKey:
        """What this host signs with now; it changes when a grant names its next identity."""
        return self._own.identity

    def membership(self) -> Membership:
        """What the verified registry says now; the same value until it changes."""
        with self._lock:
            return self._membership()

    def _membership(self) -> Membership:
        return self._ledger.membership(self._clock())

    def poll_seconds(self, hosts: int, *, are_told: bool) -> float:
        """The pause between polls that suits the store in use and the size of the mesh. ``are_told``: see
        ``poll_interval_seconds``.

        A store that does not show all that other hosts brought is looked at again soon.
        """
        if self._in_use is None:
            return 300.0
        seconds = poll_interval_seconds(hosts, store=self._in_use.store, are_told=are_told)
        lags = any(followed.shown.lags for followed in self._followed)
        return min(seconds, LAGGING_POLL_SECONDS) if lags else seconds

    def use_settings(self, settings: RegistrySettings) -> None:
        """As a reload has them; the stores themselves stay."""
        self._stale_after_seconds = settings.stale_after_seconds

    def store_status(self) -> tuple[StoreStatus, ...]:
        return tuple(followed.status() for followed in self._followed)

    def want(self, wanted: OwnDescription) -> None:
        """What this host says of itself from now on. Does not block, and may be called while a round goes
        on: what that round says at its end is what is wanted then, not what was wanted when it began."""
        self._wanted = wanted

    def describe(self) -> FollowReport:
        """Sign a newer own record when the known one says something else; the next round saves it."""
        with self._lock:
            described = self._describe()
            return self._report(self._see_clock(), described)

    def follow(self) -> FollowReport:
        """One round with the stores, in order, up to the first that answers whole and lacks nothing.

        The one that did so last comes first, so that a dead store before it costs its time-out once
        and not in every round. A survey goes through all of them, in the order they were given.
        """
        with self._lock:
            now = self._clock()
            self._rounds += 1
            survey = self._rounds % SURVEY_EVERY_ROUNDS == 2
            answered: list[FollowedStore] = []
            for followed in self._order(survey):
                outcome = poll(
                    followed.store,
                    self._ledger,
                    now=now,
                    memory=followed.memory,
                    while_blocked=self._unlocked,
                )
                self._note(followed, outcome, now)
                if not outcome.unreachable:
                    answered.append(followed)
                if outcome.complete:
                    # What evidently exists and this store does not show, another one may.
                    withheld = any(c.code == REGISTRY_GAP for c in self._membership().conditions)
                    if not survey and not withheld:
                        break
            described = self._describe()
            if answered:
                self._in_use = answered[0]
                self._publish_own(answered)
            self._save()
            return self._report(self._see_clock(), described, reached=bool(answered))

    def settle(self) -> FollowReport:
        """What follows from objects that other hosts brought: the new membership, saved."""
        with self._lock:
            self._save()
            return self._report(self._see_clock(), None)

    def _describe(self) -> OwnDescription | None:
        wanted = self._wanted
        if wanted is not None:
            self._fresh += self._own.describe(self._membership(), wanted)
        return wanted

    def _see_clock(self) -> float:
        """-> now. A clock that was set back leaves nothing in the future: that would keep stores fresh."""
        now = self._clock()
        self._started_at = min(self._started_at, now)
        for followed in self._followed:
            followed.forget_future(now)
        return now

    def _report(self, now: float, described: OwnDescription | None, *, reached: bool = False) -> FollowReport:
        conditions = [*self._unsaved, *self._complaints(now)]
        fresh, self._fresh = tuple(self._fresh), []
        self._reports += 1
        return FollowReport(
            number=self._reports,
            described=described,
            membership=self._membership(),
            fresh=fresh,
            reached=reached,
            conditions=tuple(conditions),
            stores=self.store_status(),
            verified_at=self._verified_at(),
        )

    def _note(self, followed: FollowedStore, outcome: PollOutcome, now: float) -> None:
        followed.note(outcome, self._ledger.heads(), now)
        bodies = ((key, self._ledger.body(key)) for key in outcome.new)
        self._fresh += [(key, body) for key, body in bodies if body is not None]

    def _views(self) -> tuple[StoreView, ...]:
        now = self._clock()
        views = (followed.shown.view(now) for followed in self._followed)
        return tuple(view for view in views if view is not None)

    @contextlib.contextmanager
    def _unlocked(self) -> Iterator[None]:
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()

    def _order(self, survey: bool) -> list[FollowedStore]:
        if survey or self._in_use is None:
            return list(self._followed)
        return [self._in_use, *(each for each in self._followed if each is not self._in_use)]

    def _publish_own(self, answered: Sequence[FollowedStore]) -> None:
        """Our record must be what each store shows; a store is never the only place that has it."""
        for followed in answered:
            body = self._ledger.record_bytes(self._hid)
            if body is not None:
                item = host_key(self._hid), body
                followed.bring(item, self._ledger.mesh_id, while_blocked=self._unlocked)

    def _save(self) -> None:
        """A disk that refuses is complained of in every report until it takes what is held.

        A cache that was damaged is written anew at once. It is reported until a store has shown everything,
        and this host has a place by it: a store that shows another registry gives nothing back.
        """
        state = self._ledger.state
        if state is not self._saved_state:
            try:
                self._cache.save(self._ledger)
            except MeshError as error:
                self._unsaved = [disk_failed(str(error))]
                return
            self._saved_state, self._unsaved = state, []
        is_shown = self._verified_at() is not None or not self._followed
        if is_shown and self._hid in self._membership().hosts:
            self._lost = ()

    def _complaints(self, now: float) -> list[Condition]:
        """Only looks."""
        membership = self._membership()
        conditions = [
            *membership.conditions,
            *self._lost,
            *(self._own.conditions(membership.hosts.get(self._hid), self._wanted) if self._wanted else ()),
            *(condition for followed in self._followed for condition in followed.conditions(now)),
        ]
        age = now - (self._verified_at() or self._started_at)
        if age > self._stale_after_seconds:
            conditions.append(
                Condition(
                    code="registry_stale",
                    severity=Severity.WARNING,
                    text=f"no store has answered a whole poll for {age:.0f} s: "
                    "news comes from other hosts alone",
                )
            )
        return conditions

    def _verified_at(self) -> float | None:
        return max((f.last_success_at for f in self._followed if f.last_success_at is not None), default=None)


def cache_conditions(cache: RegistryCache) -> tuple[Condition, ...]:
    """What the last load lost."""
    return tuple(
        Condition(
            code="registry_object_refused",
            severity=Severity.WARNING,
            subject="cache",
            text=f"the registry cache lost something: {reason}; a store gives it again; look at the disk",
        )
        for reason in cache.report.reasons[:1]
    )


def disk_failed(text: str) -> Condition:
    """A disk that refuses costs what a reboot would start from, never the running mesh."""
    return Condition(
        code="disk_failed",
        severity=Severity.CRITICAL,
        text=f"{text}; the mesh stays as it is, but a reboot would start from older files",
    )
