"""The daemon's side of the registry: follow the stores, keep the cache, publish our record.

Blocking; called from the daemon's threads, one at a time by a lock that is free while a store is
waited for. Whatever fails is a condition: the view only ever grows, and a store that is gone takes
nothing away.

Over 400 lines: what a round with the stores, news from hosts and the own record share is one lock.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from meshd.errors import MeshError, RegistryError, StoreError
from meshd.exchange.desk import Desk
from meshd.exchange.witness import ShownHeads, StoreView
from meshd.model.condition import Condition, Severity
from meshd.model.host import Host, HostKeys, Membership
from meshd.model.keys import PublicKey
from meshd.model.network import Endpoint, IPNetwork, contained_in_any
from meshd.observe.status import StoreStatus
from meshd.registry.cache import RegistryCache
from meshd.registry.layout import host_key
from meshd.registry.ledger import Ledger
from meshd.registry.record import build_record, next_version, sign_record
from meshd.registry.reducer import REGISTRY_GAP
from meshd.registry.signing import SigningKey
from meshd.registry.sync import PollMemory, PollOutcome, poll, poll_interval_seconds, publish
from meshd.store.base import ObjectStore

WITHHELD_POLLS: Final = 2
WITHHELD_SECONDS: Final = 45.0
"""What hosts hold and a store does not show in so many polls over so many seconds, it withholds."""
LAGGING_POLL_SECONDS: Final = 30.0
SURVEY_EVERY_ROUNDS: Final = 10
"""Each so many rounds every store is asked, so that the status of each is known and the first that
works again is used again; in between a dead one costs nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnDescription:
    """What this host wants its record to say."""

    public_key: PublicKey
    listen_port: int
    endpoints: tuple[Endpoint, ...]
    announced: frozenset[IPNetwork]
    behind_nat: bool
    software: str
    next_public_key: PublicKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowReport:
    """One round. ``verified_at``: when a store last answered a whole poll, unix seconds.

    ``fresh``: objects that came with this round, from stores or from ourselves.
    ``reached``: a store has just answered a whole poll. ``number``: reports are made by several
    threads; of two the one with the higher number is newer.
    """

    number: int
    membership: Membership
    fresh: tuple[tuple[str, bytes], ...]
    reached: bool
    conditions: tuple[Condition, ...]
    stores: tuple[StoreStatus, ...]
    verified_at: float | None


@dataclass(slots=True)
class _Followed:
    store: ObjectStore
    memory: PollMemory = field(default_factory=PollMemory)
    up: bool | None = None
    last_success_at: float | None = None
    error: str | None = None
    shown: ShownHeads = field(init=False)

    def __post_init__(self) -> None:
        self.shown = ShownHeads(self.store.url)

    def status(self) -> StoreStatus:
        return StoreStatus(
            url=self.store.url, up=self.up, last_success_at=self.last_success_at, error=self.error
        )


