"""One round with one store: what it costs is bounded, and what it learned before a bound was met is kept.

Three things are told apart. The store does not answer (StoreError, the round is over). One object cannot be
used (noted, and passed over). There is more than one round takes (noted, and the next round goes on).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Final

import msgspec
from msgspec.structs import replace

from meshd.errors import StoreError, UnfinishedListingError, UnusableObjectError
from meshd.registry.envelope import MAX_ENVELOPE_BYTES
from meshd.registry.layout import HOST_PREFIX, ROOT_PREFIX, mesh_prefix
from meshd.registry.ledger import Admission, Ledger
from meshd.registry.poll_memory import PollMemory, basis_of
from meshd.registry.root_case import judge_root
from meshd.registry.root_payload import RootPayload
from meshd.store.base import MAX_OBJECT_BYTES, ObjectInfo, ObjectStore

_PAGE_KEYS: Final = 1000
_BATCH: Final = 48

WhileBlocked = Callable[[], AbstractContextManager[object]]
Share = Callable[[], tuple[int, int]]
_Answer = tuple[str, bytes] | StoreError | None


class PollLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one round may cost. ``listed_keys`` bounds each listing beyond what the mesh may have."""

    fetched_bytes: int = 32 * 1024 * 1024
    fetched_objects: int = 40_000
    listed_keys: int = 40_000
    root_objects: int = 4_000
    seconds: float = 120.0


class RoundOverError(Exception):
    """The round has taken its time; nothing is wrong with the store."""


