"""Fetch what a store has and the ledger lacks; publish what the ledger has and a store lacks.

The store decides only what is seen, never what is believed: whatever comes is offered to the
ledger, which verifies it, and what does not come changes nothing. ETags and listings are hints
that save requests. Everything is bounded (objects, keys, pages, bytes, seconds), so that a store
without end costs one poll, not the daemon; what was learned before a bound was met is kept.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from meshd.errors import StoreError
from meshd.registry.layout import (
    HOST_PREFIX,
    LOG_PREFIX,
    ROOT_PREFIX,
    LogKeyName,
    host_key,
    log_prefix,
    mesh_prefix,
    parse_object_key,
)
from meshd.registry.ledger import Admission, Ledger
from meshd.store.base import MAX_OBJECT_BYTES, ObjectInfo, ObjectStore

THOROUGH_EVERY_POLLS: Final = 20
"""Each so many polls the logs are listed from their start and refused objects fetched again."""

MAX_SEEN: Final = 60_000
"""Beyond so many remembered bodies somebody floods the store; forgetting them only costs requests."""

_PAGE_KEYS: Final = 1000
_BATCH: Final = 48
_PUBLISH_PAUSES_SECONDS: Final = (0.05, 0.2, 0.8)
PUBLISH_SECONDS: Final = 15.0
"""After so long without success no further attempt at an object begins: a store that takes connections
and never answers costs one or two time-outs, and not one for each request of every attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PollLimits:
    """What one poll may cost. ``listed_keys`` bounds each listing beyond what the mesh may have."""

    fetched_bytes: int = 32 * 1024 * 1024
    fetched_objects: int = 40_000
    listed_keys: int = 40_000
    root_objects: int = 2_000
    seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class _Seen:
    """``generation`` of the ledger when it refused this body or let it wait; None: it took it."""

    etag: str
    digest: bytes
    generation: int | None


@dataclass(slots=True)
class PollMemory:
    """What the polls of one process have seen of one store; losing it costs requests, nothing else.

    ``shown``: by admin the newest (seq, hash) that the newest poll listed and the ledger holds,
    (0, "") for none.
    """

    polls: int = 0
    seen: dict[str, _Seen] = field(default_factory=dict)
    shown: dict[str, tuple[int, str]] = field(default_factory=dict)

    def shows(self, key: str, body: bytes) -> bool:
        """True when the store's newest listing had this very body at ``key`` (relative to the mesh)."""
        seen = self.seen.get(key)
        return seen is not None and seen.digest == hashlib.sha256(body).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class PollOutcome:
    """``complete``: everything the store lists was looked at. ``error``: why not, one line, or empty.

    ``new`` keys changed the ledger also when the poll is not complete. ``requests`` counts
    pages of listings as one each.
    """

    new: tuple[str, ...]
    refused: tuple[Admission, ...]
    pending: tuple[str, ...]
    requests: int
    fetched_bytes: int
    complete: bool
    error: str