class RegistryFollower:
    """Holds the ledger and its lock. ``desk`` is the ledger for everybody else."""

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
        self._find_identity = find_identity
        self._cache = cache
        self._identity = identity
        self._hid = hid
        self._followed = [_Followed(store) for store in stores]
        self._in_use = self._followed[0] if stores else None
        self._rounds = 0
        self._clock = clock
        self._started_at = clock()
        self._stale_after_seconds = stale_after_seconds
        self._saved_state = ledger.state
        self._fresh: list[tuple[str, bytes]] = []
        self._refused_description: Condition | None = None
        self._own_missing: list[Condition] = []
        self._reports = 0
        self._lock = threading.Lock()
        self.desk = Desk(
            ledger=ledger,
            lock=self._lock,
            hid=hid,
            identity=lambda: self._identity,
            clock=clock,
            views=self._views,
        )

    @property
    def identity(self) -> SigningKey:
        """What this host signs with now; it changes when a grant names its next identity."""
        return self._identity

    def membership(self) -> Membership:
        """What the verified registry says now; the same value until it changes."""
        with self._lock:
            return self._membership()

    def _membership(self) -> Membership:
        return self._ledger.membership(self._clock())

    def poll_seconds(self, hosts: int) -> float:
        """The pause between polls that suits the store in use and the size of the mesh.

        A store that does not show all that other hosts brought is looked at again soon.
        """
        if self._in_use is None:
            return 300.0
        seconds = poll_interval_seconds(hosts, store=self._in_use.store)
        lags = any(followed.shown.lags for followed in self._followed)
        return min(seconds, LAGGING_POLL_SECONDS) if lags else seconds

    def store_status(self) -> tuple[StoreStatus, ...]:
        return tuple(followed.status() for followed in self._followed)

    def describe(self, wanted: OwnDescription) -> FollowReport:
        """Sign a newer own record when the known one says something else; the next round saves it."""
        with self._lock:
            self._describe(wanted)
            return self._report(wanted, saved=())

    def _describe(self, wanted: OwnDescription) -> None:
        self._refused_description = None
        own = self._membership().hosts.get(self._hid)
        if own is None or not self._take_up_identity(own):
            return
        if own.record is not None and _says(own.record, _announced(wanted, own), wanted):
            return
        try:
            now = self._clock()
            record = build_record(
                mesh=self._ledger.mesh_id,
                hid=self._hid,
                gen=own.gen,
                version=next_version(own.record.version if own.record else 0, now),
                public_key=wanted.public_key,
                listen_port=wanted.listen_port,
                endpoints=wanted.endpoints,
                networks=_announced(wanted, own),
                behind_nat=wanted.behind_nat,
                software=wanted.software,
                next_public_key=wanted.next_public_key,
                seen=self._ledger.heads(),
            )
            key, body = host_key(self._hid), sign_record(record, self._identity)
            if self._ledger.offer(key, body, now=now).outcome == "new":
                self._fresh.append((key, body))
        except RegistryError as error:
            self._refused_description = Condition(
                code="record_refused",
                severity=Severity.WARNING,
                text=f"this host's own record cannot be made: {error}",
            )

    def _take_up_identity(self, own: Host) -> bool:
        """Sign with the identity that the grant names, which may be the one that was asked for last.

        False when this host does not have it.
        """
        if self._identity.public == own.identity_key:
            return True
        try:
            found = self._find_identity(own.identity_key)
        except MeshError as error:
            self._refused_description = Condition(
                code="record_refused",
                severity=Severity.WARNING,
                text=f"this host's next identity cannot be taken up: {error}",
            )
            return False
        if found is None:
            self._refused_description = Condition(
                code="identity_replaced",
                severity=Severity.CRITICAL,
                text=f"{own.name} was given another identity (number {own.gen}, by {own.provenance}), which "
                "is not on this machine: it goes on with what it has, and can announce nothing; if nobody "
                "replaced this machine, ask that administrator",
            )
            return False
        self._identity = found
        return True

    def follow(self, wanted: OwnDescription) -> FollowReport:
        """One round with the stores, in order, up to the first that answers whole and lacks nothing.

        The one that did so last comes first, so that a dead store before it costs its time-out once
        and not in every round. A survey goes through all of them, in the order they were given.
        """
        with self._lock:
            now = self._clock()
            self._rounds += 1
            survey = self._rounds % SURVEY_EVERY_ROUNDS == 2
            answered: list[_Followed] = []
            for followed in self._order(survey):
                outcome = poll(
                    followed.store, self._ledger, now=now, memory=followed.memory, waiting=self._unlocked
                )
                self._note(followed, outcome, now)
                if outcome.complete:
                    answered.append(followed)
                    # What evidently exists and this store does not show, another one may.
                    withheld = any(c.code == REGISTRY_GAP for c in self._membership().conditions)
                    if not survey and not withheld:
                        break
            self._describe(wanted)
            if answered:
                self._in_use = answered[0]
                self._own_missing = [lack for each in answered for lack in self._publish_own(each)]
            return self._report(wanted, saved=self._save(), reached=bool(answered))

    def settle(self, wanted: OwnDescription) -> FollowReport:
        """What follows from objects that other hosts brought: the new membership, saved."""
        with self._lock:
            return self._report(wanted, saved=self._save())

    def _report(
        self, wanted: OwnDescription, *, saved: Sequence[Condition], reached: bool = False
    ) -> FollowReport:
        conditions = [*self._own_missing, *saved, *self._complaints(self._clock(), wanted)]
        fresh, self._fresh = tuple(self._fresh), []
        self._reports += 1
        return FollowReport(
            number=self._reports,
            membership=self._membership(),
            fresh=fresh,
            reached=reached,
            conditions=tuple(conditions),
            stores=self.store_status(),
            verified_at=self._verified_at(),
        )

    def _note(self, followed: _Followed, outcome: PollOutcome, now: float) -> None:
        followed.up = outcome.complete
        followed.error = outcome.error or None
        if outcome.complete:
            followed.last_success_at = now
            followed.shown.update(followed.memory.shown, self._ledger.heads(), now)
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

    def _order(self, survey: bool) -> list[_Followed]:
        if survey or self._in_use is None:
            return list(self._followed)
        return [self._in_use, *(each for each in self._followed if each is not self._in_use)]

    def _publish_own(self, followed: _Followed) -> list[Condition]:
        """Our record must be what the store shows; a store is never the only place that has it."""
        body = self._ledger.record_bytes(self._hid)
        key = host_key(self._hid)
        if body is None or followed.memory.shows(key, body):
            return []
        try:
            with self._unlocked():
                publish(followed.store, [(key, body)], mesh_id=self._ledger.mesh_id)
        except StoreError as error:
            return [
                Condition(
                    code="own_record_missing",
                    severity=Severity.WARNING,
                    text=f"{followed.store.url} lacks this host's record and does not take it: {error}",
                )
            ]
        return []

    def _save(self) -> list[Condition]:
        state = self._ledger.state
        if state is self._saved_state:
            return []
        try:
            self._cache.save(self._ledger)
        except MeshError as error:
            return [disk_failed(str(error))]
        self._saved_state = state
        return []

    def _complaints(self, now: float, wanted: OwnDescription) -> list[Condition]:
        membership = self._membership()
        conditions = list(membership.conditions)
        if self._refused_description is not None:
            conditions.append(self._refused_description)
        own = membership.hosts.get(self._hid)
        if own is not None and (excess := wanted.announced - _announced(wanted, own)):
            names = ", ".join(sorted(map(str, excess)))
            conditions.append(
                Condition(
                    code="network_not_granted",
                    severity=Severity.WARNING,
                    subject=own.name,
                    text=f"jails.networks in the settings holds {names}, which no grant of this host covers: "
                    "not announced; ask an administrator for it or take it out",
                )
            )
        conditions += [
            Condition(
                code="store_down",
                severity=Severity.WARNING,
                subject=followed.store.url,
                text=f"{followed.error}; the mesh goes on with what is known",
            )
            for followed in self._followed
            if followed.up is False
        ]
        for followed in self._followed:
            if followed.up:
                conditions += _withheld(followed, now)
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


