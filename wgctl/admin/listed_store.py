"""A store whose folders are listed all at once: an answer from another continent takes its time for each."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final

import msgspec

from meshd.errors import StoreError
from meshd.registry.ledger import Ledger
from meshd.registry.sync import PollOutcome, poll_to_the_end
from meshd.store.base import ObjectInfo, ObjectStore, StoredObject

FIRST_NAMES: Final = 1000
"""As many as one page of S3 holds. What follows is listed when somebody asks for it."""


class _Begun(msgspec.Struct, frozen=True, kw_only=True):
    """The first names of a folder. ``failure``: why there are no more; ``is_whole``: there are no more."""

    infos: tuple[ObjectInfo, ...]
    is_whole: bool
    failure: StoreError | None = None


class ListedStore:
    """A store as it was a moment ago, as far as first names of its folders go: each is listed once.

    All else is asked of the store itself, and so is everything after those names.
    """

    def __init__(self, store: ObjectStore, begun: dict[str, Future[_Begun]]) -> None:
        self._store = store
        self._begun = begun
        self.parallel_requests: int = getattr(store, "parallel_requests", 1)

    @property
    def url(self) -> str:
        return self._store.url

    def get(self, key: str) -> StoredObject | None:
        return self._store.get(key)

    def put(self, key: str, body: bytes) -> None:
        self._store.put(key, body)

    def delete(self, key: str) -> None:
        self._store.delete(key)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        if prefix not in self._begun:
            return self._store.list(prefix, start_after=start_after)
        return self._go_on(prefix, start_after)

    def close(self) -> None:
        self._store.close()

    def _go_on(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        begun = self._begun[prefix].result()
        yield from (info for info in begun.infos if info.key > start_after)
        if begun.failure is not None:
            raise begun.failure
        if not begun.is_whole:
            yield from self._store.list(prefix, start_after=max(start_after, begun.infos[-1].key))


@contextlib.contextmanager
def listed(stores: Sequence[ObjectStore], prefixes: Sequence[str]) -> Iterator[list[ObjectStore]]:
    """Begin to list the folders ``prefixes`` of every store that answers several requests at once."""
    with contextlib.ExitStack() as stack:
        found: list[ObjectStore] = []
        for store in stores:
            workers = min(getattr(store, "parallel_requests", 1), len(prefixes))
            if workers < 2:
                found.append(store)
                continue
            pool = ThreadPoolExecutor(workers, thread_name_prefix="listing")
            stack.callback(pool.shutdown, cancel_futures=True)
            begun = {prefix: pool.submit(_begin, store, prefix) for prefix in prefixes}
            found.append(ListedStore(store, begun))
        yield found


def _begin(store: ObjectStore, prefix: str) -> _Begun:
    infos: list[ObjectInfo] = []
    try:
        for info in islice(store.list(prefix), FIRST_NAMES):
            infos.append(info)
    except StoreError as error:
        return _Begun(infos=tuple(infos), is_whole=False, failure=error)
    return _Begun(infos=tuple(infos), is_whole=len(infos) < FIRST_NAMES)


def poll_all(
    stores: Sequence[ObjectStore], ledger: Ledger, lock: threading.Lock, *, now: float
) -> list[PollOutcome]:
    """All stores at once, so that those which never answer cost one time-out together.

    One thread at a time has the ledger, by ``lock``; it is free while a store is waited for.
    """

    @contextlib.contextmanager
    def while_blocked() -> Iterator[None]:
        lock.release()
        try:
            yield
        finally:
            lock.acquire()

    def ask(store: ObjectStore) -> PollOutcome:
        with lock:
            return poll_to_the_end(store, ledger, now=now, while_blocked=while_blocked)

    if not stores:
        return []
    with ThreadPoolExecutor(len(stores)) as pool:
        return list(pool.map(ask, stores))
