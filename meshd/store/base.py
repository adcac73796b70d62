"""Objects by key, and what a store promises: next to nothing.

The store is not trusted and not consistent. A reader may see an older body after a newer
one, a PUT that failed may take effect later, a listing may be short, and anything may be
deleted by whoever owns the bucket. So absence, deletion or an older body prove nothing;
only signed contents do, and what a reader knows is the union of what it has verified.
Garage has no compare-and-swap (If-None-Match on PUT is ignored): every key has one writer
or is named by its content.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

import msgspec

MAX_OBJECT_BYTES: Final = 65536


class ObjectInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a listing. ``etag`` changes whenever the body does; its form is the store's own."""

    key: str
    etag: str
    size_bytes: int


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    etag: str
    body: bytes


class ObjectStore(Protocol):
    """Blocking; every call ends within the store's time-outs or raises StoreError.

    Keys are relative slash-separated ASCII paths without empty, ``.`` or ``..`` parts;
    anything else is a StoreError before any I/O.
    """

    @property
    def url(self) -> str:
        """Where this is, without credentials: for messages and metrics."""

    def get(self, key: str) -> StoredObject | None:
        """The object, or None when the store says there is none.

        UnusableObjectError when the store answers but this one object cannot be used: a body over 64 KiB,
        a header without end, a file that may not be read. It says nothing about any other object.
        """

    def put(self, key: str, body: bytes) -> None:
        """Write or overwrite, whole or not at all. A StoreError does not mean it was not written."""

    def delete(self, key: str) -> None:
        """Remove; a missing key is no error."""

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        """Every object whose key starts with ``prefix`` and sorts after ``start_after``, in key order.

        Names that are no keys are passed over, whoever made them; ``start_after`` may be such a name.
        UnfinishedListingError, after what was listed, when there is more than one listing takes.
        """

    def close(self) -> None: ...