def disk_failed(text: str) -> Condition:
    """A disk that refuses costs what a reboot would start from, never the running mesh."""
    return Condition(
        code="disk_failed",
        severity=Severity.CRITICAL,
        text=f"{text}; the mesh stays as it is, but a reboot would start from older files",
    )


def _withheld(followed: _Followed, now: float) -> list[Condition]:
    withheld = followed.shown.withheld(now, polls=WITHHELD_POLLS, seconds=WITHHELD_SECONDS)
    if not withheld:
        return []
    kid, (seq, _) = withheld[0]
    more = f" (and {len(withheld) - 1} more logs)" if len(withheld) > 1 else ""
    return [
        Condition(
            code="store_withholds",
            severity=Severity.WARNING,
            subject=followed.store.url,
            text=f"{followed.store.url} does not show statement {seq} of admin {kid[:8]}{more}, which this "
            "host holds: it is not published yet, or the store has lost or withholds it",
        )
    ]


def _announced(wanted: OwnDescription, own: Host) -> frozenset[IPNetwork]:
    return frozenset(n for n in wanted.announced if contained_in_any(n, own.granted_networks))


def _says(record: HostKeys, announced: frozenset[IPNetwork], wanted: OwnDescription) -> bool:
    return record.version > 0 and (
        record.public_key,
        record.next_public_key,
        record.listen_port,
        record.endpoints,
        record.announced,
        record.behind_nat,
        record.software,
    ) == (
        wanted.public_key,
        wanted.next_public_key,
        wanted.listen_port,
        wanted.endpoints,
        announced,
        wanted.behind_nat,
        wanted.software,
    )
