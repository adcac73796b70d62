"""Which keys are keys and which bodies are objects. Every store checks them here, before any I/O.

Stricter than object stores are. A part never begins with a dot: temporary files, hidden files of tools
that sync folders, ``.`` and ``..`` can never be mistaken for objects. Every key is a file name on every
file system and needs no escaping in a URL.
"""

from __future__ import annotations

import re
from typing import Final

from meshd.errors import StoreError
from meshd.store.base import MAX_OBJECT_BYTES

MAX_KEY_LENGTH: Final = 512

_PART: Final = re.compile(r"[A-Za-z0-9_=@+-][A-Za-z0-9._=@+-]{0,199}")


def is_key_part(text: str) -> bool:
    """True for what may stand between two slashes of a key."""
    return _PART.fullmatch(text) is not None


def is_key(text: str) -> bool:
    return len(text) <= MAX_KEY_LENGTH and all(is_key_part(part) for part in text.split("/"))


def check_key(key: str, url: str) -> None:
    """StoreError unless ``key`` is one; ``url`` names the store in the message."""
    if not is_key(key):
        raise StoreError(
            f"{url}: key {key[:80]!r} seen, slash-separated parts of letters, digits and ._=@+- expected"
        )


def check_prefix(prefix: str, url: str) -> None:
    """StoreError unless some key can start with ``prefix``; empty, or cut inside a part, is fine."""
    *parents, last = prefix.split("/")
    if not all(is_key_part(part) for part in parents) or not (last == "" or is_key_part(last)):
        raise StoreError(f"{url}: prefix {prefix[:80]!r} seen, the beginning of a key expected")


def check_body(key: str, body: bytes, url: str) -> None:
    """StoreError when ``body`` is larger than any object may be."""
    if len(body) > MAX_OBJECT_BYTES:
        raise StoreError(f"{url}/{key}: {len(body)} bytes seen, at most {MAX_OBJECT_BYTES} expected")
