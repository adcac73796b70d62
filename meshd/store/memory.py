"""A store in memory that lies on request, in each way that Garage, or whoever owns the bucket, can.

``MemoryStore()`` behaves. ``store.faults`` is edited like data; ``store.reader()`` is another
reader's view of the same objects with faults of its own, so that two hosts can be shown two
different registries. Nothing here waits or draws random numbers: the same faults give the
same answers every time.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from meshd.errors import StoreError, UnfinishedListingError, UnusableObjectError
from meshd.store.base import MAX_OBJECT_BYTES, ObjectInfo, StoredObject
from meshd.store.key import check_body, check_key, check_prefix, is_key

# Enough past to roll a key back; a simulation of weeks must not keep every host record.
_HISTORY: Final = 16

_Versions = list[bytes | None]


class Faults(msgspec.Struct, kw_only=True):
    """Switches and countdowns; a countdown of n means the next n calls of that kind.

    ``unreachable``: every call fails at once. ``hang``: every call ends in a time-out.
    ``lost_puts``: answered as done, never written. ``taken_puts``: answered 503, yet written.
    ``refused_puts``: answered 503 and not written. ``old_reads``: GETs that answer with the body
    before the newest. ``frozen_at``: show the store as it was at that ``revision``.
    ``hidden``: keys and prefixes that neither GET nor LIST shows. ``unlisted``: the same, LIST only.
    ``list_limit``: a listing silently ends after so many objects. ``failing_gets``: 503 for these keys.
    ``unusable``: these keys have a header without end. ``listed_at_once``: a listing says after so many
    names that there is more.
    """

    unreachable: bool = False
    hang: bool = False
    lost_puts: int = 0
    taken_puts: int = 0
    refused_puts: int = 0
    old_reads: int = 0
    frozen_at: int | None = None
    hidden: set[str] = msgspec.field(default_factory=set)
    unlisted: set[str] = msgspec.field(default_factory=set)
    list_limit: int | None = None
    failing_gets: set[str] = msgspec.field(default_factory=set)
    unusable: set[str] = msgspec.field(default_factory=set)
    listed_at_once: int | None = None


class _Bucket(msgspec.Struct):
    """Per key the last revisions, oldest first; a body of None is a deletion."""

    history: dict[str, list[tuple[int, bytes | None]]] = msgspec.field(default_factory=dict)
    revision: int = 0
    lock: threading.Lock = msgspec.field(default_factory=threading.Lock)


class MemoryStore:
    """Objects in this process, safe to use from threads. ``calls`` counts requests by kind."""

    parallel_requests = 1

    def __init__(self, *, name: str = "store", _bucket: _Bucket | None = None) -> None:
        self._url = f"memory:{name}"
        self._bucket = _bucket or _Bucket()
        self.faults = Faults()
        self.calls: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return self._url

    @property
    def revision(self) -> int:
        """How many writes and deletions there were: a value for ``Faults.frozen_at``."""
        return self._bucket.revision

    def reader(self) -> MemoryStore:
        """The same objects as another reader may be shown them, with faults of its own."""
        return MemoryStore(name=self._url.removeprefix("memory:"), _bucket=self._bucket)

    def get(self, key: str) -> StoredObject | None:
        check_key(key, self._url)
        with self._bucket.lock:
            self._begin("get", key)
            if key in self.faults.failing_gets:
                raise self._unavailable("GET", key)
            if key in self.faults.unusable:
                raise UnusableObjectError(f"{self._url}/{key}: a header over 65536 bytes")
            bodies = self._visible(key)
            old = self.faults.old_reads > 0 and len(bodies) > 1
            if old:
                self.faults.old_reads -= 1
        body = bodies[-2 if old else -1] if bodies else None
        if body is None or _matches(key, self.faults.hidden):
            return None
        if len(body) > MAX_OBJECT_BYTES:
            raise UnusableObjectError(
                f"{self._url}/{key}: over {MAX_OBJECT_BYTES} bytes seen, an object is smaller"
            )
        return StoredObject(key=key, etag=_etag(body), body=body)

    def put(self, key: str, body: bytes) -> None:
        check_key(key, self._url)
        check_body(key, body, self._url)
        with self._bucket.lock:
            self._begin("put", key)
            if self.faults.lost_puts > 0:
                self.faults.lost_puts -= 1
                return
            if self.faults.refused_puts > 0:
                self.faults.refused_puts -= 1
                raise self._unavailable("PUT", key)
            self._record(key, body)
            if self.faults.taken_puts > 0:
                self.faults.taken_puts -= 1
                raise self._unavailable("PUT", key)

    def plant(self, key: str, body: bytes) -> None:
        """Put as somebody else with access to the bucket: no faults, no limit of size, no count."""
        with self._bucket.lock:
            self._record(key, body)

    def delete(self, key: str) -> None:
        check_key(key, self._url)
        with self._bucket.lock:
            self._begin("delete", key)
            if key in self._bucket.history:
                self._record(key, None)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix, self._url)
        withheld = self.faults.hidden | self.faults.unlisted
        infos: list[ObjectInfo] = []
        with self._bucket.lock:
            self._begin("list", prefix)
            for key in sorted(self._bucket.history):
                if not key.startswith(prefix) or key <= start_after or _matches(key, withheld):
                    continue
                bodies = self._visible(key)
                if bodies and (body := bodies[-1]) is not None:
                    infos.append(ObjectInfo(key=key, etag=_etag(body), size_bytes=len(body)))
        return self._pages(prefix, infos[: self.faults.list_limit])

    def close(self) -> None:
        self.calls.clear()

    def _pages(self, prefix: str, infos: Sequence[ObjectInfo]) -> Iterator[ObjectInfo]:
        at_once = self.faults.listed_at_once or len(infos)
        yield from (info for info in infos[:at_once] if is_key(info.key))
        if len(infos) > at_once:
            raise UnfinishedListingError(
                f"{self._url}/{prefix}: more than {at_once} names", infos[at_once - 1].key
            )

    def _begin(self, kind: str, key: str) -> None:
        self.calls[kind] += 1
        if self.faults.unreachable:
            raise StoreError(f"{self._url}: {kind} {key}: connection refused")
        if self.faults.hang:
            raise StoreError(f"{self._url}: {kind} {key}: no answer within the time-out")

    def _record(self, key: str, body: bytes | None) -> None:
        self._bucket.revision += 1
        versions = self._bucket.history.setdefault(key, [])
        versions.append((self._bucket.revision, body))
        del versions[:-_HISTORY]

    def _visible(self, key: str) -> _Versions:
        """The versions of a key that this reader may see, oldest first."""
        limit = self.faults.frozen_at
        versions = self._bucket.history.get(key, [])
        return [body for revision, body in versions if limit is None or revision <= limit]

    def _unavailable(self, method: str, key: str) -> StoreError:
        return StoreError(f"{method} {self._url}/{key}: 503 ServiceUnavailable")


def _matches(key: str, prefixes: set[str]) -> bool:
    return any(key == prefix or key.startswith(prefix) for prefix in prefixes)


def _etag(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
