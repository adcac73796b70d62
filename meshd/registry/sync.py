"""Fetch what a store has and the ledger lacks; publish what the ledger has and a store lacks.

The store decides only what is seen, never what is believed: whatever comes is offered to the
ledger, which verifies it, and what does not come changes nothing. ETags and listings are hints
that save requests. Everything is bounded (objects, keys, pages, bytes, seconds), so that a store
without end costs one round after the other, not the daemon; what was learned is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import msgspec

from meshd.errors import StoreError
from meshd.registry.admission import Admission
from meshd.registry.fetching import PollLimits as PollLimits
from meshd.registry.fetching import Round, RoundOverError
from meshd.registry.following import follow_hosts, follow_logs, follow_roots
from meshd.registry.layout import HOST_PREFIX, mesh_prefix
from meshd.registry.ledger import Ledger
from meshd.registry.poll_memory import PollMemory as PollMemory
from meshd.store.base import ObjectStore

THOROUGH_EVERY_POLLS: Final = 20
"""Each so many polls the logs are listed from their start and refused objects fetched again."""

MAX_ROUNDS: Final = 100
"""Of one who asks once and must know everything that there is."""

_PUBLISH_PAUSES_SECONDS: Final = (0.05, 0.2, 0.8)
PUBLISH_SECONDS: Final = 15.0
"""After so long without success no further attempt at an object begins: a store that takes connections
and never answers costs one or two time-outs, and not one for each request of every attempt."""


class PollOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Three things that are not the same, and a fourth that follows from them.

    ``unreachable``: why the store does not answer; empty when it does. ``unusable``: objects that cannot be
    used, with the reason; whoever may write to the store can make as many as he likes. ``remaining``: where
    there is more than one round takes; the next one goes on there. ``missed``: why not all roots and
    statements that the store may have were looked at; empty when they were.

    ``new`` keys changed the ledger in any case. ``requests`` counts pages of listings as one each.
    """

    new: tuple[str, ...]
    refused: tuple[Admission, ...]
    pending: tuple[str, ...]
    requests: int
    fetched_bytes: int
    unreachable: str
    unusable: tuple[tuple[str, str], ...]
    remaining: tuple[str, ...]
    missed: str

    @property
    def complete(self) -> bool:
        """All roots and statements were looked at: what signing depends on, and nothing else does."""
        return not (self.unreachable or self.missed)

    @property
    def error(self) -> str:
        """Why it is not complete, one line; empty when it is."""
        return self.unreachable or self.missed


def poll(
    store: ObjectStore,
    ledger: Ledger,
    *,
    now: float,
    memory: PollMemory,
    limits: PollLimits | None = None,
    while_blocked: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> PollOutcome:
    """One round: roots, then the logs of its admins, then the records of granted hosts.

    ``while_blocked`` is entered around every wait for the store; what it guards may change meanwhile.
    Never raises StoreError: an unreachable store is an outcome.
    """
    memory.polls += 1
    run = Round(
        store,
        ledger,
        memory=memory,
        limits=limits or PollLimits(),
        while_blocked=while_blocked,
        thorough=memory.polls % THOROUGH_EVERY_POLLS == 1,
    )
    unreachable = ""
    try:
        follow_roots(run)
        follow_logs(run)
        follow_hosts(run, now)
    except RoundOverError as over:
        run.note_remaining(str(over))
    except StoreError as error:
        unreachable = str(error)
    return PollOutcome(
        new=tuple(run.new),
        refused=tuple(run.refused),
        pending=tuple(run.pending),
        requests=run.requests,
        fetched_bytes=run.fetched_bytes,
        unreachable=unreachable,
        unusable=tuple(run.unusable),
        remaining=tuple(run.remaining),
        missed=run.missed,
    )


def poll_to_the_end(
    store: ObjectStore,
    ledger: Ledger,
    *,
    now: float,
    limits: PollLimits | None = None,
    while_blocked: Callable[[], AbstractContextManager[object]] = nullcontext,
    clock: Callable[[], float] = time.monotonic,
) -> PollOutcome:
    """Round after round until all roots and statements were looked at, for who asks once -> the last outcome.

    A flood is walked through as long as a round may take; a store that does not answer is asked once.
    """
    memory, until = PollMemory(), clock() + (limits or PollLimits()).seconds
    for _ in range(MAX_ROUNDS):
        outcome = poll(store, ledger, now=now, memory=memory, limits=limits, while_blocked=while_blocked)
        if outcome.complete or outcome.unreachable or not outcome.remaining or clock() > until:
            break
    return outcome


def publish(
    store: ObjectStore,
    objects: Sequence[tuple[str, bytes]],
    *,
    mesh_id: str,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Write each object (keys relative to the mesh) until it reads back equal.

    Roots and statements one after the other, in the order given, so that a reader meets a statement after
    those before it; records, which nobody looks at before their grant is there, beside them where the store
    answers several requests at once, so that a record which is refused keeps no statement back. The bytes
    never change between attempts: a write that failed may still take effect later. StoreError after the
    fourth attempt at one object, or none in PUBLISH_SECONDS; what comes before it in its row is published.
    """
    prefix = mesh_prefix(mesh_id)

    def publish_row(row: Sequence[tuple[str, bytes]]) -> StoreError | None:
        try:
            for key, body in row:
                _publish_one(store, prefix + key, body, pause, clock)
        except StoreError as error:
            return error
        return None

    workers = getattr(store, "parallel_requests", 1)
    rows = _side_by_side(objects) if workers > 1 else [objects]
    if len(rows) < 2:
        failures = [*map(publish_row, rows)]
    else:
        with ThreadPoolExecutor(min(workers, len(rows)), "publish") as pool:
            failures = [*pool.map(publish_row, rows)]
    for failure in filter(None, failures):
        raise failure


def _side_by_side(objects: Sequence[tuple[str, bytes]]) -> list[Sequence[tuple[str, bytes]]]:
    """What is in order in one row, then each record in its own."""
    ordered = [each for each in objects if not each[0].startswith(HOST_PREFIX)]
    records = [[each] for each in objects if each[0].startswith(HOST_PREFIX)]
    return [row for row in (ordered, *records) if row]


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


def poll_interval_seconds(hosts: int, *, store: ObjectStore, are_told: bool = True) -> float:
    """Seconds to the next poll: clamp(0.3 x hosts, 30, 300) for a remote store, clamp(hosts / 3, 1, 5) for a
    directory. At that pace a fleet looks three times a second, and whoever finds something tells the others.

    Args:
        are_told: whether hosts tell each other; where they do not, each looks at a directory every second.
    """
    if getattr(store, "parallel_requests", 1) > 1:
        return min(max(0.3 * hosts, 30.0), 300.0)
    return min(max(hosts / 3, 1.0), 5.0) if are_told else 1.0


def spread_pause(seconds: float, jitter: float) -> float:
    """``jitter``, -1 to 1, moves a pause by up to 30 %, so that a fleet started at once spreads out."""
    return seconds * (1 + 0.3 * min(max(jitter, -1.0), 1.0))
