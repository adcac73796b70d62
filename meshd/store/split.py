"""One registry in two stores: roots and logs apart from what hosts write.

An access key of Garage may read or write a whole bucket, never a part of one. So what hosts
must not touch (root documents, administrators' logs) lives in a bucket that their keys can
only read, and what they write (their records) in another one. Which of the two is asked
follows from the key alone: what a host puts under the name of a log into the bucket that it
may write to is never looked at.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

from meshd.store.base import ObjectInfo, ObjectStore, StoredObject

ADMIN_KINDS: Final = frozenset({"root", "log"})
"""Third part of the keys ``v1/<mesh id>/<kind>/...`` that only administrators write."""

_KIND_PART: Final = 2


class SplitStore:
    """Keys of ``ADMIN_KINDS`` go to ``logs``, all others to ``records``. Owns both."""

    def __init__(self, *, records: ObjectStore, logs: ObjectStore, url: str) -> None:
        self._records = records
        self._logs = logs
        self._url = url
        self.parallel_requests: int = getattr(records, "parallel_requests", 1)

    @property
    def url(self) -> str:
        return self._url

    def get(self, key: str) -> StoredObject | None:
        return self._store_of(key).get(key)

    def put(self, key: str, body: bytes) -> None:
        self._store_of(key).put(key, body)

    def delete(self, key: str) -> None:
        self._store_of(key).delete(key)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        parts = prefix.split("/")
        if len(parts) > _KIND_PART + 1:
            return self._own_keys(self._store_of(prefix), prefix, start_after)
        # The prefix ends within or before the kind: both stores may have keys that begin so.
        both = [self._own_keys(store, prefix, start_after) for store in (self._records, self._logs)]
        return heapq.merge(*both, key=lambda info: info.key)

    def close(self) -> None:
        self._records.close()
        self._logs.close()

    def _store_of(self, key: str) -> ObjectStore:
        parts = key.split("/")
        is_admin = len(parts) > _KIND_PART + 1 and parts[_KIND_PART] in ADMIN_KINDS
        return self._logs if is_admin else self._records

    def _own_keys(self, store: ObjectStore, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        listing = store.list(prefix, start_after=start_after)
        return (info for info in listing if self._store_of(info.key) is store)
