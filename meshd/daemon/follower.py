"""The daemon's side of the registry: follow the stores, keep the cache, publish our record.

Blocking; called from the daemon's one store thread. Whatever fails is a condition: the view
only ever grows, and a store that is gone takes nothing away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from meshd.errors import MeshError, RegistryError, StoreError
from meshd.model.condition import Condition, Severity
from meshd.model.host import Host, HostKeys, Membership
from meshd.model.keys import PublicKey
from meshd.model.network import Endpoint, IPNetwork, contained_in_any
from meshd.observe.status import StoreStatus
from meshd.registry.cache import RegistryCache
from meshd.registry.layout import host_key
from meshd.registry.ledger import Ledger
from meshd.registry.record import build_record, next_version, sign_record
from meshd.registry.signing import SigningKey
from meshd.registry.sync import PollMemory, PollOutcome, poll, poll_interval_seconds, publish
from meshd.store.base import ObjectStore

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


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowReport:
    """One round. ``verified_at``: when a store last answered a whole poll, unix seconds."""

    membership: Membership
    new_objects: int
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

    def status(self) -> StoreStatus:
        return StoreStatus(
            url=self.store.url, up=self.up, last_success_at=self.last_success_at, error=self.error
        )


class RegistryFollower:
    """Holds the ledger. Its methods are called one at a time, from one thread."""

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
    ) -> None:
        self._ledger = ledger
        self._cache = cache
        self._identity = identity
        self._hid = hid
        self._followed = [_Followed(store) for store in stores]
        self._in_use = self._followed[0] if stores else None
        self._rounds = 0
        self._clock = clock
        self._started_at = clock()
        self._stale_after_seconds = stale_after_seconds
        self._unsaved = False
        self._refused_description: Condition | None = None

    def membership(self) -> Membership:
        """What the verified registry says now; the same value until it changes."""
        return self._ledger.membership(self._clock())

    def poll_seconds(self, hosts: int) -> float:
        """The pause between polls that suits the store in use and the size of the mesh."""
        if self._in_use is None:
            return 300.0
        return poll_interval_seconds(hosts, store=self._in_use.store)

    @property
    def over_network(self) -> bool:
        """True when the store in use is somewhere else, perhaps beyond the mesh."""
        return self._in_use is not None and getattr(self._in_use.store, "parallel_requests", 1) > 1

    def store_status(self) -> tuple[StoreStatus, ...]:
        return tuple(followed.status() for followed in self._followed)

    def describe(self, wanted: OwnDescription) -> None:
        """Sign a newer own record when the known one says something else."""
        self._refused_description = None
        own = self.membership().hosts.get(self._hid)
        if own is None or (own.record is not None and _says(own.record, _announced(wanted, own), wanted)):
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
                seen=self._ledger.heads(),
            )
            self._ledger.offer(host_key(self._hid), sign_record(record, self._identity), now=now)
            self._unsaved = True
        except RegistryError as error:
            self._refused_description = Condition(
                code="record_refused",
                severity=Severity.WARNING,
                text=f"this host's own record cannot be made: {error}",
            )

    def follow(self, wanted: OwnDescription) -> FollowReport:
        """One round with the stores, in order, up to the first that answers whole.

        The one that did so last comes first, so that a dead store before it costs its time-out once
        and not in every round. A survey goes through all of them, in the order they were given.
        """
        now = self._clock()
        conditions: list[Condition] = []
        new_objects = 0
        self._rounds += 1
        survey = self._rounds % SURVEY_EVERY_ROUNDS == 2
        answered: list[_Followed] = []
        for followed in self._order(survey):
            outcome = poll(followed.store, self._ledger, now=now, memory=followed.memory)
            new_objects += len(outcome.new)
            _note(followed, outcome, now)
            if outcome.complete:
                answered.append(followed)
                self.describe(wanted)
                conditions += self._publish_own(followed)
                if not survey:
                    break
        if answered:
            self._in_use = answered[0]
        self._unsaved = self._unsaved or new_objects > 0
        conditions += self._save()
        conditions += self._complaints(now, wanted)
        return FollowReport(
            membership=self.membership(),
            new_objects=new_objects,
            conditions=tuple(conditions),
            stores=self.store_status(),
            verified_at=self._verified_at(),
        )

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
        if not self._unsaved:
            return []
        try:
            self._cache.save(self._ledger)
        except MeshError as error:
            return [disk_failed(str(error))]
        self._unsaved = False
        return []

    def _complaints(self, now: float, wanted: OwnDescription) -> list[Condition]:
        membership = self.membership()
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
        age = now - (self._verified_at() or self._started_at)
        if age > self._stale_after_seconds:
            conditions.append(
                Condition(
                    code="registry_stale",
                    severity=Severity.WARNING,
                    text=f"no store has answered a whole poll for {age:.0f} s: changes do not arrive",
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


def _note(followed: _Followed, outcome: PollOutcome, now: float) -> None:
    followed.up = outcome.complete
    followed.error = outcome.error or None
    if outcome.complete:
        followed.last_success_at = now


def _announced(wanted: OwnDescription, own: Host) -> frozenset[IPNetwork]:
    return frozenset(n for n in wanted.announced if contained_in_any(n, own.granted_networks))


def _says(record: HostKeys, announced: frozenset[IPNetwork], wanted: OwnDescription) -> bool:
    return record.version > 0 and (
        record.public_key,
        record.listen_port,
        record.endpoints,
        record.announced,
        record.behind_nat,
        record.software,
    ) == (
        wanted.public_key,
        wanted.listen_port,
        wanted.endpoints,
        announced,
        wanted.behind_nat,
        wanted.software,
    )