def poll(
    store: ObjectStore,
    ledger: Ledger,
    *,
    now: float,
    memory: PollMemory,
    limits: PollLimits | None = None,
    waiting: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> PollOutcome:
    """One round: roots, then the logs of its admins, then the records of granted hosts.

    ``waiting`` is entered around every wait for the store; what it guards may change meanwhile.
    Never raises StoreError: an unreachable store is an outcome with ``error``.
    """
    memory.polls += 1
    run = _Poll(store, ledger, now, memory, limits or PollLimits(), waiting)
    try:
        run.fetch_roots()
        run.fetch_logs()
        run.fetch_hosts()
    except StoreError as error:
        run.errors.append(str(error))
    return PollOutcome(
        new=tuple(run.new),
        refused=tuple(run.refused),
        pending=tuple(run.pending),
        requests=run.requests,
        fetched_bytes=run.fetched_bytes,
        complete=not run.errors,
        error=run.errors[0] if run.errors else "",
    )


class _Poll:
    def __init__(
        self,
        store: ObjectStore,
        ledger: Ledger,
        now: float,
        memory: PollMemory,
        limits: PollLimits,
        waiting: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._store = store
        self._waiting = waiting
        self._ledger = ledger
        self._now = now
        self._memory = memory
        self._limits = limits
        self._thorough = memory.polls % THOROUGH_EVERY_POLLS == 1
        self._prefix = mesh_prefix(ledger.mesh_id)
        self._deadline = time.monotonic() + limits.seconds
        self._fetched_objects = 0
        self.new: list[str] = []
        self.refused: list[Admission] = []
        self.pending: list[str] = []
        self.errors: list[str] = []
        self.requests = 0
        self.fetched_bytes = 0

    def fetch_roots(self) -> None:
        infos, _ = self._list(ROOT_PREFIX, "", self._limits.root_objects)
        # Root by root and the payload first: by it the ledger tells signatures from junk.
        self._fetch(sorted(infos, key=lambda info: (info.key.partition(".")[0], info.key.endswith(".sig"))))

    def fetch_logs(self) -> None:
        heads = self._ledger.heads()
        for kid in sorted(self._ledger.chain.current.logs):
            prefix = log_prefix(kid)
            # Up to the head, but with all that carries its number: a fork shows there first.
            known = f"{prefix}{heads[kid][0]:010d}" if kid in heads and not self._thorough else ""
            shown = self._fetch_log(prefix, known)
            if shown is None and known:
                # The store has lost or withholds what we hold: what does it show, then?
                shown = self._fetch_log(prefix, "")
            self._memory.shown[kid] = shown or (0, "")

    def _fetch_log(self, prefix: str, known: str) -> tuple[int, str] | None:
        """The newest statement that is listed and verifies."""
        infos, _ = self._list(prefix, known, self._limits.listed_keys)
        self._fetch([info for info in infos if self._ledger.body(info.key) is None])
        for info in reversed(infos):
            if self._ledger.body(info.key) is not None:
                name = parse_object_key(info.key)
                assert isinstance(name, LogKeyName)
                return name.seq, name.hash
        return None

    def fetch_hosts(self) -> None:
        """Only of hosts that a grant names: whoever may write to the bucket may fill it with others."""
        membership = self._ledger.membership(self._now)
        granted = {host_key(hid) for hid in (*membership.hosts, *membership.unplaced)}
        limit = 4 * self._ledger.chain.root.max_hosts + _PAGE_KEYS
        infos, whole = self._list(HOST_PREFIX, "", limit)
        listed = {info.key for info in infos}
        if whole:
            gone = [key for key in self._memory.seen if key.startswith(HOST_PREFIX) and key not in listed]
            for key in gone:
                del self._memory.seen[key]
        else:
            # A flood of strange names must not hide the real ones that sort after it.
            infos += [ObjectInfo(key=key, etag="", size_bytes=0) for key in sorted(granted - listed)]
        self._fetch([info for info in infos if info.key in granted])

    def _list(self, prefix: str, start_after: str, limit: int) -> tuple[list[ObjectInfo], bool]:
        """Infos with keys relative to the mesh, and whether that is the whole listing."""
        self._check_deadline()
        after = self._prefix + start_after if start_after else ""
        infos: list[ObjectInfo] = []
        with self._waiting():
            listing = self._store.list(self._prefix + prefix, start_after=after)
            for info in islice(listing, limit + 1):
                if len(infos) % _PAGE_KEYS == 0:
                    self._check_deadline()
                key = info.key.removeprefix(self._prefix)
                infos.append(ObjectInfo(key=key, etag=info.etag, size_bytes=info.size_bytes))
        self.requests += 1 + max(len(infos) - 1, 0) // _PAGE_KEYS
        if len(infos) > limit:
            self.errors.append(f"{self._store.url}: over {limit} objects below {prefix}, not all looked at")
            return infos[:limit], False
        return infos, True

    def _fetch(self, infos: Sequence[ObjectInfo]) -> None:
        wanted = [info for info in infos if self._is_wanted(info)]
        workers = min(getattr(self._store, "parallel_requests", 1), len(wanted))
        if workers <= 1:
            for info in wanted:
                with self._waiting():
                    answer = self._get(info.key)
                self._take([(info, answer)])
            return
        with ThreadPoolExecutor(workers, thread_name_prefix="store") as pool:
            for start in range(0, len(wanted), _BATCH):
                batch = wanted[start : start + _BATCH]
                with self._waiting():
                    bodies = list(pool.map(self._get, [info.key for info in batch]))
                self._take(list(zip(batch, bodies, strict=True)))

    def _is_wanted(self, info: ObjectInfo) -> bool:
        seen = self._memory.seen.get(info.key)
        held = self._ledger.body(info.key) if seen is None else None
        if held is not None and info.etag == _md5(held):
            # All our stores' ETags are MD5s. Who forges one hides an object, as any store can anyhow.
            self._remember(info.key, info.etag, held, settled=True)
            return False
        if seen is not None and info.etag and seen.etag == info.etag:
            return seen.generation is not None and (
                self._thorough or seen.generation != self._ledger.generation
            )
        if info.size_bytes > MAX_OBJECT_BYTES:
            reason = f"{info.size_bytes} bytes seen, at most {MAX_OBJECT_BYTES} expected"
            self.refused.append(Admission(outcome="refused", key=info.key, reason=reason))
            return False
        return True

    def _get(self, key: str) -> tuple[str, bytes] | StoreError | None:
        try:
            stored = self._store.get(self._prefix + key)
        except StoreError as error:
            return error
        return None if stored is None else (stored.etag, stored.body)

    def _take(self, answers: Sequence[tuple[ObjectInfo, tuple[str, bytes] | StoreError | None]]) -> None:
        """Offer what came. One bad object is passed over; a batch of nothing else ends the poll."""
        failures = [answer for _, answer in answers if isinstance(answer, StoreError)]
        self.requests += len(answers)
        for info, answer in answers:
            if isinstance(answer, tuple):
                self._offer(info.key, *answer)
        self.errors += [str(failure) for failure in failures]
        if len(failures) == len(answers) > 1:
            raise failures[0]
        self._fetched_objects += len(answers)
        if self._fetched_objects > self._limits.fetched_objects or (
            self.fetched_bytes > self._limits.fetched_bytes
        ):
            raise StoreError(
                f"{self._store.url}: {self._fetched_objects} objects and {self.fetched_bytes} bytes "
                "in one poll: the rest is passed over"
            )
        self._check_deadline()

    def _offer(self, key: str, etag: str, body: bytes) -> None:
        self.fetched_bytes += len(body)
        admission = self._ledger.offer(key, body, now=self._now)
        match admission.outcome:
            case "new":
                self.new.append(key)
            case "refused":
                self.refused.append(admission)
            case "pending":
                self.pending.append(key)
        # What waits may be forgotten by the ledger before its other half comes: it is fetched again, too.
        self._remember(key, etag, body, settled=admission.outcome not in ("refused", "pending"))

    def _remember(self, key: str, etag: str, body: bytes, *, settled: bool) -> None:
        # Log entries that were taken are found in the ledger by their name.
        if not settled or not key.startswith(LOG_PREFIX):
            if len(self._memory.seen) >= MAX_SEEN:
                self._memory.seen.clear()
            generation = None if settled else self._ledger.generation
            self._memory.seen[key] = _Seen(etag, hashlib.sha256(body).digest(), generation)

    def _check_deadline(self) -> None:
        if time.monotonic() > self._deadline:
            raise StoreError(
                f"{self._store.url}: a poll over {self._limits.seconds:g} s long: the rest is passed over"
            )


def publish(
    store: ObjectStore,
    objects: Sequence[tuple[str, bytes]],
    *,
    mesh_id: str,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Write each object (keys relative to the mesh) until it reads back equal, one after the other.

    In the order given, so that a reader meets a statement after those before it. The bytes never
    change between attempts: a write that failed may still take effect later. StoreError after
    the fourth attempt at one object, or none in PUBLISH_SECONDS; those before it are published.
    """
    prefix = mesh_prefix(mesh_id)
    for key, body in objects:
        _publish_one(store, prefix + key, body, pause, clock)


def _publish_one(
    store: ObjectStore, key: str, body: bytes, pause: Callable[[float], None], clock: Callable[[], float]
) -> None:
    failure = ""
    until = clock() + PUBLISH_SECONDS
    for seconds in (*_PUBLISH_PAUSES_SECONDS, None):
        try:
            store.put(key, body)
        except StoreError as error:
            failure = str(error)
        try:
            stored = store.get(key)
            if stored is not None and stored.body == body:
                return
            failure = failure or f"{store.url}/{key}: written, but does not read back"
        except StoreError as error:
            failure = str(error)
        if seconds is None or clock() >= until:
            break
        pause(seconds)
    raise StoreError(failure)


def poll_interval_seconds(hosts: int, *, store: ObjectStore) -> float:
    """Seconds to the next poll: clamp(0.3 x hosts, 30, 300) for a remote store, 1 for a directory."""
    remote = getattr(store, "parallel_requests", 1) > 1
    return min(max(0.3 * hosts, 30.0), 300.0) if remote else 1.0


def spread_pause(seconds: float, jitter: float) -> float:
    """``jitter``, -1 to 1, moves a pause by up to 30 %, so that a fleet started at once spreads out."""
    return seconds * (1 + 0.3 * min(max(jitter, -1.0), 1.0))


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