class Round:
    """Lists, fetches and offers, within ``limits``. ``thorough``: what was refused is fetched again."""

    def __init__(
        self,
        store: ObjectStore,
        ledger: Ledger,
        *,
        memory: PollMemory,
        limits: PollLimits,
        while_blocked: WhileBlocked,
        thorough: bool,
    ) -> None:
        self.ledger = ledger
        self.memory = memory
        self.limits = limits
        self.thorough = thorough
        self._store = store
        self._while_blocked = while_blocked
        self._prefix = mesh_prefix(ledger.mesh_id)
        self._deadline = time.monotonic() + limits.seconds
        self.fetched_objects = 0
        self.fetched_bytes = 0
        self.requests = 0
        self.new: list[str] = []
        self.refused: list[Admission] = []
        self.pending: list[str] = []
        self.unusable: list[tuple[str, str]] = []
        self.remaining: list[str] = []
        self._payload = RootPayload()
        self.missed = ""
        """Why a root or statement could not be had that the store may have; empty when all were."""

    def left(self, parts: int) -> tuple[int, int]:
        """An equal part of the bytes and objects that this round may still fetch."""
        left_bytes = max(self.limits.fetched_bytes - self.fetched_bytes, 0)
        left_objects = max(self.limits.fetched_objects - self.fetched_objects, 0)
        return left_bytes // parts, left_objects // parts

    def until(self, parts: int, of_it: float = 1.0) -> Share:
        """What is left of such a part, or of so much ``of_it``, however many calls of ``fetch`` share it."""
        some_bytes, some_objects = (int(each * of_it) for each in self.left(parts))
        bytes_end, objects_end = self.fetched_bytes + some_bytes, self.fetched_objects + some_objects
        return lambda: (max(bytes_end - self.fetched_bytes, 0), max(objects_end - self.fetched_objects, 0))

    def names(self, prefix: str, start_after: str, limit: int) -> tuple[list[ObjectInfo], str]:
        """Infos with keys relative to the mesh, and the name to go on after; empty when that is all."""
        infos: list[ObjectInfo] = []
        with self._while_blocked():
            after = self._collect(infos, prefix, start_after, limit)
        return infos, after

    def fetch(self, infos: Sequence[ObjectInfo], share: tuple[int, int]) -> bool:
        """Get and offer those that may bring something, in order; False: the share did not suffice."""
        wanted = [info for info in infos if self._is_wanted(info)]
        if not wanted:
            return True
        bytes_end, objects_end = self.fetched_bytes + share[0], self.fetched_objects + share[1]
        workers = min(getattr(self._store, "parallel_requests", 1), len(wanted))
        batch = _BATCH if workers > 1 else 1
        with ThreadPoolExecutor(max(workers, 1), thread_name_prefix="store") as pool:
            for start in range(0, len(wanted), batch):
                if self.fetched_bytes >= bytes_end or self.fetched_objects >= objects_end:
                    return False
                part = wanted[start : start + batch]
                with self._while_blocked():
                    answers = (
                        [self._get(part[0].key)] if workers <= 1 else list(pool.map(self._get_info, part))
                    )
                self._take(list(zip(part, answers, strict=True)))
        return True

    def fetch_root(
        self, payload: ObjectInfo | None, signatures: Sequence[ObjectInfo], share: tuple[int, int]
    ) -> bool:
        """As ``fetch``, of one root that a key in force may have signed.

        The payload comes first, as signatures are judged by it, and again with each new one: it may have
        been forgotten while it waited.
        """
        fresh = [info for info in signatures if self._is_wanted(info)]
        if payload is None or not fresh:
            return True
        return self.fetch([replace(payload, etag=""), *fresh], share)

    def ask(self, key: str) -> bool:
        """Get and offer one object by its name, listed or not; False when there is none to be had."""
        with self._while_blocked():
            answer = self._get(key)
        self._take([(ObjectInfo(key=key, etag="", size_bytes=0), answer)])
        return isinstance(answer, tuple)

    def note_remaining(self, text: str, *, authority: bool = True) -> None:
        """More than this round takes; ``authority``: of roots or statements."""
        line = f"{self._store.url}: {text}"
        self.remaining.append(line)
        if authority:
            self.missed = self.missed or line

    def check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise RoundOverError(f"a round over {self.limits.seconds:g} s long, the rest is for the next one")

    def _collect(self, infos: list[ObjectInfo], prefix: str, start_after: str, limit: int) -> str:
        self.check_time()
        self.requests += 1
        listing = self._store.list(
            self._prefix + prefix, start_after=self._prefix + start_after if start_after else ""
        )
        try:
            for info in listing:
                key = info.key.removeprefix(self._prefix)
                if len(infos) == limit:
                    return infos[-1].key
                infos.append(ObjectInfo(key=key, etag=info.etag, size_bytes=info.size_bytes))
                if len(infos) % _PAGE_KEYS == 1 and len(infos) > 1:
                    self.requests += 1
                    self.check_time()
        except UnfinishedListingError as cut:
            return cut.after.removeprefix(self._prefix)
        return ""

    def _is_wanted(self, info: ObjectInfo) -> bool:
        seen = self.memory.recall(info.key)
        held = self.ledger.body(info.key) if seen is None else None
        if held is not None and info.etag == _md5(held):
            # All our stores' ETags are MD5s. Who forges one hides an object, as any store can anyhow.
            self.memory.remember(info.key, info.etag, held, None)
            return False
        if seen is not None and info.etag and seen.etag == info.etag:
            if seen.basis is None:
                # A record that was taken may have gone since, for want of room.
                return info.key.startswith(HOST_PREFIX) and self.ledger.body(info.key) is None
            return self.thorough or seen.basis != basis_of(self.ledger, info.key)
        limit = MAX_OBJECT_BYTES if info.key.startswith(ROOT_PREFIX) else MAX_ENVELOPE_BYTES
        if info.size_bytes > limit:
            reason = f"{info.size_bytes} bytes seen, at most {limit} expected"
            self.refused.append(Admission(outcome="refused", key=info.key, reason=reason))
            self.unusable.append((info.key, reason))
            return False
        return True

    def _get_info(self, info: ObjectInfo) -> _Answer:
        return self._get(info.key)

    def _get(self, key: str) -> _Answer:
        try:
            stored = self._store.get(self._prefix + key)
        except StoreError as error:
            return error
        return None if stored is None else (stored.etag, stored.body)

    def _take(self, answers: Sequence[tuple[ObjectInfo, _Answer]]) -> None:
        """Offer what came. A batch of which nothing comes, for a reason of the store's, ends the round."""
        self.requests += len(answers)
        self.fetched_objects += len(answers)
        failures: list[StoreError] = []
        for info, answer in answers:
            if isinstance(answer, tuple):
                self._offer(info.key, *answer)
            elif isinstance(answer, StoreError):
                self.unusable.append((info.key, str(answer)))
                if not isinstance(answer, UnusableObjectError):
                    failures.append(answer)
                    self._miss(info.key, answer)
        if len(failures) == len(answers) > 1:
            raise failures[0]
        self.check_time()

    def _miss(self, key: str, failure: StoreError) -> None:
        if not key.startswith(HOST_PREFIX):
            self.missed = self.missed or str(failure)

    def _offer(self, key: str, etag: str, body: bytes) -> None:
        self.fetched_bytes += len(body)
        judged = None
        if (case := self._payload.case(self.ledger, key, body)) is not None:
            with self._while_blocked():
                judged = judge_root(case)
        admission = self.ledger.offer(key, body, judged=judged)
        self._payload.note(key, body, admission.outcome)
        match admission.outcome:
            case "new":
                self.new.append(key)
            case "refused":
                self.refused.append(admission)
            case "pending":
                self.pending.append(key)
        # What waits may be forgotten by the ledger before its other half comes: it is fetched again, too.
        settled = admission.outcome not in ("refused", "pending")
        self.memory.remember(key, etag, body, None if settled else basis_of(self.ledger, key))


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
